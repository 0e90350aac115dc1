"""Another program has the database at the worst moment: whatever the gateway asks of its store just then, it asks again, and goes on."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from gateway.api.errors import PermanentError, StoreBusy
from gateway.edge.poller import Poller
from gateway.service import runtime
from gateway.store.sqlite import SqliteStore
from tests import acme

# Asked by somebody who hears of it: a door answers 503 and the sender comes again, a command fails and says so.
ASKED = {"replay", "release", "drop", "resend", "finish_restore", "note", "confirm_clock", "verdict", "reject"}
ASKED |= {"pause_target", "release_target", "move_target"}
COMMANDS = {"accept_submission", "submission", "submission_ended", "lease_submissions", "start_submission", "settle_submission"}
# Of a start and an end, which have tests of their own, and what asks nothing of the file.
OTHER = {"open", "close", "run_outside_transaction", "wait"}
LOOPS = sorted(
    name
    for name, method in inspect.getmembers(SqliteStore, inspect.iscoroutinefunction)
    if not name.startswith("_") and name not in ASKED | COMMANDS | OTHER
)
# What needs something peculiar to be asked at all in a life like this one: a fetched document, a replay, an ERP of several requests.
RARE = {"reaccept", "keep_document", "compare", "start_request", "record_progress", "claimant", "open_orders", "newest_message", "commits"}
RARE |= {"release_leases"}  # a lane that failed, or an attempt that was cut short


class Busy:
    """A store each of whose methods is busy the first times it is asked from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
        self.left = 0
        self.asked: Counter[str] = Counter()
        self._times = times
        monkeypatch.setattr(SqliteStore, name, self._busy(name, getattr(SqliteStore, name)))

    def arm(self) -> None:
        self.left = self._times

    def _busy(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def method(store: SqliteStore, *arguments: Any, **more: Any) -> Any:
            self.asked[name] += 1
            if self.left > 0:
                self.left -= 1
                raise StoreBusy("another process writes to the database file", retry_after_s=0.01)
            return await real(store, *arguments, **more)

        return method


async def a_life(running: Any, erp: Any, busy: Busy) -> None:
    """Orders come by webhook and by poll, one is tried again, one is revised; the clock jumps; the configuration is read anew."""
    gateway, upkeep = running.gateway, running.gateway._maintenance
    busy.arm()
    erp.arm("status", status=500, times=2)
    while (await running.deliver(acme.body("poison")))[0] != 200:
        await asyncio.sleep(0.01)
    await running.until(lambda: is_dead(running))
    for n in range(3):
        while (await running.deliver(acme.body(f"o{n}")))[0] != 200:
            await asyncio.sleep(0.01)
    upkeep._jumped_ms, upkeep._jumped = 10_000, True
    upkeep._retention._next = upkeep._retention._next_walk = 0.0
    gateway._runtime.deliver["erp"]._spawn(gateway._runtime.deliver["erp"]._retry_waiting(), "retry soon")
    await running.until(lambda: delivered(erp))
    while (await running.deliver(acme.body("o0", 5)))[0] != 200:
        await asyncio.sleep(0.01)
    gateway._reloads.ask()
    upkeep._retention._next = upkeep._retention._next_walk = 0.0
    await running.until(lambda: idle(gateway), 15)


def fails_once() -> Callable[[], None]:
    """What makes one row end as a dead letter, without which nothing is settled by itself."""
    left = [1]

    def normalize() -> None:
        if left[0]:
            left[0] = 0
            raise PermanentError("it makes no sense")

    return normalize


async def confirms(receipts: Any) -> list[int]:
    return [receipt.id for receipt in receipts]


async def delivered(erp: Any) -> bool:
    return {f"acme/o{n}/1" for n in range(3)} <= set(erp.orders)


async def is_dead(running: Any) -> bool:
    return bool(await running.rows("inbox", status="dead"))


async def idle(gateway: Any) -> bool:
    """The reload is done, the clock is followed, and housekeeping has walked."""
    done = gateway._reloads._task is not None and gateway._reloads._task.done() and not gateway._reloads._asked
    upkeep = gateway._maintenance
    return done and not upkeep._jumped and not upkeep._retention.busy and upkeep._retention._next > 0


@pytest.mark.parametrize("name", LOOPS)
async def test_a_busy_store_is_waited_for_wherever_it_is_met(start, erp, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.service.retention._AGAIN_S", 0.01)
    busy = Busy(monkeypatch, name, 2)
    acme.faults["normalize"] = fails_once()
    acme.faults["acknowledge"] = confirms
    running = await start(
        erp.url,
        target="retry = { base_s = 0.01, cap_s = 0.02 }",
        source='on_revision = "send"',
        settings='acknowledge = ["stored"]',
    )
    await a_life(running, erp, busy)
    assert not running.task.done()
    assert busy.asked[name] or name in RARE, "a method that this life does not ask for proves nothing"
    assert await running.stop() == 0


async def test_without_the_net_a_task_that_meets_it_is_the_end(start, erp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad mutant: a loop that does not wait for itself, and nobody who begins it again."""

    async def bare(self: Any, name: str, work: Any) -> None:
        await work()

    async def busy(self: Any) -> None:
        raise StoreBusy("another process writes to the database file")

    monkeypatch.setattr(Poller, "run", busy)
    kept = runtime.Runtime._restarting
    monkeypatch.setattr(runtime.Runtime, "_restarting", bare)
    running = await start(erp.url)
    assert await asyncio.wait_for(running.task, 10) == 1
    monkeypatch.setattr(runtime.Runtime, "_restarting", kept)
    again = await start(erp.url)
    await asyncio.sleep(0)
    assert not again.task.done()
