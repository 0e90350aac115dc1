"""What every part of the SQLite store shares: the writer, the clock, and the bells that wake the engine."""

from __future__ import annotations

import asyncio
import secrets
from typing import TypeVar

from gateway.api.errors import LeaseLost
from gateway.clock import Clock, from_ms
from gateway.store.outcome import Settlement
from gateway.store.row_names import Queue
from gateway.store.sqlite.writer import Change, Connection, Writer

T = TypeVar("T")

# What the partial indexes of the queues are made of; a query must say it word for word to use them.
ACTIVE = "status IN ('ready', 'leased', 'unknown')"
WAITING = "status IN ('held', 'dead')"
_LEASE_BITS, _LEASED_MS = 21, 1 << 42

# The oldest open row of a lane has a due time; the others wait behind it with none.
_ADVANCE = {
    "inbox": """
        UPDATE inbox SET due_at_ms = ? WHERE due_at_ms IS NULL AND status = 'ready' AND id =
            (SELECT id FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND status <> 'done' ORDER BY id LIMIT 1)""",
    "outbox": """
        UPDATE outbox SET due_at_ms = ? WHERE due_at_ms IS NULL AND status = 'ready' AND id =
            (SELECT id FROM outbox INDEXED BY outbox_by_order
              WHERE order_id = ? AND target = ? AND status <> 'done' ORDER BY id LIMIT 1)""",
}


class Core:
    """The base of the store's parts."""

    _writer: Writer
    _clock: Clock
    _restored_ms: int | None = None

    def __init__(self) -> None:
        self._bells: dict[tuple[Queue, str], asyncio.Event] = {}
        self._last_message_ms: dict[str, int] = {}

    async def _run(self, change: Change[T], patience_s: float | None = None) -> T:
        return await self._writer.run(change, patience_s)

    async def outside(self, call: Change[T]) -> T:
        """Run something on the connection that may not stand inside a transaction."""
        return await self._writer.outside(call)

    def _ring(self, queue: Queue, name: str) -> None:
        self._bell(queue, name).set()

    def _ring_all(self) -> None:
        for bell in self._bells.values():
            bell.set()

    def _bell(self, queue: Queue, name: str) -> asyncio.Event:
        return self._bells.setdefault((queue, name), asyncio.Event())

    async def wait(self, queue: Queue, name: str, timeout_s: float) -> None:
        bell = self._bell(queue, name)
        try:
            async with asyncio.timeout(timeout_s):
                await bell.wait()
        except TimeoutError:
            pass
        bell.clear()


def new_lease(now_ms: int) -> int:
    """A fencing token: fits SQLite's integers, never 0. It says when it was made, so that no row needs a column for that."""
    return (now_ms % _LEASED_MS) << _LEASE_BITS | secrets.randbits(_LEASE_BITS) | 1


def leased_ms(lease: int) -> int:
    """When a lease was made, in milliseconds since 1970."""
    return lease >> _LEASE_BITS


def advance_inbox(db: Connection, order_id: int | None, now_ms: int) -> None:
    """Let the next row of an order's lane go, where one waits."""
    if order_id is not None:
        db.execute(_ADVANCE["inbox"], (now_ms, order_id))


def advance_outbox(db: Connection, order_id: int, target: str, now_ms: int) -> None:
    """The same for what waits for one target."""
    db.execute(_ADVANCE["outbox"], (now_ms, order_id, target))


def advance_messages(db: Connection, order_id: int, inbox_id: int, now_ms: int) -> None:
    """Let the messages go that waited for the version in this row, unless a later one is there to wait for."""
    if not is_overtaken(db, order_id, inbox_id):
        waiting = "SELECT DISTINCT target FROM outbox INDEXED BY outbox_by_order WHERE order_id = ? AND status = 'ready'"
        for (target,) in db.execute(waiting, (order_id,)).fetchall():
            advance_outbox(db, order_id, target, now_ms)


def is_overtaken(db: Connection, order_id: int | None, inbox_id: int) -> bool:
    """Whether a later version of the order is there, and has not been looked at yet."""
    later = "SELECT 1 FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND id > ? AND version > 1 AND status IN ('ready', 'leased')"
    return db.execute(f"{later} LIMIT 1", (order_id, inbox_id)).fetchone() is not None


def note_attempt(db: Connection, queue: Queue, row_id: int, attempt: int, end: Settlement) -> None:
    """Keep what was tried, for the operator."""
    db.execute(
        "INSERT INTO attempts (queue, row_id, attempt, at_ms, duration_ms, outcome, http_status, detail) VALUES (?,?,?,?,?,?,?,?)",
        (queue, row_id, attempt, end.started_at_ms, end.duration_ms, end.outcome, end.http_status, end.detail or end.reason),
    )


def due(end: Settlement, now_ms: int) -> int | None:
    """The due time of a row that ends as `end` says."""
    return now_ms + round(end.due_in_s * 1000) if end.status in ("ready", "unknown") else None


def must_change(cursor: object, what: str) -> None:
    """Refuse a late result: the row is no longer this worker's."""
    if getattr(cursor, "rowcount", 0) != 1:
        raise LeaseLost(what)


__all__ = [
    "Core",
    "advance_inbox",
    "advance_messages",
    "advance_outbox",
    "due",
    "from_ms",
    "is_overtaken",
    "leased_ms",
    "must_change",
    "new_lease",
    "note_attempt",
]
