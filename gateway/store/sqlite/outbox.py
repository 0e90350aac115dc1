"""Outbox and acknowledgements: lease, settle."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from gateway.store.outcome import Progress, Settlement
from gateway.store.rows import AckRow, OutboxRow
from gateway.store.sqlite.bulk_settle import Settle
from gateway.store.sqlite.core import Core
from gateway.store.sqlite.queues import ACTIVE, decode, mark_leased, new_lease, settle, update_leased
from gateway.store.sqlite.writer import Connection

_FOR_EVER_MS = 2**62
_LEASE = """
    SELECT outbox.id, target, inbox.source, outbox.order_id, orders.order_ref, outbox.inbox_id, outbox.key, kind,
           outbox.attempts + 1, first_attempt_ms, inbox.occurred_at_ms, inbox.received_at_ms, body, outbox.sha256,
           maybe_delivered, in_doubt_since_ms, lookup_attempts, ambiguous_failures, erp_id, erp_number, step, item, sent_sha256
    FROM outbox INDEXED BY outbox_active JOIN inbox ON inbox.id = outbox.inbox_id JOIN orders ON orders.id = outbox.order_id
    WHERE target = ? AND outbox.status IN ('ready', 'leased', 'unknown') AND outbox.due_at_ms <= ?
    ORDER BY outbox.due_at_ms, outbox.id LIMIT ?"""
_LEASE_OTHERS = _LEASE.replace("ORDER BY", "AND outbox.id NOT IN (SELECT value FROM json_each(?)) ORDER BY")
_LEASE_NEWEST = _LEASE_OTHERS.replace("ORDER BY outbox.due_at_ms, outbox.id", "ORDER BY outbox.id DESC")
_PROGRESS = """
    request_started = request_started * 0, step = ?, item = ?, maybe_delivered = 1, in_doubt_since_ms = NULL, lookup_attempts = 0,
    ambiguous_failures = 0, erp_id = coalesce(?, erp_id), erp_number = coalesce(?, erp_number)"""
_CLAIMANT = """
    SELECT key FROM outbox INDEXED BY outbox_by_erp_id
    WHERE target IN (SELECT ?1 UNION ALL SELECT old FROM target_renames WHERE new = ?1)
          AND erp_id = ?2 AND erp_id IS NOT NULL AND order_id <> ?3 ORDER BY id LIMIT 1"""
_LEASE_ACKS = """
    SELECT acknowledgements.id, acknowledgements.source, stage,
           coalesce(orders.order_ref, reference), coalesce(reference, orders.order_ref),
           acknowledgements.attempts + 1, first_attempt_ms
    FROM acknowledgements INDEXED BY acknowledgements_active
    JOIN inbox ON inbox.id = inbox_id LEFT JOIN orders ON orders.id = inbox.order_id
    WHERE acknowledgements.source = ? AND acknowledgements.status IN ('ready', 'leased', 'unknown') AND acknowledgements.due_at_ms <= ?
    ORDER BY acknowledgements.due_at_ms, acknowledgements.id LIMIT ?"""


class Outbox(Core):
    """Part of `SqliteStore`; `gateway.store.base.Store` describes the methods."""

    async def lease_outbox(
        self, target: str, limit: int, *, records_intent: bool = False, early: bool = False, but_not: Collection[int] = ()
    ) -> list[OutboxRow]:
        now_ms, lease = self._clock.now_ms(), new_lease(self._clock.now_ms())
        until_ms = _FOR_EVER_MS if early else now_ms

        def change(db: Connection) -> list[OutboxRow]:
            found: list[Any] = []
            if but_not:
                others = _LEASE_NEWEST if len(but_not) % 2 else _LEASE_OTHERS
                found = db.execute(others, (target, until_ms, json.dumps(list(but_not)), limit)).fetchall()
            found = found or db.execute(_LEASE, (target, until_ms, limit)).fetchall()
            rows = [decode(OutboxRow, one, lease=lease) for one in found]
            return mark_leased(db, "outbox", rows, f", request_started = {'0' if records_intent else 'NULL'}")

        return await self._run(change)

    async def start_request(self, row: OutboxRow, sha256: bytes | None) -> None:
        columns = "request_started = 1, sent_sha256 = coalesce(?, sent_sha256)"
        await self._run(lambda db: update_leased(db, "outbox", row, columns, (sha256,)))

    async def record_progress(self, row: OutboxRow, progress: Progress) -> None:
        values = (progress.step, progress.item, progress.erp_id, progress.erp_number)
        await self._run(lambda db: update_leased(db, "outbox", row, _PROGRESS, values))

    async def claimant(self, row: OutboxRow, erp_id: str) -> str | None:
        found = await self._first(_CLAIMANT, (row.target, erp_id, row.order_id))
        return found and str(found[0])

    async def settle_outbox(self, row: OutboxRow, end: Settlement, *, acknowledge: bool = False) -> None:
        now_ms = self._clock.now_ms()

        await self._run(Settle(row, end, now_ms, acknowledge))
        self._wake("outbox", row.target)
        if end.status == "done" and acknowledge:
            self._wake("acknowledgements", row.source)

    async def lease_acknowledgements(self, source: str, limit: int) -> list[AckRow]:
        now_ms, lease = self._clock.now_ms(), new_lease(self._clock.now_ms())

        def change(db: Connection) -> list[AckRow]:
            due = [decode(AckRow, found, lease=lease) for found in db.execute(_LEASE_ACKS, (source, now_ms, limit)).fetchall()]
            return mark_leased(db, "acknowledgements", [row for row in due if row.stage == due[0].stage])

        return await self._run(change)

    async def settle_acknowledgements(self, ends: Sequence[tuple[AckRow, Settlement]]) -> None:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> None:
            for row, end in ends:
                settle(db, "acknowledgements", row, end, now_ms)

        await self._run(change)

    async def retry_soon(self, target: str, within_s: float) -> int:
        now_ms, spread_ms = self._clock.now_ms(), max(1, round(within_s * 1000))

        def change(db: Connection) -> int:
            moved = db.execute(
                f"UPDATE outbox SET due_at_ms = ? + abs(random() % ?) WHERE target = ? AND {ACTIVE} AND due_at_ms > ?",
                (now_ms, spread_ms, target, now_ms + spread_ms),
            )
            return int(moved.rowcount)

        moved = await self._run(change)
        self._wake("outbox", target)
        return moved
