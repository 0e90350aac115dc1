"""The same door against our hub and a real ASP.NET Core one, each in a process of its own.

The real one pings with its heartbeat, once a second at the most, so timeouts are seconds here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Reconnect, Secret
from gateway.edge.reconnect import Backoff
from tests import hub_connector
from tests.edge.hub_process import KINDS, HubProcess
from tests.edge.listening import KEY, listening, missed

SETTINGS: dict[str, Any] = {
    "keep_alive_s": 0.5,
    "server_timeout_s": 2.5,
    "connect_timeout_s": 3.0,
    "reconnect": Reconnect(base_s=0.1, factor=2, cap_s=0.4),
}
OPTIONS = ("--keep-alive", "1", "--client-timeout", "2")


@pytest.fixture(scope="module", params=KINDS)
def process(request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    hub = HubProcess(request.param, *OPTIONS)
    yield hub
    hub.kill()


@pytest.fixture
async def hub(process: HubProcess) -> HubProcess:
    """A hub that nobody is connected to."""
    await process.start()
    await process.until_live(0)
    return process


@pytest.mark.parametrize("per_frame", [1, 50])
async def test_a_burst_arrives_whole_and_in_order(hub: HubProcess, per_frame: int, tmp_path: Path) -> None:
    """C1; the real hub joins records as it likes."""
    arrived: list[Any] = []

    def ingest(envelope: Any) -> list[Any]:
        arrived.append(json.loads(envelope.body)["arguments"])
        return []

    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        hub_connector.faults["ingest"] = ingest
        await hub.burst(10_000, "OrderChanged", "{n}", 1, per_frame=per_frame)
        await door.until(lambda: len(arrived) == 10_000, 30)
        assert arrived == [[str(n), 1] for n in range(10_000)]
        assert door.state == "up"


async def test_what_arrives_is_stored_in_order(hub: HubProcess, tmp_path: Path) -> None:
    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        await hub.burst(1000, "OrderChanged", "n{n}", 1)
        await door.until(lambda: door.counted("stored") == 1000, 30)
        assert await door.keys() == [f"n{n}-1" for n in range(1000)]
        (headers,) = (await hub.connections())["headers"]
        assert {name.lower(): value for name, value in headers.items()}["x-api-key"] == KEY


async def test_pings_of_ours_keep_the_connection(hub: HubProcess, tmp_path: Path) -> None:
    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        opened = (await hub.connections())["opened"]
        await asyncio.sleep(2.7)  # more than the hub's client timeout, and than our server timeout
        assert (await hub.connections())["opened"] == opened
        assert (door.state, door.metric("gateway_realtime_state")) == ("up", 2)
        assert door.metric("gateway_realtime_last_message_age_seconds") < 2.5


async def test_it_is_back_after_an_outage_and_has_caught_up(hub: HubProcess, tmp_path: Path) -> None:
    """C2, with the process killed; longer ones are in test_realtime.py."""
    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        hub.kill()
        await door.until(lambda: door.state == "down")
        hub_connector.faults["poll"] = missed(("while-away", 1))
        gone_until = time.monotonic() + 0.3
        while time.monotonic() < gone_until:
            assert (door.state, door.metric("gateway_realtime_state") in (1, 3)) == ("down", True)
            await asyncio.sleep(0.02)
        await hub.start()
        back_at = time.monotonic()
        await door.up()
        assert time.monotonic() - back_at < 10  # one step of 0.4 s, on a machine that is busy
        assert await door.keys() == ["while-away-1"]


async def test_a_hub_that_stands_still_is_noticed(hub: HubProcess, tmp_path: Path) -> None:
    """C4."""
    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        hub.signal(signal.SIGSTOP)
        try:
            await door.until(lambda: door.state == "down", 2.5 + 1 + 1)
            assert door.metric("gateway_realtime_ended_total", cause="silent") == 1
        finally:
            hub.signal(signal.SIGCONT)
        await door.up()


async def test_a_hub_that_sends_us_away_is_left_alone_for_a_while(hub: HubProcess, tmp_path: Path) -> None:
    """C3: what the server's own abort sends."""
    async with listening(tmp_path, hub.url, backoff=Backoff(least_s=0.05, no_reconnect_s=0.6, stable_s=0.5), **SETTINGS) as door:
        await door.up()
        await hub.tell("abort")
        await door.until(lambda: door.state == "down")
        since = time.monotonic()
        assert door.metric("gateway_realtime_ended_total", cause="close_no_reconnect") == 1
        await door.up()
        assert time.monotonic() - since >= 0.5


@pytest.mark.parametrize(("status", "cause"), [(401, "credential"), (503, "refused")])
async def test_a_hub_that_refuses_is_asked_again(hub: HubProcess, status: int, cause: str, tmp_path: Path) -> None:
    """C6, at a reconnect."""
    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        await hub.tell(f"refuse?count=2&status={status}")
        await hub.tell("abort")
        await door.until(lambda: door.state == "down")
        await door.up()
        assert door.metric("gateway_realtime_connects_total", result=cause) == 2
        assert door.metric("gateway_realtime_connects_total", result="online") == 2


async def test_another_key_is_refused(hub: HubProcess, tmp_path: Path) -> None:
    async with listening(tmp_path, hub.url, key=Secret("other", origin="test"), **SETTINGS) as door:
        await door.until(lambda: door.metric("gateway_realtime_connects_total", result="credential") >= 2)
        assert (door.state, "401" in door.reason) == ("down", True)


async def test_the_key_can_go_into_the_address(tmp_path: Path) -> None:
    """Our hub is asked that in test_signalr.py."""
    hub = HubProcess("ASP.NET Core", *OPTIONS, "--key-in", "query:code")
    try:
        await hub.start()
        async with listening(tmp_path, hub.url, key_in="query:code", **SETTINGS) as door:
            await door.up()
    finally:
        hub.kill()


async def test_without_negotiation(hub: HubProcess, tmp_path: Path) -> None:
    async with listening(tmp_path, hub.url, negotiate=False, **SETTINGS) as door:
        await door.up()


async def test_a_stop_says_goodbye(hub: HubProcess, tmp_path: Path) -> None:
    """C14, idle."""
    async with listening(tmp_path, hub.url, **SETTINGS) as door:
        await door.up()
        began = time.monotonic()
        await door.realtime.stop(2)
        assert time.monotonic() - began < 10
    await hub.until_live(0)


async def test_connections_that_end_leave_nothing_behind(hub: HubProcess, tmp_path: Path) -> None:
    """C15 in small: descriptors and tasks are what they were."""
    async with listening(tmp_path, hub.url, backoff=Backoff(least_s=0.01, no_reconnect_s=0.02, stable_s=0.0), **SETTINGS) as door:
        await door.up()
        before = (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()))
        for n in range(10):
            await hub.tell("abort")
            await door.until(lambda n=n: door.metric("gateway_realtime_connects_total", result="online") == n + 2)  # type: ignore[misc]
            await hub.until_live(1)
        await door.up()
        await asyncio.sleep(0.1)
        after = (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()))
        assert after[0] <= before[0] + 2
        assert after[1] <= before[1] + 1
