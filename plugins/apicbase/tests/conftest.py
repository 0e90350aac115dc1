"""A simulated Apicbase, settings for it, and a gateway's parts around the plugin: store, doors, prepare step."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import gateway_apicbase
import msgspec
import pytest
from gateway_apicbase.settings import Settings
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway import Event, Secret, TextList, Unreadable, Url, VendorClient
from gateway.connector import Connector
from gateway.edge.poller import Poller
from gateway.edge.server import Listener
from gateway.edge.webhook import WebhookDoor
from gateway.engine.acknowledge import Acknowledge
from gateway.engine.prepare import Prepare
from gateway.source import Destination, Source
from gateway.store.base import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reading import SqliteReader
from gateway.testing import ManualClock, vendor_client
from gateway.vitals import Vitals

SECRET = "constructed-secret-do-not-use"
EVERY_KIND = frozenset({"order.placed", "order.revised", "order.cancelled", "order.status"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[ApicbaseSimulator]:
    simulator = ApicbaseSimulator(now=clock.now, prefix="c")
    await simulator.start()
    yield simulator
    await simulator.stop()


def secret(text: str) -> Secret:
    return Secret(text, origin="test")


def words(*words: str) -> TextList:
    return TextList("\n".join(words), origin="test")


def make_settings(simulator: ApicbaseSimulator | None = None, **changes: Any) -> Settings:
    values: dict[str, Any] = {"currency": "EUR", "webhook_secrets": (secret(SECRET),)}
    if simulator is not None:
        values |= {
            "base_url": Url(simulator.address),
            "token_url": Url(f"{simulator.address}/oauth/token/"),
            "client_id": simulator.client_id,
            "client_secret": secret(simulator.client_secret),
            "calls_per_minute": 100,
        }
    for name in ("known_customers", "known_articles", "sandbox_customers"):
        if name in changes:
            changes[name] = words(*changes[name])
    return Settings(**values | changes)


def make_connector(settings: Settings) -> Connector:
    connector = Connector(gateway_apicbase, "apicbase")
    connector.settings = settings
    return connector


class Polling:
    """The plugin's poll against the simulator, page by page, with what it brought."""

    def __init__(self, simulator: ApicbaseSimulator, clock: ManualClock, client: VendorClient, connector: Connector) -> None:
        self.simulator, self.clock, self.client, self.connector = simulator, clock, client, connector
        self.since = clock.now()
        self.cursor: str | None = None
        self.events: list[Event | Unreadable] = []

    @property
    def ids(self) -> set[str]:
        return {event.key for event in self.events if isinstance(event, Event)}

    @property
    def watermark(self) -> str:
        return str(json.loads(self.cursor or "{}")["watermark"])

    async def page(self) -> bool:
        """One call, as if its page had been committed; whether there is more."""
        page = await self.connector.poll(self.cursor, self.since, self.clock.now(), self.client)
        self.cursor, more = page.cursor, page.more
        self.events += page.events
        return more

    async def round(self) -> set[str]:
        """Until there is nothing more; the ids that came in this round."""
        before = len(self.events)
        for _ in range(80):
            if not await self.page():
                return {event.key for event in self.events[before:] if isinstance(event, Event)}
        raise AssertionError("polling finds no end")


@pytest.fixture
async def polling(simulator: ApicbaseSimulator, clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """`await polling(page_size=3)`"""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Polling:
            connector = make_connector(make_settings(simulator, **changes))
            api = connector.api()
            assert api is not None
            client = await stack.enter_async_context(vendor_client(api, clock))
            return Polling(simulator, clock, client, connector)

        yield make


class Bench:
    """One source with both doors on a real store; everything happens when it is told to."""

    def __init__(self, source: Source, store: SqliteStore, clock: ManualClock, door: Listener, session: aiohttp.ClientSession) -> None:
        vitals = Vitals(clock)
        self.source, self.store, self._session = source, store, session
        self.poller = Poller(source, store, vitals, clock)
        self.prepare = Prepare(source, store, clock)
        self.acknowledge = Acknowledge(source, store, vitals, clock)
        self.url = f"http://127.0.0.1:{door.port}/in/apicbase"
        self.reader: SqliteReader

    async def webhook(self, body: bytes, signature: str) -> tuple[int, Any]:
        async with self._session.post(self.url, data=body, headers={"X-APIC-WEBHOOK-SIGNATURE": signature}) as answer:
            return answer.status, await answer.json()

    async def sent(self) -> list[dict[str, Any]]:
        """Prepare what is due, and let the ERP take what leaves; the messages."""
        messages = []
        while await self.prepare.turn():
            pass
        while rows := await self.store.lease_outbox("erp", 100):
            for row in rows:
                messages.append(msgspec.json.decode(row.body or b""))
                await self.store.settle_outbox(row, Settlement(status="done", outcome="delivered"), acknowledge=True)
        return messages

    async def inbox(self) -> list[dict[str, Any]]:
        return list(reversed(await self.reader.rows("inbox")))


@pytest.fixture
async def bench(simulator: ApicbaseSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(on_revision="replace", refuse=("empty_order",))`"""
    async with AsyncExitStack() as stack:

        async def make(*, on_revision: Any = "hold", **changes: Any) -> Bench:
            connector = make_connector(make_settings(simulator, **changes))
            api = connector.api()
            assert api is not None
            store = SqliteStore(tmp_path / "gateway.db", clock=clock)
            await store.open()
            stack.push_async_callback(store.close)
            await store.register(["apicbase"])
            source = Source(
                name="apicbase",
                connector=connector,
                doors=("webhook", "poll"),
                on_revision=on_revision,
                destinations=(Destination(target="erp", accepts=EVERY_KIND),),  # type: ignore[arg-type]
                stages=connector.stages(),
                max_body_bytes=1024 * 1024,
                max_requests_per_second=1000,
                since=clock.now(),
                vendor="apicbase",
                client=await stack.enter_async_context(vendor_client(api, clock)),
            )
            door = WebhookDoor(store, Vitals(clock), clock)
            door.sources = {"apicbase": source}
            listener = Listener(door.receive, max_connections=100)
            await listener.start("127.0.0.1", 0)
            stack.push_async_callback(listener.close, 1)
            made = Bench(source, store, clock, listener, await stack.enter_async_context(aiohttp.ClientSession()))
            made.reader = SqliteReader(tmp_path / "gateway.db")
            await made.reader.open()
            stack.push_async_callback(made.reader.close)
            return made

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(simulator, refuse=("empty_order",))`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector
