"""A simulated Pickup Cloud, settings for it, and a gateway's parts around the plugin: store, intake, poller, prepare step."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import gateway_pickup_cloud
import msgspec
import pytest
from gateway_pickup_cloud.settings import Settings
from gateway_pickup_cloud.simulator import PickupCloudSimulator

from gateway import Secret, Url
from gateway.connector import Connector
from gateway.edge.intake import Intake
from gateway.edge.poller import Poller
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
async def simulator(clock: ManualClock) -> AsyncIterator[PickupCloudSimulator]:
    simulator = PickupCloudSimulator(now=clock.now, prefix="c")
    await simulator.start()
    yield simulator
    await simulator.stop()


def make_settings(simulator: PickupCloudSimulator | None = None, **changes: Any) -> Settings:
    values: dict[str, Any] = {"api_key": Secret("constructed-key-do-not-use", origin="test")}
    if simulator is not None:
        values |= {"base_url": Url(simulator.address), "hub_url": Url(simulator.hub.url), "calls_per_minute": 6000}
    return Settings(**values | changes)


def make_connector(settings: Settings) -> Connector:
    connector = Connector(gateway_pickup_cloud, "pickup_cloud")
    connector.settings = settings
    return connector


class Bench:
    """One source on a real store, with REST at a simulator; everything happens when it is told to."""

    def __init__(self, source: Source, store: SqliteStore, clock: ManualClock) -> None:
        vitals = Vitals(clock)
        self.source, self.store, self.clock = source, store, clock
        self.poller = Poller(source, store, vitals, clock)
        self.prepare = Prepare(source, store, clock)
        self._intake = Intake(source, store, vitals, clock)
        self.reader: SqliteReader

    async def push(self, target: str, *arguments: Any) -> None:
        """One call of the hub, committed."""
        await self._intake.put(json.dumps({"target": target, "arguments": arguments}, ensure_ascii=False).encode())
        await self._intake._accept([self._intake._waiting.popleft()])

    async def resync(self) -> None:
        await self.poller.round()

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

    async def outcomes(self) -> list[tuple[str, str | None]]:
        """Outcome and reason of every row, in the order in which they came."""
        return [(row["outcome"] or row["status"], row["reason"]) for row in await self.inbox()]


@pytest.fixture
async def bench(simulator: PickupCloudSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(forward_personal_data=True)`; what the simulator pushes goes straight to its intake."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Bench:
            connector = make_connector(make_settings(simulator, **changes))
            api = connector.api()
            assert api is not None
            store = SqliteStore(tmp_path / "gateway.db", clock=clock)
            await store.open()
            stack.push_async_callback(store.close)
            await store.register(["pickup_cloud"])
            source = Source(
                name="pickup_cloud",
                connector=connector,
                doors=("poll", "realtime"),
                on_revision="hold",
                destinations=(Destination(target="erp", accepts=EVERY_KIND),),  # type: ignore[arg-type]
                stages=connector.stages(),
                max_body_bytes=1024 * 1024,
                max_requests_per_second=1000,
                since=clock.now(),
                vendor="pickup_cloud",
                client=await stack.enter_async_context(vendor_client(api, clock)),
            )
            made = Bench(source, store, clock)
            made.reader = SqliteReader(tmp_path / "gateway.db")
            await made.reader.open()
            stack.push_async_callback(made.reader.close)
            simulator.push = made.push  # type: ignore[method-assign]
            return made

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(simulator, time_zone="UTC")`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector


def at(hour: int, minute: int, day: int = 31) -> datetime:
    return datetime.fromisoformat(f"2024-03-{day:02}T{hour:02}:{minute:02}:00+00:00")


TEXT = (Path(__file__).parent / "vendor_examples.txt").read_text("utf-8")
_BODIES = {"curl": r"--data '\n(\{.*?\n\})\n'", "http": r"HTTP/1\.1\n.*?\n\n(\{.*?\})\n", "javascript": r"body: '(\{.*?\})'\n"}


@pytest.fixture(params=_BODIES)
def example(request: pytest.FixtureRequest) -> str:
    """The body of an example request of the vendor's page on recurrent orders, word for word (seed 001)."""
    found = re.search(_BODIES[request.param], TEXT, re.DOTALL)
    assert found is not None
    return found[1]
