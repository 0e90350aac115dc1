"""A realtime door on a real store, listening to a hub: what the tests of the door and of its sessions share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway import Page, Secret
from gateway.api.urls import Url
from gateway.clock import SystemClock
from gateway.edge.poller import Poller
from gateway.edge.realtime import Realtime
from gateway.edge.reconnect import Backoff
from gateway.edge.signalr import Session
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.source import Source
from gateway.service.runtime import hub_session
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.testing.hub import FaultHub
from tests import hub_connector

KEY = "canary-key"


class Door:
    """A source with a poller and a listener, and what became of what came."""

    def __init__(self, store: SqliteStore, url: str, *, backoff: Backoff | None = None, session: type[Session] = Session, **settings: Any):
        self.clock = SystemClock()
        self.metrics = Metrics(self.clock)
        self.store = store
        self.key = settings.pop("key", Secret(KEY, origin="test"))
        connector = Connector(hub_connector, "hubby")
        connector.settings = hub_connector.Settings(hub_url=Url(url), key=self.key, **settings)
        self.source = Source(
            name="hubby",
            connector=connector,
            doors=("poll", "realtime"),
            on_revision="send",
            destinations=(),
            stages=frozenset(),
            max_body_bytes=1000,
            max_requests_per_second=1000,
            since=self.clock.now(),
            vendor="hubby",
        )
        self.http = hub_session(url, private=False)
        self.sessions: list[Session] = []
        self.poller = Poller(self.source, store, self.metrics, self.clock)
        self.realtime = Realtime(
            self.source,
            store,
            self.metrics,
            self.clock,
            dial=lambda subscription, listener: session(subscription, listener, self.http, self.clock),
            resync=self.poller.resync,
            backoff=backoff or Backoff(least_s=0.05, no_reconnect_s=0.3, stable_s=0.5),
        )
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.poller.run()), asyncio.create_task(self.realtime.run())]

    async def stop(self) -> None:
        await self.realtime.stop(2)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.http.close()

    @property
    def state(self) -> str:
        found = self.metrics.health.doors.get(("hubby", "realtime"))
        return found.state if found else "off"

    @property
    def reason(self) -> str:
        found = self.metrics.health.doors.get(("hubby", "realtime"))
        return (found.reason or "") if found else ""

    async def up(self) -> None:
        await self.until(lambda: self.state == "up")

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)

    def counted(self, outcome: str, door: str = "realtime") -> float:
        return self.metric("gateway_received_total", door=door, outcome=outcome)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"source": "hubby", **labels}) or 0.0

    async def rows(self, limit: int = 100_000) -> list[dict[str, Any]]:
        """What the store holds, in the order in which it came."""
        reader = SqliteReader(self.store._path)
        await reader.open()
        try:
            return sorted(await reader.rows("inbox", limit=limit), key=lambda row: int(row["row"].split(":")[1]))
        finally:
            await reader.close()

    async def keys(self) -> list[str]:
        return [row["key"].removeprefix("hubby/") for row in await self.rows()]


@asynccontextmanager
async def listening(folder: Path, hub: FaultHub | str, **more: Any) -> AsyncIterator[Door]:
    """A door that listens while this is open."""
    store = SqliteStore(folder / "gateway.db", clock=SystemClock())
    await store.open()
    await store.register(["hubby"])
    door = Door(store, hub if isinstance(hub, str) else hub.url, **more)
    door.start()
    try:
        yield door
    finally:
        await door.stop()
        await store.close()


@asynccontextmanager
async def fault_hub(**more: Any) -> AsyncIterator[FaultHub]:
    """A hub that pings every 0.2 s and wants the key, while this is open."""
    tls = more.pop("tls", None)
    hub = FaultHub(**{"key": KEY, "ping_s": 0.2, "client_timeout_s": 1.0, **more})
    await hub.start(tls=tls)
    try:
        yield hub
    finally:
        await hub.stop()


def missed(*orders: tuple[str, int]) -> Callable[..., Any]:
    """A vendor that tells, when it is polled, what happened."""

    async def poll(cursor: str | None) -> Page:
        return Page(events=[hub_connector.event(*order) for order in orders], cursor=cursor)

    return poll
