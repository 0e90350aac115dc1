"""A plain hook that blocks: in a thread of its source until it has proved quick, and named by whoever watches."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.api.errors import PluginError, TransientError
from gateway.plugin import hook_runner as module
from gateway.plugin import hook_watch
from gateway.plugin.crash_record import MAX_CRASHES, Call, CrashRecord
from gateway.plugin.hook_runner import TRIALS, HookRunner
from gateway.plugin.hook_watch import HookWatch
from gateway.plugin.task_guard import inside_hook, make_task, stepped
from tests import acme
from tests.log_lines import log_lines


@pytest.fixture
def hook_runner() -> Iterator[HookRunner]:
    made = HookRunner()
    yield made
    made.close()


async def where(hook_runner: HookRunner, kind: str = "x") -> bool:
    """Whether a call runs on the loop."""
    return await hook_runner.run(kind, threading.get_ident) == threading.get_ident()


async def test_a_kind_that_proves_quick_runs_on_the_loop(hook_runner: HookRunner) -> None:
    assert [await where(hook_runner) for _ in range(TRIALS + 2)] == [False] * TRIALS + [True, True]
    assert not await where(hook_runner, "another kind")


async def test_a_kind_that_was_slow_once_stays_beside_the_loop(hook_runner: HookRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOON_S", 0.01)
    for _ in range(TRIALS):
        await where(hook_runner)
    await hook_runner.run("x", lambda: time.sleep(0.02))  # on the loop, this once
    assert [await where(hook_runner) for _ in range(2 * TRIALS)] == [False] * 2 * TRIALS


async def test_the_loop_goes_on_while_a_hook_sleeps_and_one_runs_at_a_time(hook_runner: HookRunner) -> None:
    running, most = 0, 0

    def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1

    calls = [asyncio.create_task(hook_runner.run(kind, slow)) for kind in ("a", "b", "a")]
    turns = 0
    while not all(call.done() for call in calls):
        turns += 1
        await asyncio.sleep(0.005)
    assert most == 1
    assert turns > 10


async def test_what_a_call_raises_is_its_answer(hook_runner: HookRunner) -> None:
    def raising() -> None:
        raise ValueError("x")

    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            await hook_runner.run("x", raising)
    assert await hook_runner.run("x", lambda: 7) == 7


async def _awaited(call: Any) -> Any:
    return await call


async def test_one_that_does_not_come_back_is_left_behind_and_those_after_it_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    crash_record, free = CrashRecord(), threading.Event()
    hook_runner = HookRunner(crash_record)

    def stuck(body: bytes) -> None:
        before = crash_record.enter("bad", "normalize", body)
        free.wait()
        crash_record.leave(before)

    for _ in range(MAX_CRASHES):
        monkeypatch.setattr(module, "PATIENCE_S", 0.05)
        with pytest.raises(TransientError, match="did not return within"):
            await hook_runner.run("x", lambda: stuck(b"order"))
        monkeypatch.setattr(module, "PATIENCE_S", 5)
        assert await hook_runner.run("x", lambda: 7) == 7
    with pytest.raises(PluginError, match="or never returned"):
        await hook_runner.run("x", lambda: stuck(b"order"))
    free.set()
    await hook_runner.run("x", lambda: stuck(b"another order"))
    with pytest.raises(PluginError):  # one that comes back at last has still held up its source three times
        await hook_runner.run("x", lambda: stuck(b"order"))
    hook_runner.close()


async def test_after_too_many_that_never_came_back_it_says_so_at_once(hook_runner: HookRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.02)
    free = threading.Event()
    for _ in range(module.MOST_LEFT_BEHIND):
        with pytest.raises(TransientError, match="did not return within"):
            await hook_runner.run("x", free.wait)
    with pytest.raises(TransientError, match="8 calls of the connector never returned; restart"):
        await hook_runner.run("x", lambda: 7)
    left_behind = list(hook_runner._left_behind)
    free.set()
    for thread in left_behind:
        thread.join(timeout=5)
    monkeypatch.setattr(module, "PATIENCE_S", 5)
    assert await hook_runner.run("x", lambda: 7) == 7  # they came back at last


async def test_a_hook_that_sleeps_delays_no_other_source(start, erp) -> None:
    running = await start(erp.url, more='[sources.other]\nconnector = "pharma"\ndoors = ["poll"]\n')
    acme.faults["ingest"] = lambda: time.sleep(1.0)
    slow = asyncio.create_task(running.deliver(acme.body("o1")))
    began, turns = time.monotonic(), 0
    while not slow.done():
        assert (await running.get("/healthz"))[0] == 200
        turns += 1
    assert turns > 5
    assert time.monotonic() - began >= 1.0
    assert (await slow)[0] == 200


async def test_a_webhook_whose_hook_does_not_come_back_is_503(start, erp, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start(erp.url)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    free = threading.Event()
    acme.faults["ingest"] = free.wait
    assert (await running.deliver(acme.body("o1")))[0] == 503
    free.set()
    acme.faults.clear()
    await running.until(lambda: _is_stored(running), 10)


async def _is_stored(running: Any) -> bool:
    return (await running.deliver(acme.body("o2")))[0] == 200


# --- steps


class Noted:
    """Notes of the steps of one call."""

    def __init__(self) -> None:
        self.inside = 0
        self.steps = 0

    def enter(self) -> None:
        self.inside += 1
        self.steps += 1

    def leave(self, before: Any) -> None:
        self.inside -= 1


async def test_only_the_steps_of_an_async_hook_are_noted_and_its_value_its_error_and_a_cancellation_pass() -> None:
    noted = Noted()

    async def hook() -> str:
        assert noted.inside == 1
        await asyncio.sleep(0.01)
        assert noted.inside == 1
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            assert noted.inside == 1
            return "cut"
        raise AssertionError

    task = asyncio.create_task(_awaited(stepped(hook(), noted)))
    await asyncio.sleep(0.03)
    assert (noted.inside, noted.steps) == (0, 2)
    task.cancel()
    assert await task == "cut"
    assert (noted.inside, noted.steps) == (0, 3)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise OSError(5)

    with pytest.raises(OSError, match="5"):
        await stepped(failing(), noted)
    assert noted.inside == 0


async def test_the_tasks_of_a_hook_are_noted_as_well() -> None:
    noted, loop = Noted(), asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    try:

        async def part() -> int:
            return noted.inside

        with inside_hook(noted):
            assert await asyncio.gather(part(), part()) == [1, 1]
        assert await asyncio.create_task(part()) == 0
    finally:
        loop.set_task_factory(None)


# --- the watch


def watched(told: Callable[..., None]) -> tuple[CrashRecord, HookWatch]:
    crash_record = CrashRecord()
    watch = HookWatch(crash_record, told)
    watch.start()
    return crash_record, watch


async def test_a_hook_that_holds_the_loop_is_named_while_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_watch, "LONG_S", 0.05)
    monkeypatch.setattr(hook_watch, "_LOOK_S", 0.01)
    told: list[tuple[Any, ...]] = []
    crash_record, watch = watched(lambda *said: told.append(said))
    with log_lines() as lines:
        before = Call(crash_record, "bad", "poll", "").enter()
        time.sleep(0.3)
        logged = [line for line in lines if '"hook.blocks"' in line]  # before the loop runs again
        crash_record.leave(before)
    await asyncio.sleep(0.05)
    watch.stop()
    assert len(logged) == 1
    assert all(said in logged[0] for said in ('"source":"bad"', '"hook":"poll"', '"on_loop":true'))
    assert told
    assert told[-1][:2] == ("bad", "poll")
    assert told[-1][2] > 0.05
    assert told[-1][3] is True


async def test_a_quick_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_watch, "_LOOK_S", 0.01)
    told: list[Any] = []
    crash_record, watch = watched(lambda *said: told.append(said))
    for _ in range(20):
        crash_record.leave(crash_record.enter("good", "ingest"))
        await asyncio.sleep(0.005)
    watch.stop()
    assert told == []


async def test_readyz_and_status_show_it_for_some_minutes(start, erp) -> None:
    running = await start(erp.url)
    metrics = running.gateway._metrics
    metrics.health.slow_hook("acme", "poll", 5.2, True)
    status, said = await running.get("/readyz")
    reason = "its hook poll did not return for 5 s; everything else waited for it"
    assert (status, said["reasons"]) == (503, [{"source": "acme", "hook": "poll", "reason": reason}])
    assert 'gateway_slow_hooks_total{hook="poll",source="acme"} 1.0' in (await running.get("/metrics"))[1]
    status, said = await running.get("/api/status")
    assert (status, said["reasons"]) == (200, [{"source": "acme", "hook": "poll", "reason": reason}])
    status, page = await running.get("/")
    assert status == 200
    assert "Source acme, hook poll" in " ".join(page.split())
    assert (await running.get("/api/inbox"))[0] == 200
    (key, (at, *rest)) = next(iter(metrics.health._slow_hooks.items()))
    metrics.health._slow_hooks[key] = (at.replace(year=at.year - 1), *rest)
    assert (await running.get("/readyz"))[0] == 200


async def test_a_source_that_is_gone_leaves_no_thread_behind() -> None:
    for _ in range(5):
        hook_runner = HookRunner()
        assert await hook_runner.run("read", lambda: 1) == 1
    thread = hook_runner._thread
    del hook_runner
    gc.collect()
    assert thread is not None
    thread.join(timeout=5)
    assert not thread.is_alive()
