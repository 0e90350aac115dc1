"""A simulated Apicbase, settings for it, and a gateway's parts around the plugin: store, doors, prepare step."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import gateway_apicbase
import pytest
from gateway_apicbase.settings import Settings
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway import Envelope, Event, Order, Secret, TextList, Unreadable, Url, VendorClient
from gateway.plugin.connector import Connector
from gateway.testing import Bench, ManualClock, source_bench, vendor_client

SECRET = "constructed-secret-do-not-use"


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[ApicbaseSimulator]:
    async with ApicbaseSimulator(now=clock.now, prefix="c") as simulator:
        yield simulator


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


class BothDoors(Bench):
    async def webhook(self, body: bytes, signature: str) -> tuple[int, Any]:
        return await self.post(body, X_APIC_WEBHOOK_SIGNATURE=signature)


@pytest.fixture
async def bench(simulator: ApicbaseSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(on_revision="replace", refuse=("empty_order",))`"""
    async with AsyncExitStack() as stack:

        async def make(*, on_revision: Any = "hold", **changes: Any) -> BothDoors:
            settings = make_settings(simulator, **changes)
            made = source_bench(gateway_apicbase, settings, tmp_path, clock, name="apicbase", on_revision=on_revision, kind=BothDoors)
            return await stack.enter_async_context(made)

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(simulator, refuse=("empty_order",))`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector


def encoded(body: bytes | dict[str, Any]) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def ingest(clock: ManualClock) -> Callable[..., Event]:
    def call(body: bytes | dict[str, Any], **changes: Any) -> Event:
        envelope = Envelope(source="apicbase", body=encoded(body), headers=[], received_at=clock.now())
        (event,) = gateway_apicbase.ingest(envelope, make_settings(**changes))
        return event

    return call


@pytest.fixture
def normalize() -> Callable[..., Order]:
    def call(body: bytes | dict[str, Any], **changes: Any) -> Order:
        return gateway_apicbase.normalize(Event(key="k", order_ref="k"), encoded(body), make_settings(**changes))

    return call
