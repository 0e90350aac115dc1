"""A simulated Scalepoint, settings for it, and a gateway's parts around the plugin: store, doors, prepare step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
import gateway_scalepoint
import msgspec
import pytest
from gateway_scalepoint.identity import Pair, make_pair
from gateway_scalepoint.settings import Settings, Start
from gateway_scalepoint.simulator import ScalepointSimulator

from gateway import Mapping, Secret, Url
from gateway.connector import Connector
from gateway.edge.poller import Poller
from gateway.edge.server import Listener
from gateway.edge.webhook import WebhookDoor
from gateway.engine.prepare import Prepare
from gateway.source import Destination, Source
from gateway.store.base import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reading import SqliteReader
from gateway.testing import ManualClock, vendor_client
from gateway.vitals import Vitals
from gateway.webhook_auth import BearerToken

SECRET = "constructed-secret-do-not-use"
EVERY_KIND = frozenset({"order.placed", "order.revised", "order.cancelled", "order.status"})
EXAMPLES = Path(str(files("gateway_scalepoint").joinpath("examples")))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[ScalepointSimulator]:
    simulator = ScalepointSimulator(now=clock.now, prefix="0A1B2C3D")
    simulator.hold_s = 0.05
    await simulator.start()
    yield simulator
    await simulator.stop()


def secret(text: str) -> Secret:
    return Secret(text, origin="test")


@lru_cache
def pair(name: str = "one") -> Pair:
    return make_pair(ManualClock().now())


@lru_cache
def mapping() -> Mapping:
    return Mapping.from_reference("scalepoint.jsonata", EXAMPLES)


def make_settings(simulator: ScalepointSimulator | None = None, **changes: Any) -> Settings:
    values: dict[str, Any] = {"webhook_auth": BearerToken(token=secret(SECRET)), "mapping": mapping(), "currency": "DKK"}
    if simulator is not None:
        made = pair("one")
        simulator.identity.registered[made.x5t] = made
        said = simulator.settings()
        values |= {
            "order_url": Url(said["order_url"]),
            "receive_url": Url(said["receive_url"]),
            "token_url": Url(said["token_url"]),
            "client_id": said["client_id"],
            "scope": said["scope"],
            "private_key": secret(made.key),
            "certificate": secret(made.certificate),
            "start": Start(after_event="_900000"),
        }
    return Settings(**values | changes)


def make_connector(settings: Settings) -> Connector:
    connector = Connector(gateway_scalepoint, "claims")
    connector.settings = settings
    return connector


class Bench:
    """One source with both doors on a real store; everything happens when it is told to."""

    def __init__(self, source: Source, store: SqliteStore, clock: ManualClock, door: Listener, vitals: Vitals) -> None:
        self.source, self.store, self.clock, self.vitals = source, store, clock, vitals
        self.poller = Poller(source, store, vitals, clock)
        self.prepare = Prepare(source, store, clock)
        self.url = f"http://127.0.0.1:{door.port}/in/claims"
        self.reader: SqliteReader
        self.session: aiohttp.ClientSession

    async def webhook(self, body: Any, proof: str = f"Bearer {SECRET}") -> tuple[int, Any]:
        sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.session.post(self.url, data=sent, headers={"Authorization": proof}) as answer:
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

    async def cursor(self) -> str | None:
        return await self.store.cursor("claims", "poll")


@pytest.fixture
async def bench(simulator: ScalepointSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(on_revision="replace", order_at="data")`"""
    async with AsyncExitStack() as stack:

        async def make(*, on_revision: Any = "hold", keys: Any = None, **changes: Any) -> Bench:
            connector = make_connector(make_settings(simulator, **changes))
            api = connector.api()
            assert api is not None
            store = SqliteStore(tmp_path / "gateway.db", clock=clock)
            await store.open()
            stack.push_async_callback(store.close)
            await store.register(["claims"])
            source = Source(
                name="claims",
                connector=connector,
                doors=("webhook", "poll"),
                on_revision=on_revision,
                destinations=(Destination(target="erp", accepts=EVERY_KIND),),  # type: ignore[arg-type]
                stages=connector.stages(),
                max_body_bytes=connector.max_body_bytes(1024 * 1024),
                max_requests_per_second=1000,
                since=clock.now(),
                vendor="scalepoint",
                client=await stack.enter_async_context(vendor_client(api, clock)),
                keys=keys,
            )
            vitals = Vitals(clock)
            door = WebhookDoor(store, vitals, clock)
            door.sources = {"claims": source}
            listener = Listener(door.receive, max_connections=100)
            await listener.start("127.0.0.1", 0)
            stack.push_async_callback(listener.close, 1)
            made = Bench(source, store, clock, listener, vitals)
            made.session = await stack.enter_async_context(aiohttp.ClientSession())
            made.reader = SqliteReader(tmp_path / "gateway.db")
            await made.reader.open()
            stack.push_async_callback(made.reader.close)
            return made

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(simulator, order_at="data")`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector


@pytest.fixture
def pairs() -> Callable[[str], Pair]:
    """`pairs("two")`: a key and its certificate, the same for the same name."""
    return pair
