"""The realtime door: what is pushed is stored, what was missed is polled, and it always comes back."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from gateway import Event, Reconnect, Secret
from gateway.api.errors import PluginError, StoreBusy, StoreError, StoreFailed
from gateway.edge import push_buffer
from gateway.edge.reconnect import Backoff
from gateway.testing.hub import FaultHub, frame, invocation
from tests import hub_connector
from tests.edge import hub_checks
from tests.edge.hub_process import HubProcess
from tests.edge.listening import KEY, Door, fault_hub, listening, missed
from tests.log_lines import log_lines

LONG = Reconnect(base_s=30, factor=2, cap_s=60)

# --- what becomes of what is pushed


async def test_what_is_pushed_is_stored_under_its_canonical_name(tmp_path: Path) -> None:
    seen: list[Any] = []

    def ingest(envelope: Any) -> list[Event]:
        seen.append(envelope)
        return [hub_connector.event(f"o{len(seen)}")]

    hub_connector.faults["ingest"] = ingest
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        before = door.clock.now()
        await hub.write(frame(b'{"type":1,"target":"OrderChange","arguments":[1.10,"\xc3\xa4"]}\x1e' + invocation("Odd\n name", 2)))
        await door.until(lambda: door.counted("stored") == 2)
    assert [one.body for one in seen] == [
        '{"target":"OrderChanged","arguments":[1.10,"ä"]}'.encode(),
        b'{"target":"Odd\\n name","arguments":[2]}',
    ]
    assert {(one.source, one.door, tuple(one.headers)) for one in seen} == {("hubby", "realtime", ())}
    assert before <= seen[0].received_at <= door.clock.now()


async def test_an_unknown_target_is_said_once_and_kept(tmp_path: Path) -> None:
    with log_lines() as lines:
        async with fault_hub() as hub, listening(tmp_path, hub) as door:
            await door.up()
            for n in range(3):
                await hub.send("OrderArticleIStateChange", n)
            await door.until(lambda: door.counted("unreadable") == 3)
            assert {row["status"] for row in await door.rows()} == {"dead"}
    assert len([line for line in lines if "realtime.unknown_target" in line]) == 1


async def test_what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        calls = [("a", 1), ("b",), ("c", 1, 2), (), ("d", 0), ("x" * 201, 1), ("e", 1)]
        await hub.write(frame(b"".join(invocation("OrderChanged", *call) for call in calls)))
        await door.until(lambda: door.counted("stored") == 2 and door.counted("unreadable") == 4)
        rows = await door.rows()
        assert [row["status"] for row in rows] == ["ready", "dead", "dead", "dead", "dead", "dead", "ready"]
        assert (door.counted("rejected"), rows[4]["reason"]) == (1, "rejected by the connector; its reason was for the sender")
        assert rows[0]["door"] == "realtime"


async def test_a_broken_record_is_a_dead_letter_with_its_bytes_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        bad = b'{"type":1,"target":"OrderChanged","arguments":["b",NaN]}'
        await hub.write(frame(invocation("OrderChanged", "a", 1) + bad + b"\x1e" + invocation("OrderChanged", "c", 1)))
        await door.until(lambda: door.counted("stored") == 2 and door.counted("unreadable") == 1)
        rows = await door.rows()
        assert [row["status"] for row in rows] == ["ready", "dead", "ready"]
        assert rows[1]["key"] == f"hubby/unreadable-{hashlib.sha256(bad).hexdigest()[:16]}"
        assert "not the hub protocol's" in rows[1]["reason"]
        assert len(hub.lines) == 1  # the connection goes on


async def test_a_dead_letter_can_be_replayed_as_what_it_was(tmp_path: Path) -> None:
    from gateway.engine.prepare import Prepare

    doors: list[str] = []

    def ingest(envelope: Any) -> list[Event]:
        doors.append(envelope.door)
        if len(doors) == 1:
            raise ValueError("a connector of yesterday")
        return [hub_connector.event("A")]

    hub_connector.faults["ingest"] = ingest
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        await hub.send("OrderChanged", "A", 1)
        await door.until(lambda: door.counted("unreadable") == 1)
        (dead,) = await door.rows()
        await door.store.replay([dead["key"]], "test")
        await Prepare(door.source, door.store, door.metrics, door.clock).run_once()
        assert (doors, (await door.keys())[-1]) == (["realtime", "realtime"], "A-1")


async def test_a_connector_that_breaks_its_contract_costs_only_its_own(tmp_path: Path) -> None:
    hub_connector.faults["ingest"] = lambda envelope: [][0] if b"bad" in envelope.body else [hub_connector.event("A")]
    with log_lines() as lines:
        async with fault_hub() as hub, listening(tmp_path, hub) as door:
            await door.up()
            await hub.send("OrderChanged", "bad", 1)
            await hub.send("OrderChanged", "good", 1)
            await door.until(lambda: door.counted("stored") == 1)
            assert [row["status"] for row in await door.rows()] == ["dead", "ready"]
    assert "plugin.failed" in "".join(lines)


async def test_nothing_in_it_is_nothing_stored(tmp_path: Path) -> None:
    hub_connector.faults["ingest"] = lambda envelope: []
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        await hub.send("OrderChanged", "A", 1)
        await door.until(lambda: door.metric("gateway_realtime_last_event_age_seconds") > 0.05)
        assert await door.rows() == []


async def test_a_burst_is_a_few_commits(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        sizes: list[int] = []
        accept = door.store.accept

        async def counted(source: str, by: Any, events: Any, **more: Any) -> Any:
            sizes.append(len(events))
            return await accept(source, by, events, **more)

        door.store.accept = counted  # type: ignore[method-assign, assignment]
        await hub.burst(2000, 50, "OrderChanged", lambda n: [str(n + 1), 1])
        await door.until(lambda: door.counted("stored") == 2000)
        assert await door.keys() == [f"{n}-1" for n in range(1, 2001)]
    assert max(sizes) <= push_buffer.MOST_EVENTS
    assert len(sizes) < 400


async def test_what_comes_while_a_commit_is_under_way_is_read_and_stored_behind_it(tmp_path: Path) -> None:
    read: list[str] = []

    def ingest(envelope: Any) -> list[Event]:
        id, quantity = json.loads(envelope.body)["arguments"]
        read.append(id)
        return [hub_connector.event(id, quantity)]

    hub_connector.faults["ingest"] = ingest
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        accept, go_on, sizes = door.store.accept, asyncio.Event(), list[int]()

        async def slow(source: str, by: Any, events: Any, **more: Any) -> Any:
            sizes.append(len(events))
            await go_on.wait()
            return await accept(source, by, events, **more)

        door.store.accept = slow  # type: ignore[method-assign, assignment]
        await hub.send("OrderChanged", "first", 1)
        await door.until(lambda: sizes == [1])
        await hub.burst(40, 1, "OrderChanged", lambda n: [str(n + 1), 1])
        await door.until(lambda: len(read) == 41)
        assert (sizes, await door.keys(), door.realtime._buffer._count) == ([1], [], 41)
        go_on.set()
        await door.until(lambda: door.counted("stored") == 41)
        assert sizes == [1, 40]
        assert await door.keys() == ["first-1", *(f"{n}-1" for n in range(1, 41))]


# --- a store that takes nothing (C12, C13)


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """C13."""
    with log_lines() as lines:
        async with fault_hub() as hub, listening(tmp_path, hub) as door:
            await door.up()
            door.store.refusing = "the disk is nearly full"
            await hub.burst(1000, 10, "OrderChanged", lambda n: [str(n + 1), 1])
            await door.until(lambda: door.counted("busy") >= 1)
            await asyncio.sleep(1.5)  # more than the server timeout
            assert (door.state, await door.rows(), len(hub.lines)) == ("up", [], 1)
            assert door.metric("gateway_realtime_inbox_events") <= push_buffer.MOST_EVENTS
            door.store.refusing = None
            await door.until(lambda: door.counted("stored") == 1000)
            assert await door.keys() == [f"{n}-1" for n in range(1, 1001)]
    assert len([line for line in lines if "realtime.busy" in line]) == 1


@pytest.fixture(scope="module")
def process() -> Iterator[HubProcess]:
    hub = HubProcess("fault hub", "--keep-alive", "0.2", "--client-timeout", "60")
    yield hub
    hub.kill()


async def test_a_stuck_store_makes_the_hub_wait(tmp_path: Path, process: HubProcess) -> None:
    """C12: 50 MB in place of 100, for three server timeouts of 1.2 s; `tests.edge.measure_hub` does the whole."""
    await process.start()
    gc.collect()
    measured = await hub_checks.check_a_stuck_store_loses_nothing(tmp_path, process, count=12_500, bytes_each=4000, server_timeout_s=1.2)
    assert measured["grown_mb"] <= 16


async def test_few_large_events_wait_as_well_as_many_small_ones(tmp_path: Path, process: HubProcess) -> None:
    await process.start()
    gc.collect()
    measured = await hub_checks.check_a_stuck_store_loses_nothing(
        tmp_path, process, count=40, bytes_each=1_000_000, stuck_s=1.5, server_timeout_s=1.2
    )
    assert measured["grown_mb"] <= 24  # 8 MiB of events, and a message of 1 MB on its way in several copies


async def test_what_the_store_cannot_take_stands_in_nobodys_way(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        accept = door.store.accept

        async def picky(source: str, by: Any, events: Any, **more: Any) -> Any:
            if any(event.key == "bad-1" for event in events):
                raise StoreError("cannot bind it")
            return await accept(source, by, events, **more)

        door.store.accept = picky  # type: ignore[method-assign, assignment]
        await hub.write(frame(b"".join(invocation("OrderChanged", id, 1) for id in ("a", "bad", "b"))))
        await door.until(lambda: door.counted("stored") == 2)
        assert [(row["status"], row["reason"]) for row in await door.rows()] == [
            ("ready", None),
            ("dead", "the store refuses it: StoreError"),
            ("ready", None),
        ]


async def test_a_store_that_refuses_everything_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_buffer, "_RETRY_S", 0.05)
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        accept, refusals = door.store.accept, [StoreError("no such table")] * 4

        async def broken(source: str, by: Any, events: Any, **more: Any) -> Any:
            if by == "realtime" and refusals:
                raise refusals.pop()
            return await accept(source, by, events, **more)

        door.store.accept = broken  # type: ignore[method-assign, assignment]
        await hub.write(frame(invocation("OrderChanged", "a", 1) + invocation("OrderChanged", "b", 1)))
        await door.until(lambda: door.counted("stored") + door.counted("unreadable") == 2)
        assert [row["status"] for row in await door.rows()] == ["dead", "ready"]  # both at once, "a", and "a" twice as a dead letter


async def test_a_store_that_is_lost_ends_the_door(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()

        async def lost(*_: Any, **__: Any) -> Any:
            raise StoreFailed("I/O error")

        door.store.accept = lost  # type: ignore[method-assign]
        await hub.send("OrderChanged", "A", 1)
        with pytest.raises(StoreFailed):
            await door.tasks[1]


# --- catching up (C16)


async def test_a_slow_resync_holds_up_nothing(tmp_path: Path) -> None:
    await hub_checks.check_a_slow_resync_holds_up_nothing(tmp_path)


async def test_a_round_that_began_before_we_listened_does_not_count(tmp_path: Path) -> None:
    await hub_checks.check_what_happens_while_connecting_is_polled(tmp_path)


async def test_each_event_is_stored_once_whichever_way_it_came(tmp_path: Path) -> None:
    """C16."""
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        await hub.send("OrderChanged", "live", 1)
        await door.until(lambda: door.counted("stored") == 1)
        hub.welcome = [invocation("OrderChanged", "in-the-frame", 1), invocation("OrderChanged", "live", 1)]
        hub_connector.faults["poll"] = missed(("live", 1), ("away", 1), ("in-the-frame", 1))
        await hub.close(allow_reconnect=True)
        await door.until(lambda: len(hub.lines) == 2)
        await door.up()
        await door.until(lambda: door.counted("repeat") + door.counted("repeat", "poll") >= 3)
        assert sorted(await door.keys()) == ["away-1", "in-the-frame-1", "live-1"]


async def test_the_door_is_down_until_the_resync_has_gone_well(tmp_path: Path) -> None:
    async def broken(cursor: str | None) -> Any:
        raise PluginError("no")

    hub_connector.faults["poll"] = broken
    async with fault_hub() as hub, listening(tmp_path, hub, poll_interval_s=0.05) as door:
        await hub.until(lambda: bool(hub.live))
        await asyncio.sleep(0.2)
        assert (door.state, door.metric("gateway_realtime_state"), "poller fetches" in door.reason) == ("down", 2, True)
        del hub_connector.faults["poll"]
        await door.up()
        assert door.metric("gateway_realtime_resync_seconds") > 0.1
        assert len(hub.lines) == 1


# --- coming back (C2, C6, C7, C8)


@pytest.mark.parametrize("outage_s", [0.3, 1.5])
async def test_it_is_back_within_a_step_of_the_hubs_return(tmp_path: Path, outage_s: float) -> None:
    """C2: 4 and 15 s of outage with a cap of a minute are 1.5 s with one of 0.2 s."""
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        await hub.stop()
        await door.until(lambda: door.state == "down")
        hub_connector.faults["poll"] = missed(("while-away", 1))
        gone_until = time.monotonic() + outage_s
        while time.monotonic() < gone_until:
            assert (door.state, door.metric("gateway_realtime_state") in (1, 3)) == ("down", True)
            await asyncio.sleep(0.02)
        assert await door.keys() == []
        await hub.start()
        back_at = time.monotonic()
        await door.up()
        assert time.monotonic() - back_at < 10  # and what a busy machine takes
        assert await door.keys() == ["while-away-1"]


@pytest.mark.parametrize("seed", range(5))
async def test_a_hub_that_closes_after_every_handshake_is_not_hammered(tmp_path: Path, seed: int) -> None:
    """C7, a whole minute, on a clock that the test moves."""
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await hub_checks.check_a_flapping_hub_is_not_hammered(door, Backoff, seed)


async def test_a_hub_that_closes_after_every_handshake_is_heard_each_time(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        hub.then = lambda _: hub.close(allow_reconnect=True)
        await door.until(lambda: door.metric("gateway_realtime_ended_total", cause="closed") >= 5)
        hub.then = None
        await door.up()


@pytest.mark.parametrize(
    ("where", "status", "cause"),
    [
        ("negotiate", 401, "credential"),
        ("upgrade", 403, "credential"),
        ("upgrade", 404, "not_found"),
        ("negotiate", 429, "refused"),
        ("upgrade", 503, "refused"),
    ],
)
async def test_a_hub_that_refuses_is_not_hammered(tmp_path: Path, where: Any, status: int, cause: str) -> None:
    """C6: the pauses here are 0.05 to 0.2 s."""
    async with fault_hub() as hub:
        hub.refuse(where, status, times=1000)
        async with listening(tmp_path, hub) as door:
            await asyncio.sleep(0.3)
            assert 1 <= door.metric("gateway_realtime_connects_total", result=cause) <= 6
            assert (door.state, str(status) in door.reason) == ("down", True)
            assert ("check its address" in door.reason) == (status == 404)
            hub.accept_again()
            await door.up()


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with fault_hub() as hub:
        hub.refuse("negotiate", 503, retry_after="1")
        async with listening(tmp_path, hub) as door:
            began = time.monotonic()
            await door.up()
            assert time.monotonic() - began >= 1


async def test_resume_tries_at_once(tmp_path: Path) -> None:
    async with fault_hub() as hub:
        hub.refuse("negotiate", 503)
        async with listening(tmp_path, hub, reconnect=LONG, backoff=Backoff(least_s=30)) as door:
            await door.until(lambda: door.metric("gateway_realtime_state") == 3)
            door.realtime.resume()
            await door.up()


async def test_a_changed_key_is_used_at_the_next_connection(tmp_path: Path) -> None:
    """C8: on both requests, and without a restart."""
    file = tmp_path / "key"
    file.write_text(KEY)
    key = Secret.from_reference({"file": "key"}, tmp_path)
    async with fault_hub() as hub, listening(tmp_path, hub, key=key) as door:
        await door.up()
        hub.key = "another"
        file.write_text("another")
        assert key.refresh()
        await hub.close(allow_reconnect=True)
        await door.until(lambda: len(hub.lines) == 2)
        await door.up()
        assert [one.headers["x-api-key"] for one in hub.heard] == [KEY, KEY, "another", "another"]


async def test_a_key_that_is_changed_while_it_is_refused_is_tried_at_once(tmp_path: Path) -> None:
    """C8: `resume` is what the gateway calls when a secret's file has changed."""
    file = tmp_path / "key"
    file.write_text("old")
    key = Secret.from_reference({"file": "key"}, tmp_path)
    async with fault_hub() as hub, listening(tmp_path, hub, key=key, reconnect=LONG) as door:
        await door.until(lambda: door.metric("gateway_realtime_connects_total", result="credential") == 1)
        file.write_text(KEY)
        assert key.refresh()
        door.realtime.resume()
        await door.up()
        assert len(hub.heard) == 3


