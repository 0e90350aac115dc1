"""The outbox and the acknowledgements: lease, settle."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from gateway.clock import from_ms
from gateway.store.base import AckRow, OutboxRow
from gateway.store.outcome import Progress, Settlement
from gateway.store.sqlite.bulk_settle import Settle
from gateway.store.sqlite.core import ACTIVE, Core, due, must_change, new_lease, note_attempt
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
    """See `gateway.store.base.Store`."""

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
            rows = [_row(one, lease) for one in found]
            if rows:
                db.execute(
                    "UPDATE outbox SET status = 'leased', lease = ?, attempts = attempts + 1, due_at_ms = NULL, request_started = ? "
                    "WHERE id IN (SELECT value FROM json_each(?))",
                    (lease, 0 if records_intent else None, json.dumps([row.id for row in rows])),
                )
            return rows

        return await self._run(change)

    async def start_request(self, row: OutboxRow, sha256: bytes | None) -> None:
        def change(db: Connection) -> None:
            must_change(
                db.execute(
                    "UPDATE outbox SET request_started = 1, sent_sha256 = coalesce(?, sent_sha256) WHERE id = ? AND lease = ?",
                    (sha256, row.id, row.lease),
                ),
                row.key,
            )

        await self._run(change)

    async def finished(self, row: OutboxRow, progress: Progress) -> None:
        def change(db: Connection) -> None:
            must_change(
                db.execute(
                    "UPDATE outbox SET request_started = request_started * 0, step = ?, item = ?, maybe_delivered = 1, "
                    "in_doubt_since_ms = NULL, lookup_attempts = 0, ambiguous_failures = 0, erp_id = coalesce(?, erp_id), "
                    "erp_number = coalesce(?, erp_number) WHERE id = ? AND lease = ?",
                    (progress.step, progress.item, progress.erp_id, progress.erp_number, row.id, row.lease),
                ),
                row.key,
            )

        await self._run(change)

    async def claimant(self, row: OutboxRow, erp_id: str) -> str | None:
        def change(db: Connection) -> str | None:
            found = db.execute(_CLAIMANT, (row.target, erp_id, row.order_id)).fetchone()
            return found and str(found[0])

        return await self._run(change)

    async def settle_outbox(self, row: OutboxRow, end: Settlement, *, acknowledge: bool = False) -> None:
        now_ms = self._clock.now_ms()

        await self._run(Settle(row, end, now_ms, acknowledge=acknowledge))
        self._ring("outbox", row.target)
        if end.status == "done" and acknowledge:
            self._ring("acknowledgements", row.source)

    async def lease_acknowledgements(self, source: str, limit: int) -> list[AckRow]:
        now_ms, lease = self._clock.now_ms(), new_lease(self._clock.now_ms())

        def change(db: Connection) -> list[AckRow]:
            found = [_ack(row, lease) for row in db.execute(_LEASE_ACKS, (source, now_ms, limit)).fetchall()]
            rows = [row for row in found if row.stage == found[0].stage]
            if rows:
                db.execute(
                    "UPDATE acknowledgements SET status = 'leased', lease = ?, attempts = attempts + 1, due_at_ms = NULL "
                    "WHERE id IN (SELECT value FROM json_each(?))",
                    (lease, json.dumps([row.id for row in rows])),
                )
            return rows

        return await self._run(change)

    async def settle_acknowledgements(self, ends: Sequence[tuple[AckRow, Settlement]]) -> None:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> None:
            for row, end in ends:
                must_change(
                    db.execute(
                        "UPDATE acknowledgements SET status = ?, due_at_ms = ?, attempts = attempts - ?, lease = NULL, "
                        "first_attempt_ms = coalesce(first_attempt_ms, ?), reason = ?, settled_at_ms = ? WHERE id = ? AND lease = ?",
                        (
                            end.status,
                            due(end, now_ms),
                            0 if end.counts else 1,
                            end.started_at_ms or None,
                            end.reason,
                            now_ms,
                            row.id,
                            row.lease,
                        ),
                    ),
                    f"{row.order_ref} {row.stage}",
                )
                if end.status != "done":
                    note_attempt(db, "acknowledgements", row.id, row.attempts, end)

        await self._run(change)

    async def hasten(self, target: str, within_s: float) -> int:
        now_ms, spread_ms = self._clock.now_ms(), max(1, round(within_s * 1000))

        def change(db: Connection) -> int:
            moved = db.execute(
                f"UPDATE outbox SET due_at_ms = ? + abs(random() % ?) WHERE target = ? AND {ACTIVE} AND due_at_ms > ?",
                (now_ms, spread_ms, target, now_ms + spread_ms),
            )
            return int(moved.rowcount)

        moved = await self._run(change)
        self._ring("outbox", target)
        return moved


def _row(found: Any, lease: int) -> OutboxRow:
    id_, target, source, order_id, order_ref, inbox_id, key, kind, attempts, first_ms, occurred_ms, received_ms, body, sha256, *state = (
        found
    )
    maybe_delivered, in_doubt_ms, lookup_attempts, ambiguous_failures, erp_id, erp_number, step, item, sent_sha256 = state
    return OutboxRow(
        id=id_,
        lease=lease,
        target=target,
        source=source,
        order_id=order_id,
        order_ref=order_ref,
        inbox_id=inbox_id,
        key=key,
        kind=kind,
        attempts=attempts,
        first_attempt_at=from_ms(first_ms),
        occurred_at=from_ms(occurred_ms),
        received_at=from_ms(received_ms),
        body=body,
        sha256=sha256,
        maybe_delivered=bool(maybe_delivered),
        in_doubt_since=from_ms(in_doubt_ms),
        lookup_attempts=lookup_attempts,
        ambiguous_failures=ambiguous_failures,
        erp_id=erp_id,
        erp_number=erp_number,
        step=step,
        item=item,
        sent_sha256=sent_sha256,
    )


def _ack(found: Any, lease: int) -> AckRow:
    id_, source, stage, order_ref, reference, attempts, first_ms = found
    return AckRow(
        id=id_,
        lease=lease,
        source=source,
        stage=stage,
        order_ref=order_ref,
        reference=reference,
        attempts=attempts,
        first_attempt_at=from_ms(first_ms),
    )
