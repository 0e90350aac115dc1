"""A connector between a real store and its vendor's simulator, without the rest of a gateway: for a plugin's own tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

import aiohttp
import msgspec

from gateway.api.order import Kind
from gateway.clock import Clock
from gateway.config.settings import OnRevision
from gateway.edge.poller import Poller
from gateway.edge.server import Listener
from gateway.edge.webhook import WebhookDoor
from gateway.engine.acknowledge import Acknowledge
from gateway.engine.prepare import Prepare
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.source import Destination, Keys, Source
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.testing.vendor import vendor_client

_LARGEST_BODY = 1024 * 1024


class Bench:
    """Source without a running service: each call does one step of the work, and has done it when it returns.

    Attributes:
        url: Address of its webhook door; empty if it has none.
        poller: `round()` asks the vendor once, page after page.
        prepare: `run_once()` makes canonical orders of a batch of stored events.
        acknowledge: `run_once()` acknowledges a batch of orders at the vendor.
        reader: The operator's view, by `rows(queue)` and `show(key)`.
    """

    def __init__(self, source: Source, store: SqliteStore, reader: SqliteReader, metrics: Metrics, clock: Clock) -> None:
        self.source, self.store, self.reader, self.metrics, self.clock = source, store, reader, metrics, clock
        self.poller = Poller(source, store, metrics, clock)
        self.prepare = Prepare(source, store, metrics, clock)
        self.acknowledge = Acknowledge(source, store, metrics, clock)
        self.url = ""
        self._session: aiohttp.ClientSession

    async def post(self, body: bytes, **headers: str) -> tuple[int, Any]:
        """Send a webhook; return status and answer. `X_Signature="..."` is the header `X-Signature`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.post(self.url, data=body, headers=named) as answer:
            return answer.status, await answer.json()

    async def prepared(self) -> None:
        """Prepare all that is due."""
        while await self.prepare.run_once():
            pass

    async def acknowledged(self) -> None:
        """Acknowledge all that is due."""
        while await self.acknowledge.run_once():
            pass

    async def sent(self) -> list[dict[str, Any]]:
        """Prepare what is due and mark it delivered; return the messages."""
        messages = []
        await self.prepared()
        while rows := await self.store.lease_outbox("erp", 100):
            for row in rows:
                messages.append(msgspec.json.decode(row.body or b""))
                end = Settlement(status="done", outcome="delivered")
                await self.store.settle_outbox(row, end, acknowledge="delivered" in self.source.stages)
        return messages

    async def round(self) -> list[dict[str, Any]]:
        """Poll once, then do what `sent` does."""
        await self.poller.round()
        return await self.sent()

    async def inbox(self, *columns: str) -> list[Any]:
        """Return the rows of the inbox, oldest first: dicts, or tuples of some columns."""
        rows = list(reversed(await self.reader.rows("inbox")))
        return [tuple(row[column] for column in columns) for row in rows] if columns else rows

    async def outcome(self, key: str) -> tuple[str, str, str]:
        """Return status and reason of an event, and its last attempt as an operator sees it."""
        (row,) = [row for row in await self.inbox() if row["key"] == f"{self.source.name}/{key}"]
        shown = await self.reader.show(key)
        return row["status"], row["reason"] or "", json.dumps(shown, default=str)

    def door(self, door: str = "poll") -> tuple[str, str]:
        """Return the state of a door and the reason for it, as in `gateway status`."""
        condition = self.metrics.health.doors[self.source.name, door]
        return condition.state, condition.reason or ""


B = TypeVar("B", bound=Bench)


@asynccontextmanager
async def source_bench(
    module: ModuleType,
    settings: object,
    folder: Path,
    clock: Clock,
    *,
    name: str = "vendor",
    on_revision: OnRevision = "hold",
    keys: Keys | None = None,
    kind: Callable[[Source, SqliteStore, SqliteReader, Metrics, Clock], B] = Bench,  # type: ignore[assignment]
) -> AsyncIterator[B]:
    """Build a bench for a source of a connector, with all its doors; the store is a new file in `folder`.

    Args:
        module: The plugin's module or object with the hooks.
        settings: As `describe()["settings"]` says.
        name: The source's.
    """
    connector = Connector(module, name)
    connector.settings = settings
    async with AsyncExitStack() as stack:
        store = SqliteStore(folder / "gateway.db", clock=clock)
        await store.open()
        stack.push_async_callback(store.close)
        await store.register([name])
        api = connector.api()
        metrics = Metrics(clock)
        source = Source(
            name=name,
            connector=connector,
            doors=connector.doors,
            on_revision=on_revision,
            destinations=(Destination(target="erp", accepts=frozenset(get_args(Kind))),),
            stages=connector.stages(),
            max_body_bytes=connector.max_body_bytes(_LARGEST_BODY),
            max_requests_per_second=1000,
            since=clock.now(),
            vendor=name,
            client=await stack.enter_async_context(vendor_client(api, clock)) if api else None,
            keys=keys,
        )
        reader = SqliteReader(folder / "gateway.db", clock)
        await reader.open()
        stack.push_async_callback(reader.close)
        bench = kind(source, store, reader, metrics, clock)
        if "webhook" in source.doors:
            door = WebhookDoor(store, metrics, clock)
            door.sources = {name: source}
            listener = Listener(door.receive, max_connections=100)
            await listener.start("127.0.0.1", 0)
            stack.push_async_callback(listener.close, 1)
            bench.url = f"http://127.0.0.1:{listener.port}/in/{name}"
            bench._session = await stack.enter_async_context(aiohttp.ClientSession())
        yield bench
