"""Orders that wait: a database seeded through the store's own methods, so that it is one that the gateway could have written.

Half of them wait for a target that cannot be reached; the other half are for the measured target itself, and wait for a person: what
is due later is sent as soon as a target is released.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import datetime
from pathlib import Path

from benchmarks.contestants import SOURCE
from benchmarks.orders import PLACE, body, order_id
from gateway.api.order import Line, Message, Order, decimal, encode
from gateway.clock import SystemClock
from gateway.store.arrivals import NewEvent
from gateway.store.outcome import Settlement
from gateway.store.rows import Delivery, InboxRow, Prepared
from gateway.store.sqlite import SqliteStore

_AT_ONCE = 1000


def seed(database: Path, count: int) -> float:
    """Fill a new database with so many waiting orders; the seconds it took."""
    began = time.monotonic()
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_seed(database, "unreachable", "down", count // 2))
    asyncio.run(_seed(database, "held", "erp", count - count // 2, held=True))
    return time.monotonic() - began


async def _seed(database: Path, prefix: str, target: str, count: int, held: bool = False) -> None:
    clock = SystemClock()
    store = SqliteStore(database, clock=clock)
    await store.open()
    await store.register([SOURCE])
    for first in range(0, count, _AT_ONCE):
        events = [incoming(prefix, n, clock.now()) for n in range(first, min(first + _AT_ONCE, count))]
        await store.accept(SOURCE, "webhook", events)
        rows = await store.lease_inbox(SOURCE, _AT_ONCE)
        await store.prepared([prepared(row, target) for row in rows])
        if held:
            again = Settlement(status="held", outcome="held", reason="a person decides")
            leased = await store.lease_outbox(target, _AT_ONCE)
            await asyncio.gather(*(store.settle_outbox(row, again) for row in leased))
    await store.checkpoint(truncate=True)
    await store.close()


def incoming(prefix: str, n: int, now: datetime) -> NewEvent:
    """An order as the webhook door hands it over."""
    document = body(prefix, n)
    digest = hashlib.sha256(document).digest()
    name = order_id(prefix, n)
    return NewEvent(key=name, order_ref=name, document=document, sha256=digest, content=digest, occurred_at=now)


def prepared(row: InboxRow, target: str) -> Prepared:
    """What the prepare step would make of it."""
    assert row.order_ref is not None
    message = _MESSAGE.replace(PLACE.encode(), row.order_ref.encode())
    delivery = Delivery(target=target, kind="order.placed", body=message, sha256=hashlib.sha256(message).digest())
    return Prepared(row=row, key=f"{SOURCE}/{row.order_ref}/1", n=1, deliveries=(delivery,))


def _message() -> bytes:
    line = Line(line_number=1, article_number="000451-2", name="Crème fraîche 30%", quantity=decimal("4"), unit_price=decimal("12.3450"))
    order = Order(order_ref=PLACE, order_number="PO-2024-00317", currency="EUR", total=decimal("49.38"), lines=(line,))
    at = SystemClock().now()
    return encode(
        Message(key=f"{SOURCE}/{PLACE}/1", kind="order.placed", source=SOURCE, vendor="bench", occurred_at=at, received_at=at, order=order)
    )


_MESSAGE = _message()
