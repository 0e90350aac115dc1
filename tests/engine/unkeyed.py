"""A desk at which a test moves one target's deliveries by hand: a real store and a real ERP, and a clock that stands still."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.api.order import Line, Message, Order, decimal, encode
from gateway.config.decode import decode
from gateway.config.positions import read
from gateway.config.report import Report
from gateway.engine.deliver import Deliver
from gateway.metrics import Metrics
from gateway.store.arrivals import NewEvent
from gateway.store.rows import Delivery, Prepared
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.targets.http import HttpTarget
from gateway.targets.settings import TargetSettings
from gateway.testing import ErpSimulator, ManualClock

LOOKUP = """
idempotency = { strategy = "lookup" }
[preflight]
url = "URL"
query = { name = "{order.order_ref}" }
found = "$count(body.value) > 0"
id = "body.value.id"
number = "body.value[0].number"
[capture]
erp_id = "body.id"
erp_number = "body.number"
"""
KEY = 'idempotency = { strategy = "KIND" }\n'


def message(ref: str, n: int = 1, kind: Any = "order.placed", articles: int = 1, at: Any = None) -> bytes:
    lines = tuple(Line(line_number=k + 1, article_number=f"A{k + 1}", quantity=decimal("2")) for k in range(articles))
    order = Order(order_ref=ref, order_number=ref, currency="EUR", lines=lines)
    return encode(Message(key=f"acme/{ref}/{n}", kind=kind, source="acme", vendor="acme", occurred_at=at, received_at=at, order=order))


def settings(text: str, url: str, **more: Any) -> TargetSettings:
    report = Report({}, Path("gateway.toml"))
    table = {"url": url, "read_timeout_s": 0.3, "connect_timeout_s": 0.5, **read(text.replace("URL", url)), **more}
    made = decode(TargetSettings, table, ("targets", "erp"), report)
    assert made is not None, report.problems
    return made


class Desk:
    """One target and its deliveries."""

    def __init__(self, store: SqliteStore, path: Path, clock: ManualClock, erp: ErpSimulator, text: str, **more: Any) -> None:
        self.store = store
        self.clock = clock
        self.erp = erp
        self._path = path
        self.target = HttpTarget("erp", settings(text, erp.url, **more), clock)
        self.metrics = Metrics(clock)
        self.deliver = Deliver(self.target, {}, store, self.metrics, clock)

    async def order(self, ref: str, n: int = 1, kind: Any = "order.placed", articles: int = 1) -> None:
        """An order that is ready to be delivered."""
        body = message(ref, n, kind, articles, self.clock.now())
        digest = hashlib.sha256(body).digest()
        await self.store.accept("acme", "webhook", [NewEvent(key=ref, order_ref=ref, document=b"{}", sha256=digest, content=digest)])
        (row,) = await self.store.lease_inbox("acme", 10)
        delivery = Delivery(target="erp", kind=kind, body=body, sha256=digest)
        await self.store.prepared([Prepared(row=row, key=f"acme/{ref}/{n}", n=n, deliveries=(delivery,))])

    async def run_once(self, worker: Deliver | None = None, limit: int = 100) -> int:
        """Everything that is due is tried once."""
        worker = worker or self.deliver
        leased = await worker._start_up_to(limit)
        while worker._tasks:
            await asyncio.gather(*worker._tasks)
        return leased

    async def pass_time(self, seconds: float, step_s: float = 10.0) -> None:
        """Time goes by, and whatever comes due is tried."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            await self.run_once()

    async def rows(self) -> dict[str, dict[str, Any]]:
        reader = SqliteReader(self._path)
        await reader.open()
        found = await reader.rows("outbox", limit=1000)
        await reader.close()
        return {row["key"]: row for row in found}

    async def shown(self, name: str) -> dict[str, Any]:
        """What `gateway show` has of one row."""
        reader = SqliteReader(self._path)
        await reader.open()
        (found,) = await reader.show(name)
        await reader.close()
        return found

    async def row(self, ref: str = "o1") -> dict[str, Any]:
        return (await self.rows())[f"acme/{ref}/1"]

    async def state(self, ref: str = "o1") -> tuple[str, str | None]:
        row = await self.row(ref)
        return row["status"], row["outcome"]


@asynccontextmanager
async def desk(folder: Path, text: str = LOOKUP, **more: Any) -> AsyncIterator[Desk]:
    """An ERP that makes an order of every request, and a target that is set up with `text`."""
    clock = ManualClock()
    erp = ErpSimulator(honours_key=False)
    await erp.start()
    store = SqliteStore(folder / "gateway.db", clock=clock)
    await store.open()
    await store.register(["acme"])
    made = Desk(store, folder / "gateway.db", clock, erp, text, **more)
    await made.target.open()
    try:
        yield made
    finally:
        await made.target.close()
        await store.close()
        await erp.stop()
