"""Checks that a good door passes and a mutant with one fault must fail: each takes the class under test (signalr.md, C20)."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from gateway import Event, Page, Reconnect
from gateway.edge.realtime import Realtime
from gateway.edge.reconnect import Backoff, Disconnected
from gateway.store.arrivals import Accepted, NewEvent
from gateway.testing import ManualClock
from gateway.testing.hub import FaultHub
from tests import hub_connector
from tests.edge.hub_process import HubProcess
from tests.edge.listening import Door, fault_hub, listening, missed


async def check_silence_is_noticed(folder: Path, **more: Any) -> None:
    """C4, C5: half a connection is not one."""
    async with fault_hub(ping_s=0, client_timeout_s=60) as hub, listening(folder, hub, **more) as door:
        await door.up()
        await door.until(lambda: door.metric("gateway_realtime_ended_total", cause="silent") >= 1, 2)


async def check_goodbye(folder: Path, **more: Any) -> None:
    """C14: who is stopped hangs up, whatever else goes on."""
    async with fault_hub(client_timeout_s=60) as hub, listening(folder, hub, **more) as door:
        await door.up()
        await door.realtime.stop(2)
        await hub.until(hub.lines[0].over.is_set, 1)


async def check_a_slow_resync_holds_up_nothing(folder: Path, **more: Any) -> None:
    """C16: pushes flow and pings go on while the vendor is still being asked what was missed."""
    answer = asyncio.Event()

    async def poll(cursor: str | None) -> Page:
        await answer.wait()
        return Page(events=[hub_connector.event("missed")], cursor=cursor)

    hub_connector.faults["poll"] = poll
    async with fault_hub(client_timeout_s=0.6) as hub, listening(folder, hub, **more) as door:
        await hub.until(lambda: bool(hub.live))
        await hub.send("OrderChanged", "pushed", 1)
        await door.until(lambda: door.counted("stored") == 1, 2)
        await asyncio.sleep(1.2)
        assert (len(hub.lines), len(hub.live), door.state) == (1, 1, "down")
        answer.set()
        await door.up()
        assert await door.keys() == ["pushed-1", "missed-1"]


class StuckStore:
    """A store that takes nothing until it is told to, and then remembers what it took."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.open = asyncio.Event()
        self.taken: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def accept(self, source: str, door: Any, events: list[NewEvent], **more: Any) -> list[Accepted]:
        if door != "realtime":
            return list(await self._store.accept(source, door, events, **more))
        await self.open.wait()
        self.taken += [event.key for event in events]
        return [Accepted(key=event.key, outcome="stored") for event in events]


