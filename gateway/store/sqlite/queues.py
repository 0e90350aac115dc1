"""Rows of the four queues: leased, changed under their lease, settled; and the rows that wait behind them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, fields

from gateway.api.commands import Codes
from gateway.api.errors import LeaseLost
from gateway.clock import from_ms
from gateway.store.outcome import Settlement
from gateway.store.row_names import Queue, row_name
from gateway.store.rows import AckRow, InboxRow, OutboxRow
from gateway.store.sqlite.writer import Connection
from gateway.store.submissions import SubmissionRow

Leased = InboxRow | OutboxRow | AckRow | SubmissionRow
R = TypeVar("R", InboxRow, OutboxRow, AckRow, SubmissionRow)
S = TypeVar("S", bound=Struct)

QUEUES: tuple[Queue, ...] = ("inbox", "outbox", "acknowledgements", "submit")
# The column by which workers share a queue: each leases the rows of one source or target.
WORKER_OF: Mapping[Queue, str] = {"inbox": "source", "outbox": "target", "acknowledgements": "source", "submit": "source"}
ARRIVED: Mapping[Queue, str] = {
    "inbox": "received_at_ms",
    "outbox": "created_at_ms",
    "acknowledgements": "created_at_ms",
    "submit": "accepted_at_ms",
}
# What the partial indexes of the queues are made of; a query must say it word for word to use them.
ACTIVE = "status IN ('ready', 'leased', 'unknown')"
WAITING = "status IN ('held', 'dead')"
_LEASE_BITS, _LEASED_MS = 21, 1 << 42

# The oldest open row of an ordering key has a due time; the others wait behind it with none. A held or dead row blocks its order. It
# does not block its subject, since a later command need not be a later version of it.
_ADVANCE: Mapping[Queue, str] = {
    "inbox": """
        UPDATE inbox SET due_at_ms = ? WHERE due_at_ms IS NULL AND status = 'ready' AND id =
            (SELECT id FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND status <> 'done' ORDER BY id LIMIT 1)""",
    "outbox": """
        UPDATE outbox SET due_at_ms = ? WHERE due_at_ms IS NULL AND status = 'ready' AND id =
            (SELECT id FROM outbox INDEXED BY outbox_by_order
              WHERE order_id = ? AND target = ? AND status <> 'done' ORDER BY id LIMIT 1)""",
    "submit": f"""
        UPDATE submit SET due_at_ms = ? WHERE id = (
            SELECT min(id) FROM submit INDEXED BY submit_by_subject WHERE source = ? AND subject = ? AND {ACTIVE}
            HAVING sum(status <> 'ready' OR due_at_ms IS NOT NULL) = 0)""",
}

_TRIED = ", first_attempt_ms = coalesce(first_attempt_ms, :started_ms)"
_DOUBT = """, request_started = NULL, lookup_attempts = iif(:cleared, 0, lookup_attempts + :looked),
    in_doubt_since_ms = CASE WHEN :cleared THEN NULL WHEN :in_doubt THEN coalesce(in_doubt_since_ms, :now_ms) ELSE in_doubt_since_ms END"""
_SETTLE: Mapping[Queue, str] = {
    "inbox": ", outcome = :outcome",
    "outbox": f"""{_TRIED}{_DOUBT}, outcome = :outcome, duration_ms = :duration_ms, http_status = :http_status, answer = :detail,
        maybe_delivered = CASE WHEN :cleared THEN step > 0 ELSE maybe_delivered OR :maybe_delivered END,
        ambiguous_failures = ambiguous_failures + :ambiguous_failure,
        erp_id = coalesce(:erp_id, erp_id), erp_number = coalesce(:erp_number, erp_number)""",
    "acknowledgements": _TRIED,
    "submit": f"{_TRIED}{_DOUBT}, maybe_delivered = maybe_delivered OR :in_doubt, outcome = :outcome, answer = :answer, codes = :codes",
}


def new_lease(now_ms: int) -> int:
    """Make a fencing token: fits SQLite's integers, never 0. It says when it was made, so that no row needs a column for that."""
    return (now_ms % _LEASED_MS) << _LEASE_BITS | secrets.randbits(_LEASE_BITS) | 1


def leased_ms(lease: int) -> int:
    """Return when a lease was made, in milliseconds since 1970."""
    return lease >> _LEASE_BITS


