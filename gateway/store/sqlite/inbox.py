"""Inbox: accept, lease, prepare, settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Literal

from gateway.api.errors import StoreBusy
from gateway.api.messages import Door
from gateway.clock import from_ms
from gateway.store.arrivals import Accepted, Compared, NewEvent
from gateway.store.outcome import Settlement
from gateway.store.rows import InboxRow, OpenOrder, Prepared
from gateway.store.sqlite.accept import Accept, accept_all
from gateway.store.sqlite.bulk_insert import prepare_all, sent_before
from gateway.store.sqlite.core import Core
from gateway.store.sqlite.queues import advance, advance_messages, decode, mark_leased, new_lease, settle, update_leased
from gateway.store.sqlite.versions import had_before, standing
from gateway.store.sqlite.writer import Connection

_LEASE = """
    SELECT inbox.id, source, door, key, version, inbox.order_id, orders.order_ref, coalesce(orders.messages, 0), attempts + 1, released,
           reference, occurred_at_ms, received_at_ms, document, sha256, fetch, content_checked, orders.rejected, fetched, fetched_sha256
    FROM inbox INDEXED BY inbox_active
    LEFT JOIN (SELECT id, order_ref, messages, rejected FROM orders) AS orders ON orders.id = inbox.order_id
    WHERE source = ? AND status IN ('ready', 'leased', 'unknown') AND due_at_ms <= ? ORDER BY due_at_ms, inbox.id LIMIT ?"""


_NEWEST_MESSAGE = "SELECT body FROM outbox INDEXED BY outbox_by_order WHERE order_id = ? AND body IS NOT NULL ORDER BY id DESC LIMIT 1"
_OPEN = """
    SELECT id, order_ref, (SELECT body FROM outbox INDEXED BY outbox_by_order WHERE order_id = orders.id AND body IS NOT NULL
                           ORDER BY outbox.id DESC LIMIT 1)
    FROM orders INDEXED BY orders_open WHERE source = ? AND open = 1 AND id > ? ORDER BY id LIMIT ?"""


_CROWD, _CROWD_S, _TURN_S = 4, 0.02, 0.01
_OFTEN = 3


def _is_suspect(row: InboxRow) -> bool:
    return row.attempts > _OFTEN  # with the one that begins now


class Inbox(Core):
    """Part of `SqliteStore`; `gateway.store.base.Store` describes the methods."""

    _arriving, _crowded_at = 0, -_CROWD_S

    async def register(self, sources: Sequence[str]) -> dict[str, datetime]:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> dict[str, datetime]:
            db.executemany(
                "INSERT INTO sources (name, first_started_ms) VALUES (?,?) ON CONFLICT DO NOTHING", [(s, now_ms) for s in sources]
            )
            found = db.execute("SELECT name, first_started_ms FROM sources").fetchall()
            return {name: from_ms(ms) for name, ms in found}

        return await self._run(change)

    async def cursor(self, source: str, door: Door) -> str | None:
        found = await self._first("SELECT cursor FROM cursors WHERE source = ? AND door = ?", (source, door))
        return found and str(found[0])

    async def accept(
        self, source: str, door: Door, events: Sequence[NewEvent], *, cursor: str | None = None, patience_s: float | None = None
    ) -> list[Accepted]:
        if self.refusing:
            raise StoreBusy(self.refusing)
        now_ms = self._clock.now_ms()
        self._arriving += len(events)
        if self._arriving >= _CROWD:
            self._crowded_at = time.monotonic()
        try:
            accepted = await self._run(Accept(source, door, events, cursor, now_ms), patience_s)
        finally:
            self._arriving -= len(events)
        if events:
            self._last_message_ms[source] = now_ms
        self._wake("inbox", source)
        if any(event.acknowledge for event in events):
            self._wake("acknowledgements", source)
        return accepted

    async def reaccept(self, row: InboxRow, events: Sequence[NewEvent]) -> list[Accepted]:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> list[Accepted]:
            update_leased(db, "inbox", row, "status = 'done', outcome = 'reread', lease = NULL, settled_at_ms = ?", (now_ms,))
            accepted = accept_all(db, [(row.source, row.door, event, now_ms) for event in events], read_again=row.id)
            for event, one in zip(events, accepted, strict=True):
                if one.key == row.key:  # its event's key is another order's, as before; or it still cannot be read
                    reason = one.flagged or event.dead
                    db.execute("UPDATE inbox SET status = 'dead', outcome = 'dead', reason = ? WHERE id = ?", (reason, row.id))
            return accepted

        accepted = await self._run(change)
        self._wake("inbox", row.source)
        return accepted

    def _is_crowded(self) -> bool:
        return self._arriving >= _CROWD or time.monotonic() - self._crowded_at < _CROWD_S

    async def lease_inbox(self, source: str, limit: int, *, give_way_s: float = 0.0) -> list[InboxRow]:
        for _ in range(round(give_way_s / _TURN_S)):
            if not self._is_crowded():
                break
            await asyncio.sleep(_TURN_S)  # they compete for this machine's time, whatever the clock says
        now_ms, lease = self._clock.now_ms(), new_lease(self._clock.now_ms())

        def change(db: Connection) -> list[InboxRow]:
            due = [decode(InboxRow, found, lease=lease) for found in db.execute(_LEASE, (source, now_ms, limit)).fetchall()]
            # Lease a frequently failing row alone: a crash is then attributed to it and not to its batch (maintenance.release_all_leases).
            rows = due[:1] if due and _is_suspect(due[0]) else list(takewhile(lambda row: not _is_suspect(row), due))
            return mark_leased(db, "inbox", rows)

        return await self._run(change)

    async def keep_document(self, row: InboxRow, document: bytes, sha256: bytes) -> None:
        await self._run(lambda db: update_leased(db, "inbox", row, "fetched = ?, fetched_sha256 = ?", (document, sha256)))

    async def compare(self, row: InboxRow, content: bytes, *, sends_earlier: bool = False) -> Compared:
        def change(db: Connection) -> Compared:
            newest, versions = db.execute("SELECT content, versions FROM orders WHERE id = ?", (row.order_id,)).fetchone()
            if newest == content:
                return Compared(verdict="same", version=versions)
            found = standing(db, row.order_id, content)
            if found.had is not None and (found.is_newest or (found.is_earlier and not sends_earlier)):
                verdict: Literal["same", "earlier"] = "earlier" if found.is_earlier else "same"
                return Compared(verdict=verdict, version=found.had, reason=had_before(found))
            version = versions if newest is None and found.newest is None else versions + 1
            db.execute("UPDATE orders SET content = ?, versions = ? WHERE id = ?", (content, version, row.order_id))
            update_leased(db, "inbox", row, "content_checked = 1, version = ?, content = ?", (version, content))
            return Compared(verdict="new", version=version)

        return await self._run(change)

    async def newest_message(self, row: InboxRow) -> bytes | None:
        found = await self._first(_NEWEST_MESSAGE, (row.order_id,))
        return found and bytes(found[0])

    async def open_orders(self, source: str, after: int, limit: int) -> list[OpenOrder]:
        found = await self._run(lambda db: db.execute(_OPEN, (source, after, limit)).fetchall())
        return [OpenOrder(id=id_, order_ref=ref, message=body) for id_, ref, body in found]

    async def sent_before(self, row: InboxRow, *, supersede: bool) -> frozenset[str]:
        return await self._run(lambda db: sent_before(db, row.order_id, supersede=supersede))

    async def prepared(self, made: Sequence[Prepared]) -> None:
        now_ms, restored_ms = self._clock.now_ms(), self._restored_ms
        await self._run(lambda db: prepare_all(db, made, now_ms, restored_ms))
        for target in {delivery.target for one in made for delivery in one.deliveries}:
            self._wake("outbox", target)
        for source in {one.row.source for one in made if one.row.version > 1}:
            self._wake("inbox", source)

    async def settle_inbox(self, row: InboxRow, end: Settlement, *, with_earlier: bool = False) -> None:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> None:
            settle(db, "inbox", row, end, now_ms)
            if with_earlier:
                db.execute(
                    "UPDATE outbox INDEXED BY outbox_by_order SET status = 'held', due_at_ms = NULL, held_for = ?, reason = ? "
                    "WHERE order_id = ? AND status = 'ready'",
                    (row.id, f"waits for the decision on {row.source}/{row.key}@{row.version}", row.order_id),
                )
            if end.status == "done":
                advance(db, now_ms, "inbox", row.order_id)
            if row.version > 1 and end.status != "ready" and row.order_id is not None:
                advance_messages(db, now_ms, row.order_id, row.id)

        await self._run(change)
        if end.status == "done":
            self._wake("inbox", row.source)