def rss_mb() -> float:
    """What this process holds in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


async def check_a_stuck_store_loses_nothing(
    folder: Path, hub: FaultHub | HubProcess, *, count: int, bytes_each: int, stuck_s: float = 3.6, **more: Any
) -> dict[str, float]:
    """C12: stuck for three server timeouts with much waiting; online all the time, pings go on, memory does not grow.

    Returns:
        `grown_mb`, while it was stuck.
    """
    hub_connector.faults["ingest"] = lambda envelope: [Event(key=_number(envelope.body), order_ref="A", document=b"{}")]
    async with listening(folder, hub.url, **more) as door:
        store = StuckStore(door.store)
        door.realtime._buffer._store = store  # type: ignore[assignment]
        try:
            grown = await _stuck_for(stuck_s, door, store, hub, count, bytes_each)
        finally:
            store.open.set()
    return {"grown_mb": grown}


async def _stuck_for(stuck_s: float, door: Door, store: StuckStore, hub: FaultHub | HubProcess, count: int, bytes_each: int) -> float:
    await door.up()
    online = door.metric("gateway_realtime_connects_total", result="online")
    before, pings, grown = rss_mb(), await _pings(hub), 0.0
    sending = asyncio.create_task(_burst(hub, count, "x" * bytes_each))
    waiting, began = 0.0, time.monotonic()  # it counts from when nothing more comes in: how long that takes is the hub's and the machine's
    async with asyncio.timeout(60 + stuck_s):
        while time.monotonic() < began + stuck_s:
            await asyncio.sleep(0.05)
            grown = max(grown, rss_mb() - before)
            assert door.state == "up", door.reason
            if (now := door.metric("gateway_realtime_inbox_events")) != waiting or not now:
                waiting, began = now, time.monotonic()
    assert await _pings(hub) - pings >= 3
    assert store.taken == []
    assert 0 < waiting <= 1024, f"{waiting} in the intake"
    store.open.set()
    await door.until(lambda: len(store.taken) >= count, 60)
    await sending
    assert store.taken == [f"n{n}" for n in range(count)]
    assert door.metric("gateway_realtime_connects_total", result="online") == online
    assert door.metric("gateway_realtime_blocked_seconds_total") > 0.1
    return grown


async def _burst(hub: FaultHub | HubProcess, count: int, padding: str) -> None:
    if isinstance(hub, HubProcess):
        await hub.burst(count, "OrderChanged", "n{n}", 1, padding)
    else:
        await hub.burst(count, 1, "OrderChanged", lambda n: [f"n{n}", 1, padding])


async def _pings(hub: FaultHub | HubProcess) -> int:
    return int((await hub.connections())["pings"]) if isinstance(hub, HubProcess) else sum(len(line.pings) for line in hub.lines)


def _number(body: bytes) -> str:
    return body[: body.index(b",", body.index(b"[")) - 1].rpartition(b'"')[2].decode()


class Flapping:
    """A session that is online for a moment, and then ended."""

    def __init__(self, listener: Realtime, clock: ManualClock, tries: list[float]) -> None:
        self._listener, self._clock, self._tries = listener, clock, tries

    async def run(self) -> None:
        self._tries.append(self._clock.monotonic())
        self._listener.on_connected()
        raise Disconnected("closed", "at once")


async def check_a_flapping_hub_is_not_hammered(door: Door, backoff: type[Backoff], seed: int) -> None:
    """C7: a hub that accepts and closes, for a minute of a clock that we move: at most 10 tries, less and less often."""
    clock, tries = ManualClock(), list[float]()
    hub_connector.faults["subscribe"] = lambda settings: hub_connector.Subscription(url="http://127.0.0.1:1/", reconnect=Reconnect())

    async def resync() -> None:
        await asyncio.Event().wait()

    realtime = Realtime(
        door.source, door.store, door.metrics, clock,
        dial=lambda _, listener: Flapping(listener, clock, tries), resync=resync, backoff=backoff(dice=random.Random(seed).random),
    )  # fmt: skip
    task = asyncio.create_task(realtime.run())
    try:
        for _ in range(600):
            for _ in range(8):
                await asyncio.sleep(0)
            clock.advance(0.1)
    finally:
        await realtime.stop(1)
        await asyncio.gather(task, return_exceptions=True)
    assert 3 <= len(tries) <= 10, f"{len(tries)} tries in a minute"


async def check_what_happens_while_connecting_is_polled(folder: Path, **more: Any) -> None:
    """C16: a round that began before we listened does not count; what it could not see comes with the next."""
    asked = 0
    first = asyncio.Event()

    async def poll(cursor: str | None) -> Page:
        nonlocal asked
        asked += 1
        if asked == 1:  # begins before the hub is there, and ends when we have been listening for a while
            await first.wait()
            return Page(cursor=cursor)
        return await missed(("in-between", 1))(cursor)

    hub_connector.faults["poll"] = poll
    async with fault_hub() as hub, listening(folder, hub, **more) as door:
        await hub.until(lambda: bool(hub.live))
        await asyncio.sleep(0.05)
        assert (asked, door.state) == (1, "down")
        first.set()
        await door.up()
        assert await door.keys() == ["in-between-1"]
