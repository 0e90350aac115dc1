"""A store whose days pass by hand, and what tidies it: for the tests of what is let go of."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.config.settings import StoreSettings
from gateway.service.retention import RetentionJob
from gateway.store.arrivals import NewEvent
from gateway.store.outcome import Settlement
from gateway.store.rows import Delivery, Prepared
from gateway.store.sqlite import SqliteStore
from gateway.testing import ManualClock

DAY_S = 86400.0
DONE = Settlement(status="done", outcome="delivered")
RETRY = Settlement(status="ready", outcome="retry")
BODY = b"x" * 600


class Shelf:
    """A store, its clock and what tidies it."""

    def __init__(self, store: SqliteStore, clock: ManualClock, path: Path, **settings: Any) -> None:
        self.store = store
        self.clock = clock
        self.path = path
        self.settings = StoreSettings(**settings)
        self.house = RetentionJob(store, clock, lambda: self.settings)

    async def orders(self, *refs: str, status: str = "done", content: bytes = b"1", target: str = "erp") -> None:
        """Orders that came just now, and how far they are: `open`, `retried` or `done`."""
        digest = hashlib.sha256(content).digest()
        sha256 = hashlib.sha256(BODY).digest()
        await self.store.accept(
            "acme", "webhook", [NewEvent(key=ref, order_ref=ref, document=BODY, sha256=sha256, content=digest) for ref in refs]
        )
        rows = await self.store.lease_inbox("acme", len(refs))
        made = [
            Prepared(
                row=row,
                key=f"acme/{row.order_ref}/{row.messages + 1}",
                n=row.messages + 1,
                deliveries=(Delivery(target=target, kind="order.placed", body=BODY, sha256=sha256),),
            )
            for row in rows
        ]
        await self.store.prepared(made)
        leased = await self.store.lease_outbox(target, 10_000) if status != "open" else ()
        mine = [row for row in leased if row.order_ref in set(refs)]
        for some in (mine[n : n + 100] for n in range(0, len(mine), 100)):  # the writing thread takes them in one commit
            await asyncio.gather(*(self.store.settle_outbox(row, RETRY if status == "retried" else DONE) for row in some))

    async def acknowledged(self, ref: str) -> None:
        """An order that its vendor was told of."""
        sha256, digest = hashlib.sha256(BODY).digest(), hashlib.sha256(b"1").digest()
        event = NewEvent(key=ref, order_ref=ref, document=BODY, sha256=sha256, content=digest, acknowledge="stored")
        await self.store.accept("acme", "webhook", [event])
        await self.confirm()
        await self.orders(ref)

    async def confirm(self) -> None:
        await self.store.settle_acknowledgements([(row, DONE) for row in await self.store.lease_acknowledgements("acme", 10)])

    async def tidy(self) -> None:
        """A whole round."""
        self.clock.advance(3601)
        await self.house.run_once()
        while self.house.busy:
            await self.house.run_once()

    def count(self, what: str) -> int:
        with sqlite3.connect(self.path) as db:
            found: int = db.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
            return found


@asynccontextmanager
async def a_shelf(folder: Path) -> AsyncIterator[Shelf]:
    """Bodies are kept for 2 days, attempts for 4, orders for 10, keys for 20."""
    clock = ManualClock()
    store = SqliteStore(folder / "gateway.db", clock=clock)
    await store.open()
    await store.register(["acme"])
    yield Shelf(store, clock, folder / "gateway.db", keep_bodies_days=2, keep_attempts_days=4, keep_orders_days=10, keep_keys_days=20)
    await store.close()