async def test_a_connector_that_cannot_say_where_the_hub_is_is_asked_again(tmp_path: Path) -> None:
    hub_connector.faults["subscribe"] = lambda settings: dict[str, str]()["x"]
    async with fault_hub() as hub, listening(tmp_path, hub, backoff=Backoff(least_s=0.05)) as door:
        door.realtime._backoff.after = lambda *_: 0.05  # type: ignore[method-assign]
        await door.until(lambda: door.metric("gateway_realtime_connects_total", result="connector") >= 2)
        assert "subscribe failed: KeyError" in door.reason
        del hub_connector.faults["subscribe"]
        await door.up()


async def test_a_mistake_of_ours_is_a_reason_to_come_again(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        dial, asked = door.realtime._dial, []

        def broken(*arguments: Any) -> Any:
            asked.append(1)
            if len(asked) < 3:
                raise TypeError("Jane Doe")
            return dial(*arguments)

        door.realtime._dial = broken
        with log_lines() as lines:
            await hub.close(allow_reconnect=True)
            await door.until(lambda: len(asked) == 3)
            await door.up()
        assert "Jane Doe" not in "".join(lines)
        assert door.metric("gateway_realtime_connects_total", result="internal") == 2


# --- seen from outside


async def test_one_warning_when_it_goes_down_and_one_line_when_it_is_back(tmp_path: Path) -> None:
    with log_lines() as lines:
        async with fault_hub() as hub, listening(tmp_path, hub) as door:
            await door.up()
            assert not [line for line in lines if "warning" in line]
            hub.refuse("any", 503, times=3)
            await hub.close("maintenance", True)
            await door.until(lambda: door.metric("gateway_realtime_connects_total", result="refused") == 3)
            await door.up()
    said = [json.loads(line) for line in lines]
    warned = [line for line in said if line["level"] == "warning"]
    assert [(line["event"], line["reason"]) for line in warned] == [("door.down", "the hub closes: maintenance")]
    assert [line["event"] for line in said if line["event"] == "door.up"] == ["door.up", "door.up"]
    ended = [line for line in said if line["event"] == "realtime.ended"]
    assert [line["cause"] for line in ended] == ["closed", "refused", "refused", "refused"]
    assert {"online_s", "next_s", "source", "reason"} <= set(ended[0])


async def test_a_hub_that_is_not_there_at_the_start_is_one_warning(tmp_path: Path) -> None:
    async with fault_hub() as hub:
        url = hub.url
    with log_lines() as lines:
        async with listening(tmp_path, url) as door:
            await door.until(lambda: door.metric("gateway_realtime_connects_total", result="unreachable") >= 3)
            assert (door.state, door.reason) == ("down", "no connection: connection refused")
    assert len([line for line in lines if "door.down" in line]) == 1


async def test_the_metrics_say_how_it_is(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        assert _sample(door, "gateway_realtime_last_event_age_seconds").endswith("NaN")
        await hub.send("OrderChanged", "A", 1)
        await door.until(lambda: door.counted("stored") == 1)
        assert (door.metric("gateway_realtime_state"), door.metric("gateway_door_up", door="realtime")) == (2, 1)
        assert 0 < door.metric("gateway_realtime_last_event_age_seconds") < 5
        assert 0 < door.metric("gateway_realtime_last_message_age_seconds") < 5
        assert door.metric("gateway_realtime_connects_total", result="online") == 1
    assert door.metric("gateway_realtime_state") == 0


def _sample(door: Door, name: str) -> str:
    return next(line for line in generate_latest(door.metrics.registry).decode().splitlines() if line.startswith(name + "{"))


# --- stopping (C14, C15)


async def no_trace_of(before: tuple[int, int]) -> None:
    """Tasks and descriptors are what they were; threads come and go with name resolution and the store."""
    async with asyncio.timeout(10):
        while True:
            gc.collect()
            now = (len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")))
            if now[0] <= before[0] and now[1] <= before[1]:
                return
            await asyncio.sleep(0.02)


def traces() -> tuple[int, int]:
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))


async def _idle(hub: FaultHub, door: Door) -> None:
    await door.up()


async def _connecting(hub: FaultHub, door: Door) -> None:
    hub.mute = "upgrade"
    await hub.close(allow_reconnect=True)
    await door.until(lambda: len(hub.heard) == 4)


async def _in_backoff(hub: FaultHub, door: Door) -> None:
    await hub.close()
    await door.until(lambda: door.metric("gateway_realtime_state") == 3)


async def _full(hub: FaultHub, door: Door) -> None:
    door.store.refusing = "full"
    await hub.burst(2000, 1, "OrderChanged", lambda n: [str(n + 1), 1])
    await door.until(lambda: door.realtime._buffer._count == push_buffer.MOST_EVENTS)


@pytest.mark.parametrize("state", [_idle, _connecting, _in_backoff, _full])
async def test_a_stop_is_quick_and_leaves_nothing(tmp_path: Path, state: Any) -> None:
    """C14."""
    before = traces()
    async with fault_hub(client_timeout_s=60) as hub:
        async with listening(tmp_path, hub) as door:
            await door.up()
            await state(hub, door)
            began = time.monotonic()
            await door.realtime.stop(2)
            await door.realtime.stop(2)
            assert time.monotonic() - began < 10
            requests = len(hub.heard)
            await asyncio.sleep(0.6)
            assert len(hub.heard) == requests
        await hub.until(lambda: not hub.live)
    await no_trace_of(before)


async def test_a_stop_before_it_has_begun_is_nothing(tmp_path: Path) -> None:
    async with fault_hub() as hub:
        async with listening(tmp_path, hub) as door:
            await door.realtime.stop(2)
        assert hub.heard == []


async def test_a_stop_while_the_hub_stands_still(tmp_path: Path, process: HubProcess) -> None:
    """C14, half-open."""
    await process.start()
    async with listening(tmp_path, process.url, server_timeout_s=30.0) as door:
        await door.up()
        process.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            await door.realtime.stop(2)
            assert time.monotonic() - began < 10
        finally:
            process.signal(signal.SIGCONT)


async def test_what_has_come_before_a_stop_is_accepted(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        door.store.refusing = "full"
        await hub.burst(20, 20, "OrderChanged", lambda n: [str(n + 1), 1])
        await door.until(lambda: door.realtime._buffer._count == 20)
        asyncio.get_running_loop().call_later(0.1, lambda: setattr(door.store, "refusing", None))
        await door.realtime.stop(2)
        assert await door.keys() == [f"{n}-1" for n in range(1, 21)]


async def test_two_hundred_connections_leave_nothing_behind(tmp_path: Path) -> None:
    """C15."""
    async with fault_hub(client_timeout_s=60) as hub:
        async with listening(tmp_path, hub, backoff=Backoff(least_s=0.0, stable_s=0.0, dice=lambda: 0.0)) as door:
            for n in range(220):
                await door.until(lambda n=n: len(hub.lines) == n + 1 and bool(hub.live))  # type: ignore[misc]
                if n == 20:
                    gc.collect()
                    before, threads, memory = traces(), threading.active_count(), hub_checks.rss_mb()
                hub.live[0].rst() if n % 2 else hub.live[0].fin()
            await door.until(lambda: len(hub.lines) == 221)
            await door.up()
            await no_trace_of((before[0] + 1, before[1] + 1))
            assert threading.active_count() <= threads
            assert hub_checks.rss_mb() - memory <= 5
            ended = door.metric("gateway_realtime_ended_total", cause="broken")
            assert ended + door.metric("gateway_realtime_connects_total", result="no_answer") >= 219


async def test_a_busy_store_is_what_the_intake_waits_for(tmp_path: Path) -> None:
    """Every error of the store that says "later" is waited out, whichever it is."""
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        accept, refusals = door.store.accept, [StoreBusy("another process writes", retry_after_s=0.01)] * 3

        async def busy(*arguments: Any, **more: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return await accept(*arguments, **more)

        door.store.accept = busy  # type: ignore[method-assign]
        await hub.send("OrderChanged", "A", 1)
        await door.until(lambda: door.counted("stored") == 1)
        assert (door.counted("busy"), await door.keys()) == (1, ["A-1"])
