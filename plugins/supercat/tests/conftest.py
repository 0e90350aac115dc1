"""A simulated SuperCat, settings for it, and a gateway's parts around the plugin: store, poller, prepare step, marks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import gateway_supercat
import msgspec
import pytest
from gateway_supercat.constructed import EXAMPLE
from gateway_supercat.settings import Settings, Start
from gateway_supercat.simulator import SupercatSimulator

from gateway import Event, Mapping, Secret, Unreadable, Url, VendorClient
from gateway.connector import Connector
from gateway.edge.poller import Poller
from gateway.engine.acknowledge import Acknowledge
from gateway.engine.prepare import Prepare
from gateway.source import Destination, Source
from gateway.store.base import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reading import SqliteReader
from gateway.testing import ManualClock, vendor_client
from gateway.vitals import Vitals

EVERY_KIND = frozenset({"order.placed", "order.revised", "order.cancelled", "order.status"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[SupercatSimulator]:
    simulator = SupercatSimulator(now=clock.now, history=0)
    await simulator.start()
    yield simulator
    await simulator.stop()


def secret(text: str) -> Secret:
    return Secret(text, origin="test")


def make_settings(simulator: SupercatSimulator | None = None, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "org": "demo",
        "username": "gateway",
        "password": secret("constructed-password"),
        "start": Start(after_id=0),
        "currency": "USD",
        "time_zone": "America/New_York",
        "mapping": Mapping.from_reference(str(EXAMPLE), EXAMPLE.parent),
    }
    if simulator is not None:
        values["base_url"] = Url(simulator.address)
    if isinstance(changes.get("mapping"), str):
        changes["mapping"] = Mapping(changes["mapping"], origin="test")
    return Settings(**values | changes)


def make_connector(settings: Settings) -> Connector:
    connector = Connector(gateway_supercat, "supercat")
    connector.settings = settings
    return connector


class Side:
    """The plugin's poll and marks against the simulator."""

    def __init__(self, clock: ManualClock, client: VendorClient, connector: Connector) -> None:
        self.clock, self.client, self.connector = clock, client, connector

    async def poll(self) -> list[Event | Unreadable]:
        page = await self.connector.poll(None, self.clock.now(), self.clock.now(), self.client)
        assert not page.more
        return list(page.events)

    async def ids(self) -> list[int]:
        return [int(event.key) for event in await self.poll() if isinstance(event, Event)]


@pytest.fixture
async def side(simulator: SupercatSimulator, clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """`await side(mark_batch=3)`"""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Side:
            connector = make_connector(make_settings(simulator, **changes))
            api = connector.api()
            assert api is not None
            return Side(clock, await stack.enter_async_context(vendor_client(api, clock)), connector)

        yield make


class Bench:
    """One source on a real store; everything happens when it is told to."""

    def __init__(self, source: Source, store: SqliteStore, reader: SqliteReader, clock: ManualClock) -> None:
        self.source, self.store, self.reader, self.clock = source, store, reader, clock
        self.vitals = Vitals(clock)
        self.poller = Poller(source, store, self.vitals, clock)
        self.prepare = Prepare(source, store, clock)
        self.acknowledge = Acknowledge(source, store, self.vitals, clock)

    async def prepared(self) -> None:
        while await self.prepare.turn():
            pass

    async def marked(self) -> None:
        while await self.acknowledge.turn():
            pass

    async def sent(self) -> list[dict[str, Any]]:
        """Prepare what is due, and let the ERP take what leaves; the messages."""
        messages = []
        await self.prepared()
        while rows := await self.store.lease_outbox("erp", 100):
            for row in rows:
                messages.append(msgspec.json.decode(row.body or b""))
                end = Settlement(status="done", outcome="delivered")
                await self.store.settle_outbox(row, end, acknowledge="delivered" in self.source.stages)
        return messages

    async def round(self) -> list[dict[str, Any]]:
        """Poll, and what `sent` does."""
        await self.poller.round()
        return await self.sent()

    async def inbox(self, *columns: str) -> list[Any]:
        rows = list(reversed(await self.reader.rows("inbox")))
        return [tuple(row[column] for column in columns) for row in rows] if columns else rows

    async def outcome(self, key: str) -> tuple[str, str, str]:
        """Status and reason of an event, and what a clerk is shown of its last attempt."""
        (row,) = [row for row in await self.inbox() if row["key"] == f"supercat/{key}"]
        shown = await self.reader.show(key)
        return row["status"], row["reason"] or "", json.dumps(shown, default=str)

    @property
    def door(self) -> tuple[str, str]:
        condition = self.vitals.doors["supercat", "poll"]
        return condition.state, condition.reason or ""


@pytest.fixture
async def bench(simulator: SupercatSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(on_revision="replace", mark="delivered")`"""
    async with AsyncExitStack() as stack:

        async def make(*, on_revision: Any = "hold", **changes: Any) -> Bench:
            connector = make_connector(make_settings(simulator, **changes))
            api = connector.api()
            assert api is not None
            store = SqliteStore(tmp_path / "gateway.db", clock=clock)
            await store.open()
            stack.push_async_callback(store.close)
            await store.register(["supercat"])
            source = Source(
                name="supercat",
                connector=connector,
                doors=("poll",),
                on_revision=on_revision,
                destinations=(Destination(target="erp", accepts=EVERY_KIND),),  # type: ignore[arg-type]
                stages=connector.stages(),
                max_body_bytes=1024 * 1024,
                max_requests_per_second=1000,
                since=clock.now(),
                vendor="supercat",
                client=await stack.enter_async_context(vendor_client(api, clock)),
            )
            reader = SqliteReader(tmp_path / "gateway.db")
            await reader.open()
            stack.push_async_callback(reader.close)
            return Bench(source, store, reader, clock)

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(text_lines="goods")`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector
