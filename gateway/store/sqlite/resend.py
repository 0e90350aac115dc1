"""Sending a delivered message once more, by decision of an operator.

Under `header`, the ERP decides by the key. Under `lookup`, the target is asked first: where the order is there, nothing is sent, and the
row ends as `duplicate`. Under `none`, it is sent. The target counts as having had the message, whatever becomes of it now.

It never overtakes: the newest message of an order is what the ERP is to have in the end. So a message goes again only where no later one
of its order is delivered or on its way to that target, but for those that are sent again by the same decision, in their old order.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.store.sqlite.queues import advance
from gateway.store.sqlite.row_names import Found
from gateway.store.sqlite.writer import Connection

_REOPEN = """
    UPDATE outbox SET status = 'ready', due_at_ms = NULL, attempts = 0, first_attempt_ms = NULL, held_for = NULL, reason = NULL,
        outcome = NULL, lookup_attempts = 0, ambiguous_failures = 0, maybe_delivered = 0, in_doubt_since_ms = NULL,
        step = 0, item = 0, erp_id = NULL, sent_sha256 = NULL, resent = resent + 1
    WHERE id = ?"""
# The last result stands in the row itself, where the next one will overwrite it.
_KEEP_LAST = """
    INSERT INTO attempts (queue, row_id, attempt, at_ms, duration_ms, outcome, http_status, detail)
    SELECT 'outbox', id, attempts, settled_at_ms, coalesce(duration_ms, 0), outcome, http_status, answer FROM outbox WHERE id = ?"""
_LATER = """
    SELECT id, key, status, coalesce(outcome, ''), maybe_delivered OR resent FROM outbox INDEXED BY outbox_by_order
    WHERE order_id = ? AND target = ? AND id > ?
          AND (coalesce(outcome, '') NOT IN ('dropped', 'superseded', 'rejected') OR maybe_delivered OR resent)
    ORDER BY id"""


def may_resend(db: Connection, row: Found, together: Collection[Found]) -> str | None:
    """Say why a row cannot be sent again."""
    if not db.execute("SELECT body IS NOT NULL FROM outbox WHERE id = ?", (row.id,)).fetchone()[0]:
        return "its body has been erased (store.keep_bodies_days, or gateway purge), so that there is nothing left to send"
    again = {one.id for one in together if one.queue == "outbox"}
    for id_, key, status, outcome, maybe_delivered in db.execute(_LATER, (row.order_id, row.target, row.id)).fetchall():
        if outcome in ("delivered", "duplicate"):
            if id_ not in again:
                return (
                    f"outbox:{id_} ({key}) was delivered after it; send that one again instead, or name both, so that it comes last again"
                )
        elif status in ("leased", "unknown"):
            return f"outbox:{id_} ({key}, {status}), a later message of the order, is on its way to the target; wait until it is done"
        elif maybe_delivered:
            return f"outbox:{id_} ({key}, {outcome or status}), a later message of the order, may have reached the target"
    return None


def resend(db: Connection, row: Found, now_ms: int) -> None:
    """Make it ready again, before what is still open behind it."""
    db.execute(_KEEP_LAST, (row.id,))
    db.execute(_REOPEN, (row.id,))
    db.execute(
        "UPDATE outbox INDEXED BY outbox_by_order SET due_at_ms = NULL WHERE order_id = ? AND target = ? AND id > ? AND status = 'ready'",
        (row.order_id, row.target, row.id),
    )
    advance(db, now_ms, "outbox", row.order_id, row.target)
