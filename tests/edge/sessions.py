"""One session by itself, and what it heard: what the tests of sessions share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gateway import HeaderAuth, Secret, Subscription
from gateway.clock import SystemClock
from gateway.edge.reconnect import Disconnected
from gateway.edge.signalr import Session
from gateway.outbound.session import any_unicast, open_session
from gateway.testing.hub import FaultHub
from tests.edge.listening import KEY

AUTH = HeaderAuth(name="x-api-key", value=Secret(KEY, origin="test"))
SHORT: dict[str, Any] = {"auth": AUTH, "keep_alive_s": 0.2, "server_timeout_s": 1.0, "connect_timeout_s": 1.0}


class Listener:
    """HubListener that remember."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.bad: list[tuple[bytes, str]] = []
        self.was_online = False
        self.messages = 0

    def on_connected(self) -> None:
        self.was_online = True

    def on_activity(self) -> None:
        self.messages += 1

    async def on_call(self, target: str, arguments: bytes) -> None:
        self.got.append((target, arguments))

    async def on_bad_record(self, record: bytes, reason: str) -> None:
        self.bad.append((record, reason))


def session(url: str, listener: Any, http: aiohttp.ClientSession, kind: type[Session] = Session, **more: Any) -> Session:
    return kind(Subscription(**{"url": url, **SHORT, **more}), listener, http, SystemClock())


@asynccontextmanager
async def http_session(**more: Any) -> AsyncIterator[aiohttp.ClientSession]:
    made = open_session(**{"allowed": any_unicast, "connections": 4, "connect_timeout_s": 1.0, "upgrades": True, **more})
    try:
        yield made
    finally:
        await made.close()


async def ending(made: Session, timeout_s: float = 8.0) -> Disconnected:
    """How a session ends; it must."""
    try:
        async with asyncio.timeout(timeout_s):
            await made.run()
    except Disconnected as ended:
        return ended
    raise AssertionError("a session ended without a reason")


async def try_once(
    hub: FaultHub | str, then: Callable[[], Awaitable[None]] | None = None, *, http: aiohttp.ClientSession | None = None, **more: Any
) -> tuple[Disconnected, Listener]:
    """One session from beginning to end; `then` is done once it is online."""
    listener = Listener()
    url = hub if isinstance(hub, str) else hub.url
    async with http_session() as own:
        task = asyncio.create_task(ending(session(url, listener, http or own, **more)))
        if then is not None:
            assert isinstance(hub, FaultHub)
            await hub.until(lambda: listener.was_online or task.done())
            if not task.done():
                await then()
        return await task, listener
