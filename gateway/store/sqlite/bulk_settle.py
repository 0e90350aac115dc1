"""Ends of deliveries: those that ended well and share a commit take two statements, the rest go one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.api.errors import LeaseLost
from gateway.store.outcome import Settlement
from gateway.store.rows import OutboxRow
from gateway.store.sqlite.queues import advance, settle
from gateway.store.sqlite.writer import Batchable, Connection

_DELIVERED = """
    INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms)
    SELECT ?, 'delivered', ?, 'ready', ?, ?
    WHERE NOT EXISTS (SELECT 1 FROM outbox INDEXED BY outbox_by_order
                       WHERE order_id = ? AND inbox_id = ? AND (status <> 'done' OR outcome IN ('dropped', 'superseded', 'rejected')))
    ON CONFLICT DO NOTHING"""
_FEW, _MANY = 6, 32
# `sqlite3` counts the rows of what begins with UPDATE, not of what begins with WITH: so the columns have numbers.
_ENDED_WELL = """
    UPDATE outbox SET status = 'done', due_at_ms = NULL, lease = NULL, request_started = NULL, reason = NULL,
                      maybe_delivered = maybe_delivered OR column3, first_attempt_ms = coalesce(first_attempt_ms, column4),
                      outcome = column5, settled_at_ms = column6, duration_ms = column7, http_status = column8, answer = column9,
                      erp_id = coalesce(column10, erp_id), erp_number = coalesce(column11, erp_number)
    FROM (VALUES {}) WHERE outbox.id = column1 AND lease = column2"""
_WAITS = """
    SELECT count(*) FROM outbox INDEXED BY outbox_by_order
    WHERE order_id IN (SELECT value FROM json_each(?)) AND status = 'ready' AND due_at_ms IS NULL"""


@dataclass(slots=True, eq=False)
class Settle(Batchable[None]):
    """Call of `settle_outbox`; calls that share a commit share their statements."""

    row: OutboxRow
    end: Settlement
    now_ms: int
    acknowledge: bool

    @classmethod
    def run_batch(cls, db: Connection, changes: Sequence[Settle]) -> list[None]:
        plain = [one for one in changes if _is_plain(one.end)]
        single = changes if len(plain) < _FEW else [one for one in changes if not _is_plain(one.end)]
        for one in single:
            settle(db, "outbox", one.row, one.end, one.now_ms)
            if one.end.status == "done":
                advance(db, one.now_ms, "outbox", one.row.order_id, one.row.target)
        if len(plain) >= _FEW:
            for first in range(0, len(plain), _MANY):
                _ended_well(db, plain[first : first + _MANY])
        for one in changes:
            if one.acknowledge and one.end.status == "done":
                row = one.row
                db.execute(_DELIVERED, (row.source, row.inbox_id, one.now_ms, one.now_ms, row.order_id, row.inbox_id))
        return [None] * len(changes)


def _is_plain(end: Settlement) -> bool:
    """Return whether it ended well at once: nothing to give back, to count or to explain."""
    return end.status == "done" and end.counts and end.reason is None and not (end.cleared or end.looked or end.ambiguous_failure)


def _ended_well(db: Connection, changes: Sequence[Settle]) -> None:
    values: list[object] = []
    for one in changes:
        row, end = one.row, one.end
        values += (row.id, row.lease, end.maybe_delivered, end.started_at_ms or None, end.outcome, one.now_ms)
        values += (end.duration_ms, end.http_status, end.detail, end.erp_id, end.erp_number)
    ended = db.execute(_ENDED_WELL.format(",".join(["(?,?,?,?,?,?,?,?,?,?,?)"] * len(changes))), values)
    if ended.rowcount != len(changes):
        raise LeaseLost(changes[0].row.key)  # each is tried by itself now
    if db.execute(_WAITS, (json.dumps([one.row.order_id for one in changes]),)).fetchone()[0]:
        for one in changes:
            advance(db, one.now_ms, "outbox", one.row.order_id, one.row.target)
