"""Known-bad mutants: our code with one fault put in. A check that passes one of them tests nothing (signalr.md, C20)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.edge import push_buffer as intake_module
from gateway.edge import realtime as realtime_module
from gateway.edge.poller import Poller
from gateway.edge.push_buffer import PushBuffer
from gateway.edge.reconnect import Backoff, Disconnected
from gateway.edge.signalr import Session
from gateway.outbound.websocket import WebSocket
from tests.edge import hub_checks
from tests.edge.hub_process import HubProcess
from tests.edge.listening import fault_hub, listening

FAILS = (AssertionError, TimeoutError)


@pytest.fixture(scope="module")
def stuck() -> Iterator[HubProcess]:
    """A hub for the bursts; in a process of its own, since it has to go on while we stand still."""
    hub = HubProcess("fault hub", "--keep-alive", "0.2", "--client-timeout", "60")
    yield hub
    hub.kill()


# --- no watch on the server's silence


class Patient(Session):
    async def _read(self, socket: WebSocket) -> None:
        await self._records(self._rest)
        while True:
            await self._records(await socket.receive())


async def test_a_session_without_a_server_timeout_is_caught(tmp_path: Path) -> None:
    with pytest.raises(FAILS):
        await hub_checks.check_silence_is_noticed(tmp_path, session=Patient)


async def test_the_real_one_passes(tmp_path: Path) -> None:
    await hub_checks.check_silence_is_noticed(tmp_path)


# --- a watch that does not stop while we are the silent side


class Impatient(Session):
    async def _read(self, socket: WebSocket) -> None:
        while True:
            try:
                async with asyncio.timeout(self._subscription.server_timeout_s):
                    await self._records(await socket.receive())
            except TimeoutError as error:
                raise Disconnected("silent", "ours") from error


async def test_a_session_that_blames_the_hub_for_our_silence_is_caught(tmp_path: Path, stuck: HubProcess) -> None:
    await stuck.start()
    with pytest.raises(FAILS, match="ours"):
        await hub_checks.check_a_stuck_store_loses_nothing(tmp_path, stuck, count=5000, bytes_each=10, stuck_s=1.5, session=Impatient)


# --- events that are dropped where there is no room


class Lossy(PushBuffer):
    async def put(self, body: bytes, *, broken: str | None = None) -> None:
        if self._fits(body):
            await super().put(body, broken=broken)


async def test_an_intake_that_drops_is_caught(tmp_path: Path, stuck: HubProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime_module, "PushBuffer", Lossy)
    await stuck.start()
    with pytest.raises(FAILS):
        async with asyncio.timeout(3):
            await hub_checks.check_a_stuck_store_loses_nothing(tmp_path, stuck, count=5000, bytes_each=10, stuck_s=1.5)


# --- events without a bound


class Boundless(PushBuffer):
    def _fits(self, body: bytes) -> bool:
        return True


async def test_an_intake_without_bounds_is_caught(tmp_path: Path, stuck: HubProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime_module, "PushBuffer", Boundless)
    await stuck.start()
    with pytest.raises(FAILS, match="in the intake"):
        await hub_checks.check_a_stuck_store_loses_nothing(tmp_path, stuck, count=5000, bytes_each=10, stuck_s=1.5)


# --- a count that starts over with each connection


class Forgetful(Backoff):
    def __init__(self, **more: Any) -> None:
        super().__init__(**{**more, "stable_s": 0.0})


async def test_a_count_that_starts_over_on_connect_is_caught(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        with pytest.raises(FAILS):
            await hub_checks.check_a_flapping_hub_is_not_hammered(door, Forgetful, 1)


# --- catching up inside the session


class Absorbed(Session):
    async def _read(self, socket: WebSocket) -> None:
        await self._listener._catching_up  # type: ignore[attr-defined]
        await super()._read(socket)

    async def _ping(self, socket: WebSocket) -> None:
        await asyncio.wait([self._listener._catching_up])  # type: ignore[attr-defined]
        await super()._ping(socket)


async def test_a_resync_inside_the_session_is_caught(tmp_path: Path) -> None:
    with pytest.raises(FAILS):
        await hub_checks.check_a_slow_resync_holds_up_nothing(tmp_path, session=Absorbed)


# --- a resync that takes the round under way for its own


class Hasty(Poller):
    async def resync(self) -> None:
        while not self._succeeded:
            await asyncio.sleep(0.005)


async def test_a_resync_that_begins_before_the_listening_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.edge.listening.Poller", Hasty)
    with pytest.raises(FAILS):
        await hub_checks.check_what_happens_while_connecting_is_polled(tmp_path)


# --- a stop that does not hang up


async def test_a_session_that_does_not_hang_up_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_open: list[WebSocket] = []
    hang_up = WebSocket.close

    async def stays_open(self: WebSocket) -> None:
        left_open.append(self)

    monkeypatch.setattr(WebSocket, "close", stays_open)
    with pytest.raises(FAILS):
        await hub_checks.check_goodbye(tmp_path)
    for socket in left_open:
        await hang_up(socket)


async def test_the_real_one_hangs_up(tmp_path: Path) -> None:
    await hub_checks.check_goodbye(tmp_path)


def test_the_limits_that_the_checks_rely_on() -> None:
    assert (intake_module.MOST_EVENTS, intake_module.MOST_BYTES) == (1024, 8 * 1024 * 1024)