@cache
def _shape(made: type[Struct]) -> tuple[tuple[str, ...], tuple[tuple[int, Callable[[Any], Any]], ...]]:
    """The fields of a row but its lease, and what makes the fields at some places of their columns."""
    of_type: dict[Any, Callable[[Any], Any]] = {bool: bool, datetime: from_ms, Codes: _codes}
    known = [field for field in fields(made) if field.name != "lease"]
    special = ((n, of_type[one]) for n, field in enumerate(known) for one in (field.type, *get_args(field.type)) if one in of_type)
    return tuple(field.name for field in known), tuple(special)


def _codes(column: bytes | None) -> Codes | None:
    return None if column is None else msgspec.json.decode(column, type=Codes)


def decode(made: type[S], columns: Sequence[Any], **lease: int) -> S:
    """Build a row of columns that stand in the order of its fields, and of its lease."""
    names, special = _shape(made)
    values = list(columns)
    for n, of_column in special:
        values[n] = of_column(values[n])
    return made(**dict(zip(names, values, strict=True)), **lease)


def mark_leased(db: Connection, queue: Queue, rows: list[R], more: str = "") -> list[R]:
    """Write the lease of rows that are due, and count an attempt; `more` columns change with it."""
    if rows:
        db.execute(
            f"UPDATE {queue} SET status = 'leased', lease = ?, attempts = attempts + 1, due_at_ms = NULL{more} "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (rows[0].lease, json.dumps([row.id for row in rows])),
        )
    return rows


def update_leased(db: Connection, queue: Queue, row: Leased, columns: str, values: Sequence[object] = ()) -> None:
    """Change columns of a leased row. Raises LeaseLost if another worker has taken it."""
    if db.execute(f"UPDATE {queue} SET {columns} WHERE id = ? AND lease = ?", (*values, row.id, row.lease)).rowcount != 1:
        raise LeaseLost(row_name(queue, row.id))


def settle(db: Connection, queue: Queue, row: Leased, end: Settlement, now_ms: int, **more: object) -> None:
    """End one attempt of a leased row, and record it if it did not end well. Raises LeaseLost."""
    values = asdict(end) | more
    values |= {"id": row.id, "lease": row.lease, "now_ms": now_ms, "uncounted": not end.counts, "started_ms": end.started_at_ms or None}
    values["due_at_ms"] = now_ms + round(end.due_in_s * 1000) if end.status in ("ready", "unknown") else None
    values["in_doubt"] = not end.cleared and "unknown" in (end.status, end.outcome)
    settled = db.execute(
        f"UPDATE {queue} SET status = :status, due_at_ms = :due_at_ms, attempts = attempts - :uncounted, lease = NULL, reason = :reason, "
        f"settled_at_ms = :now_ms{_SETTLE[queue]} WHERE id = :id AND lease = :lease",
        values,
    )
    if settled.rowcount != 1:
        raise LeaseLost(row_name(queue, row.id))
    if end.status != "done" or queue in ("inbox", "submit"):
        db.execute(
            "INSERT INTO attempts (queue, row_id, attempt, at_ms, duration_ms, outcome, http_status, detail) VALUES (?,?,?,?,?,?,?,?)",
            (queue, row.id, row.attempts, end.started_at_ms, end.duration_ms, end.outcome, end.http_status, end.detail or end.reason),
        )


def advance(db: Connection, now_ms: int, queue: Queue, *ordering_key: object) -> None:
    """Make the oldest row of an ordering key due, if it waits: an inbox row of (order_id), an outbox row of (order_id, target), a
    submission of (source, subject). A row without a key waits for none."""
    if None not in ordering_key:
        db.execute(_ADVANCE[queue], (now_ms, *ordering_key))


def advance_messages(db: Connection, now_ms: int, order_id: int, inbox_id: int) -> None:
    """Make the messages due that waited for the version in an inbox row, unless a later one is there to wait for."""
    if not is_overtaken(db, order_id, inbox_id):
        waiting = "SELECT DISTINCT target FROM outbox INDEXED BY outbox_by_order WHERE order_id = ? AND status = 'ready'"
        for (target,) in db.execute(waiting, (order_id,)).fetchall():
            advance(db, now_ms, "outbox", order_id, target)


def is_overtaken(db: Connection, order_id: int | None, inbox_id: int) -> bool:
    """Return whether a later version of the order waits to be looked at."""
    later = "SELECT 1 FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND id > ? AND version > 1 AND status IN ('ready', 'leased')"
    return db.execute(f"{later} LIMIT 1", (order_id, inbox_id)).fetchone() is not None
