"""Retention by age: bodies first, then attempts, then messages of delivered orders, last the keys that tell a repeat, and submissions.

Nothing of an order is deleted while any of it is open, nor what waits for an operator. Each call is a slice, one short transaction, so
that orders come in between. A walk starts at 0 and continues with what it returns, until that is None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from gateway.clock import to_ms
from gateway.store.row_names import Queue
from gateway.store.sqlite.core import Core
from gateway.store.sqlite.queues import ARRIVED, QUEUES
from gateway.store.sqlite.writer import Connection

# Columns to redact, the rows that have them, and what is kept: an open order's newest message, which shows its state; and the codes of an
# order while anything of it can be read, since they are masked there and printed again.
_READABLE = """
    EXISTS (SELECT 1 FROM orders WHERE orders.source = submit.source AND order_ref = subject AND (
        open = 1
        OR EXISTS (SELECT 1 FROM inbox INDEXED BY inbox_by_order
                    WHERE order_id = orders.id AND (status <> 'done' OR coalesce(document, fetched) IS NOT NULL))
        OR EXISTS (SELECT 1 FROM outbox INDEXED BY outbox_by_order
                    WHERE order_id = orders.id AND (status <> 'done' OR body IS NOT NULL))))"""
_SUBMITTED = "coalesce(body, answer, codes) IS NOT NULL"
REDACTABLE: tuple[tuple[Queue, tuple[str, ...], str, str], ...] = (
    ("inbox", ("document", "fetched", "reason"), "coalesce(document, fetched) IS NOT NULL", ""),
    (
        "outbox",
        ("body", "answer", "reason"),
        "body IS NOT NULL",
        """ AND (SELECT open = 0 OR outbox.id < (SELECT max(id) FROM outbox AS newer INDEXED BY outbox_by_order WHERE order_id = orders.id)
                 FROM orders WHERE orders.id = outbox.order_id)""",
    ),
    ("submit", ("body", "answer", "codes"), _SUBMITTED, f" AND NOT {_READABLE}"),
    ("submit", ("body", "answer"), f"{_SUBMITTED} AND coalesce(body, answer) IS NOT NULL", f" AND {_READABLE}"),
)


def redact(db: Connection, before_ms: int, limit: int) -> int:
    """Redact the bodies of rows settled before; return how many rows."""
    gone = 0
    for table, bodies, there, kept in REDACTABLE:
        found = f"SELECT id FROM {table} WHERE status = 'done' AND {there} AND settled_at_ms < ?{kept} LIMIT ?"
        rows = db.execute(found, (before_ms, limit)).fetchall()
        _rewrite(db, table, bodies, [row_id for (row_id,) in rows])
        db.executemany("DELETE FROM attempts WHERE queue = ? AND row_id = ?", [(table, row_id) for (row_id,) in rows])
        gone += len(rows)
    return gone


def _rewrite(db: Connection, table: str, without: Sequence[str], ids: list[int]) -> None:
    """Insert rows anew without some of their columns.

    An UPDATE would leave them on their pages, each nearly empty, for ever: SQLite puts pages together only where something is deleted.
    """
    names = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})").fetchall() if name not in without]
    columns, these = ", ".join(names), f"FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
    rows = db.execute(f"SELECT {columns} {these} ORDER BY id", (json.dumps(ids),)).fetchall()
    db.execute("PRAGMA defer_foreign_keys=ON")  # until the commit
    db.execute(f"DELETE {these}", (json.dumps(ids),))
    db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})", rows)


# Orders settled before a moment: nothing open, nothing waiting, no acknowledgement under way.
_SETTLED = """
    SELECT id FROM orders WHERE id > ?1 AND id <= ?2 AND open = 0
      AND NOT EXISTS (SELECT 1 FROM inbox INDEXED BY inbox_by_order
                       WHERE order_id = orders.id AND (inbox.status <> 'done' OR inbox.settled_at_ms >= ?3))
      AND NOT EXISTS (SELECT 1 FROM outbox INDEXED BY outbox_by_order
                       WHERE order_id = orders.id AND (outbox.status <> 'done' OR outbox.settled_at_ms >= ?3))
      AND NOT EXISTS (SELECT 1 FROM inbox INDEXED BY inbox_by_order
                        JOIN acknowledgements ON inbox_id = inbox.id AND acknowledgements.status <> 'done' WHERE order_id = orders.id)"""
_MADE = "id IN (SELECT id FROM inbox INDEXED BY inbox_by_order WHERE order_id = ?1)"
_PRUNE = (
    "DELETE FROM attempts WHERE queue = 'outbox' AND row_id IN (SELECT id FROM outbox INDEXED BY outbox_by_order WHERE order_id = ?1)",
    "DELETE FROM attempts WHERE queue = 'inbox' AND row_" + _MADE,
    "DELETE FROM acknowledgements WHERE inbox_" + _MADE + " AND id < (SELECT max(id) FROM acknowledgements)",
    "DELETE FROM outbox WHERE order_id = ?1 AND id < (SELECT max(id) FROM outbox)",
    "UPDATE inbox SET document = NULL, fetched = NULL, sha256 = NULL, fetched_sha256 = NULL, reason = NULL WHERE order_id = ?1",
)
_DELETE_ORDER = (
    "DELETE FROM inbox WHERE order_id = ?1 AND id < (SELECT max(id) FROM inbox) "
    "AND NOT EXISTS (SELECT 1 FROM acknowledgements WHERE inbox_id = inbox.id)",
    "DELETE FROM orders WHERE id = ?1 AND id < (SELECT max(id) FROM orders) "
    "AND NOT EXISTS (SELECT 1 FROM inbox INDEXED BY inbox_by_order WHERE order_id = ?1) "
    "AND NOT EXISTS (SELECT 1 FROM outbox INDEXED BY outbox_by_order WHERE order_id = ?1)",
)
# The parameters of each: the id before the slice, its last id, and the moment before which rows must be settled.
_OLD_ATTEMPTS = tuple(
    f"DELETE FROM attempts WHERE id > ? AND id <= ? AND queue = '{queue}' AND NOT EXISTS "
    f"(SELECT 1 FROM {queue} WHERE {queue}.id = row_id AND (status <> 'done' OR settled_at_ms >= ?))"
    for queue in QUEUES
)
_OF_NO_ORDER = "id > ? AND id <= ? AND order_id IS NULL AND status = 'done' AND settled_at_ms < ?"
_OLD_EVENTS = (
    "DELETE FROM acknowledgements WHERE status = 'done' AND id < (SELECT max(id) FROM acknowledgements) "
    f"AND inbox_id IN (SELECT id FROM inbox WHERE {_OF_NO_ORDER})",
    f"DELETE FROM inbox WHERE {_OF_NO_ORDER} AND id < (SELECT max(id) FROM inbox) "
    "AND NOT EXISTS (SELECT 1 FROM acknowledgements WHERE inbox_id = inbox.id)",
)
# A submission holds its key and the codes of its order: it is deleted after the order.
_ENDED = """
    SELECT id FROM submit WHERE id > ? AND id <= ? AND status = 'done' AND settled_at_ms < ? AND id < (SELECT max(id) FROM submit)
      AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.source = submit.source AND order_ref = subject)"""
_OLD_SUBMISSIONS = (
    f"DELETE FROM attempts WHERE queue = 'submit' AND row_id IN ({_ENDED})",
    f"DELETE FROM submit WHERE id IN ({_ENDED})",
)
_FREE_SHARE, _FREE_PAGES = 0.1, 1000
_HOUR_MS, _DAY_MS = 3600_000, 86400_000
_SIZES_KEPT_MS = 7 * _DAY_MS


class Retention(Core):
    """Part of `SqliteStore`; `gateway.store.retention.RetentionStore` describes the methods."""

    async def redact_bodies(self, before: datetime, limit: int) -> int:
        before_ms = to_ms(before)
        return await self._run(lambda db: redact(db, before_ms, limit))

    async def delete_attempts(self, before: datetime, after: int, limit: int) -> int | None:
        return await self._delete("attempts", "at_ms", _OLD_ATTEMPTS, before, after, limit)

    async def delete_events(self, before: datetime, after: int, limit: int) -> int | None:
        return await self._delete("inbox", ARRIVED["inbox"], _OLD_EVENTS, before, after, limit)

    async def delete_submissions(self, before: datetime, after: int, limit: int) -> int | None:
        return await self._delete("submit", ARRIVED["submit"], _OLD_SUBMISSIONS, before, after, limit)

    async def _delete(self, table: str, arrived: str, statements: Sequence[str], before: datetime, after: int, limit: int) -> int | None:
        """Run the statements for the next slice of a table, and return its last id; None if what comes next is younger."""
        before_ms, now_ms = to_ms(before), self._clock.now_ms()
        next_ids = f"SELECT id, {arrived} AS at_ms FROM {table} WHERE id > ? ORDER BY id LIMIT ?"

        def change(db: Connection) -> int | None:
            # Rows dated in the future, by a clock that was ahead, do not count as younger.
            slice_ = f"SELECT max(id), max(at_ms < ? OR at_ms > ?) FROM ({next_ids})"
            last, goes_on = db.execute(slice_, (before_ms, now_ms, after, limit)).fetchone()
            for statement in statements if goes_on else ():
                db.execute(statement, (after, last, before_ms))
            return int(last) if goes_on else None

        return await self._run(change)

    async def prune_orders(self, before: datetime, delete_before: datetime, after: int, limit: int) -> int | None:
        before_ms, delete_ms = to_ms(before), to_ms(delete_before)

        def change(db: Connection) -> int | None:
            (upto,) = db.execute("SELECT max(id) FROM (SELECT id FROM orders WHERE id > ? ORDER BY id LIMIT ?)", (after, limit)).fetchone()
            if upto is None:
                return None
            for order in _settled(db, after, upto, before_ms):
                targets = db.execute(
                    "SELECT DISTINCT target FROM outbox INDEXED BY outbox_by_order WHERE order_id = ?", (order,)
                ).fetchall()
                if targets:
                    (before_that,) = db.execute("SELECT sent FROM orders WHERE id = ?", (order,)).fetchone()
                    sent = {name for (name,) in targets}.union([] if before_that is None else json.loads(before_that))
                    db.execute("UPDATE orders SET sent = ? WHERE id = ?", (json.dumps(sorted(sent)), order))
                    _each(db, _PRUNE, order)
            for order in _settled(db, after, upto, delete_ms):
                _each(db, _DELETE_ORDER, order)
            return int(upto)

        return await self._run(change)

    async def return_free_pages(self, pages: int) -> bool:
        def change(db: Connection) -> bool:
            (free,), (all_,) = db.execute("PRAGMA freelist_count").fetchone(), db.execute("PRAGMA page_count").fetchone()
            if free <= max(_FREE_PAGES, all_ * _FREE_SHARE):
                return False
            db.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
            return True

        return await self._run(change)

    async def used_bytes(self) -> int:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> int:
            used = used_bytes(db)
            hour_ms = now_ms - now_ms % _HOUR_MS
            db.execute("INSERT INTO sizes (at_ms, used_bytes) VALUES (?,?) ON CONFLICT DO NOTHING", (hour_ms, used))
            db.execute("DELETE FROM sizes WHERE at_ms < ? OR at_ms > ?", (now_ms - _SIZES_KEPT_MS, now_ms))
            return used

        return await self._run(change)


def used_bytes(db: Connection) -> int:
    """Return how much of the file holds something."""
    (pages,), (free,), (size,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def days_left(sizes: Sequence[tuple[int, int]], free_bytes: int) -> float | None:
    """Return the days until the disk is full at the rate between the first and the last size, (ms, bytes); None without growth."""
    if len(sizes) < 2:
        return None
    (first_ms, first), (last_ms, last) = sizes[0], sizes[-1]
    grown, days = last - first, (last_ms - first_ms) / _DAY_MS
    return max(free_bytes, 0) / (grown / days) if grown > 0 and days > 0 else None


def _settled(db: Connection, after: int, upto: int, before_ms: int) -> list[int]:
    return [order for (order,) in db.execute(_SETTLED, (after, upto, before_ms)).fetchall()]


def _each(db: Connection, statements: tuple[str, ...], order: int) -> None:
    for statement in statements:
        db.execute(statement, (order,))
