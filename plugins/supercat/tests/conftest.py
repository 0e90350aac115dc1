"""A simulated SuperCat, settings for it, and a gateway's parts around the plugin: store, poller, prepare step, marks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import gateway_supercat
import pytest
from gateway_supercat.constructed import EXAMPLE
from gateway_supercat.settings import Settings, Start
from gateway_supercat.simulator import SupercatSimulator

from gateway import Event, Mapping, Secret, Unreadable, Url, VendorClient
from gateway.plugin.connector import Connector
from gateway.testing import Bench, ManualClock, source_bench, vendor_client


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[SupercatSimulator]:
    async with SupercatSimulator(now=clock.now, history=0) as simulator:
        yield simulator


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


@pytest.fixture
async def bench(simulator: SupercatSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(on_revision="replace", mark="delivered")`"""
    async with AsyncExitStack() as stack:

        async def make(*, on_revision: Any = "hold", **changes: Any) -> Bench:
            settings = make_settings(simulator, **changes)
            return await stack.enter_async_context(
                source_bench(gateway_supercat, settings, tmp_path, clock, name="supercat", on_revision=on_revision)
            )

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(text_lines="goods")`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector
