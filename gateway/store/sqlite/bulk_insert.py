"""Messages into the outbox: a batch of first messages in a few statements, anything else one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gateway.api.errors import LeaseLost, Outdated
from gateway.clock import from_ms
from gateway.store.row_names import LONGEST_NUMBER
from gateway.store.rows import Delivery, Prepared
from gateway.store.sqlite.queues import advance, advance_messages, is_overtaken
from gateway.store.sqlite.writer import Connection

_FEW, _MANY = 6, 32
_IDS = "(SELECT value FROM json_each(?))"
_ROW = "(?,?,?,?,?,'ready',?,?,?,?)"
_OUTBOX = "INSERT INTO outbox (target, key, kind, order_id, inbox_id, status, due_at_ms, created_at_ms, sha256, body) VALUES "
_PERHAPS_SENT = (
    "UPDATE outbox SET maybe_delivered = 1, in_doubt_since_ms = ?, status = iif(due_at_ms IS NULL, status, 'unknown') WHERE key = ?"
)
_UNSENT = "maybe_delivered = 0 AND resent = 0 AND status IN ('ready', 'held', 'dead')"
_SENT = """
    SELECT DISTINCT target FROM outbox INDEXED BY outbox_by_order
    WHERE order_id = ? AND (coalesce(outcome, '') NOT IN ('superseded', 'dropped', 'rejected') OR resent > 0)"""
_SUPERSEDE = f"""
    UPDATE outbox INDEXED BY outbox_by_order
    SET status = 'done', outcome = 'superseded', reason = ?, settled_at_ms = ?, due_at_ms = NULL
    WHERE order_id = ? AND {_UNSENT}"""
_EARLIER = "SELECT 1 FROM outbox INDEXED BY outbox_by_order WHERE order_id = ? AND target = ? AND status <> 'done' LIMIT 1"
_DONE = "UPDATE inbox SET status = 'done', outcome = 'prepared', lease = NULL, settled_at_ms = ?"


def prepare_all(db: Connection, made: Sequence[Prepared], now_ms: int, restored_ms: int | None = None) -> None:
    """Insert the deliveries and finish their inbox rows. Raises LeaseLost, Outdated.

    Args:
        restored_ms: When a copy was put back: what is made of an event from before may have been delivered since the copy was made.
    """
    if not _all_first(db, made, now_ms):
        for one in made:
            _prepare_one(db, one, now_ms)
    if restored_ms is not None:
        for one in made:
            came = one.row.occurred_at
            if came is None or min(came, one.row.received_at) <= from_ms(restored_ms):
                db.execute(_PERHAPS_SENT, (now_ms, one.key))


def sent_before(db: Connection, order_id: int | None, *, supersede: bool) -> frozenset[str]:
    """Return the targets that have, or may have, a message of the order; with `supersede` those that will still have one then."""
    found = db.execute(f"{_SENT} AND NOT ({_UNSENT})" if supersede else _SENT, (order_id,)).fetchall()
    (let_go,) = db.execute("SELECT sent FROM orders WHERE id = ?", (order_id,)).fetchone()
    return _with_renamed(db, frozenset([target for (target,) in found] + ([] if let_go is None else json.loads(let_go))))


def _with_renamed(db: Connection, targets: frozenset[str]) -> frozenset[str]:
    """Add the new names of targets that were renamed."""
    names = json.dumps(sorted(targets))
    found = db.execute("SELECT new FROM target_renames WHERE old IN (SELECT value FROM json_each(?))", (names,)).fetchall()
    return targets | {new for (new,) in found}


def _make_room(db: Connection, one: Prepared, now_ms: int) -> None:
    """End the messages that a new one supersedes. Raises Outdated if one of them has left since it was made."""
    if one.sent is not None and sent_before(db, one.row.order_id, supersede=one.supersedes) != one.sent:
        raise Outdated(one.key)
    if one.supersedes:
        db.execute(_SUPERSEDE, (f"a newer version came: {one.row.key}@{one.row.version}", now_ms, one.row.order_id))


def _all_first(db: Connection, made: Sequence[Prepared], now_ms: int) -> bool:
    """Insert first messages of orders that have nothing else in the inbox. Return False, with nothing done, if one is no such."""
    lease, count = made[0].row.lease if made else 0, len(made)
    if count < _FEW or any(one.n > 1 or one.open or one.row.version > 1 or one.row.lease != lease for one in made):
        return False
    rows = json.dumps([one.row.id for one in made])
    orders = json.dumps([one.row.order_id for one in made])
    numbers = json.dumps({one.row.order_id: _number(one) for one in made})
    undone = "SELECT count(*) FROM inbox INDEXED BY inbox_by_order WHERE status <> 'done' AND order_id IN "
    if db.execute(undone + _IDS, (orders,)).fetchone()[0] != count:
        return False
    counted = db.execute(
        "UPDATE orders SET messages = 1, open = 0, rejected = 0, number = coalesce(value, number) FROM json_each(?) "
        "WHERE orders.id = CAST(key AS INTEGER) AND messages = 0",
        (numbers,),
    )
    done = db.execute(f"{_DONE} WHERE lease = ? AND id IN {_IDS}", (now_ms, lease, rows))
    if counted.rowcount != count or done.rowcount != count:
        raise LeaseLost(made[0].key)
    rows_made = [_outbox_row(one, delivery, now_ms, now_ms) for one in made for delivery in one.deliveries]
    for first in range(0, len(rows_made), _MANY):
        some = rows_made[first : first + _MANY]
        db.execute(_OUTBOX + ",".join([_ROW] * len(some)), [value for row in some for value in row])
    return True


def _prepare_one(db: Connection, one: Prepared, now_ms: int) -> None:
    row = one.row
    counted = db.execute(
        "UPDATE orders SET messages = ?, open = ?, rejected = 0, number = coalesce(?, number) WHERE id = ? AND messages = ?",
        (one.n, one.open, _number(one), row.order_id, one.n - 1),
    )
    done = db.execute(f"{_DONE} WHERE id = ? AND lease = ?", (now_ms, row.id, row.lease))
    if counted.rowcount != 1 or done.rowcount != 1:
        raise LeaseLost(one.key)
    _make_room(db, one, now_ms)
    overtaken = is_overtaken(db, row.order_id, row.id)
    for delivery in one.deliveries:
        waits = overtaken or (one.n > 1 and db.execute(_EARLIER, (row.order_id, delivery.target)).fetchone())
        db.execute(_OUTBOX + _ROW, _outbox_row(one, delivery, None if waits else now_ms, now_ms))
    advance(db, now_ms, "inbox", row.order_id)
    if row.version > 1 and row.order_id is not None:
        advance_messages(db, now_ms, row.order_id, row.id)


def _outbox_row(one: Prepared, delivery: Delivery, due_ms: int | None, now_ms: int) -> tuple[object, ...]:
    """Return the values of `_ROW`."""
    row, body = one.row, (delivery.sha256, delivery.body)
    return (delivery.target, one.key, delivery.kind, row.order_id, row.id, due_ms, now_ms, *body)


def _number(one: Prepared) -> str | None:
    """Return the number by which operators may look for the order; none of them types one that is longer."""
    return one.number if one.number and len(one.number) <= LONGEST_NUMBER else None
