"""State of an accepted event, for a sender that waits for it (`answer = "delivered"`)."""

from __future__ import annotations

from typing import Any

from gateway.store.rows import Verdict
from gateway.store.sqlite.accept import shown_key
from gateway.store.sqlite.core import Core, audit
from gateway.store.sqlite.queues import advance
from gateway.store.sqlite.row_names import events_named
from gateway.store.sqlite.writer import Connection

_MADE = "SELECT id, target, status, outcome, reason, answer FROM outbox INDEXED BY outbox_by_order WHERE order_id = ? AND inbox_id = ?"
_END = """
    UPDATE outbox SET status = 'done', outcome = 'rejected', due_at_ms = NULL, settled_at_ms = ?
    WHERE id = ? AND (outcome = 'refused' OR (status IN ('ready', 'held') AND maybe_delivered = 0))"""
_SAID = 500
_UNDER_WAY = ("ready", "leased", "unknown")


class EventOutcomes(Core):
    """Part of `SqliteStore`; `gateway.store.base.Store` describes the methods."""

    async def verdict(self, source: str, key: str) -> Verdict:
        return await self._run(lambda db: _verdict(db, source, key))

    async def reject(self, source: str, key: str, reason: str) -> bool:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> bool:
            if _verdict(db, source, key).state != "refused":
                return False
            id_, event, version, _, order_id = _event(db, source, key)
            for row_id, target, *_ in db.execute(_MADE, (order_id, id_)).fetchall():
                if db.execute(_END, (now_ms, row_id)).rowcount:
                    advance(db, now_ms, "outbox", order_id, target)
            db.execute("UPDATE inbox SET outcome = 'rejected' WHERE id = ?", (id_,))
            db.execute(
                "UPDATE orders SET content = NULL, rejected = 1 WHERE id = ? AND newest_key = ? AND versions = ?",
                (order_id, event, version),
            )
            said = "the sender is told the target's words"
            audit(db, now_ms, "gateway", "reject", queue="inbox", row_id=id_, key=f"{source}/{key}", reason=said)
            return True

        rejected = await self._run(change)
        self._wake_all()
        return rejected


def _event(db: Connection, source: str, key: str) -> Any:
    found = [row for row in events_named(db, f"{source}/{key}") if row[1] == source and shown_key(row[2], row[3]) == key]
    return (found[0][0], *found[0][2:]) if found else None


def _words(reason: str | None, answer: str | None) -> str:
    """Return the target's message if its settings name one, or what a mapping lacks; else its whole answer."""
    own_words = reason is not None and not reason.startswith("the target ")
    return (reason if own_words else answer or reason) or "refused"


def _verdict(db: Connection, source: str, key: str) -> Verdict:
    event = _event(db, source, key)
    if event is None:
        return Verdict(state="waits")
    id_, _, _, status, order_id = event
    if status != "done":
        return Verdict(state="pending" if status in _UNDER_WAY else "waits")
    made = db.execute(_MADE, (order_id, id_)).fetchall()
    for *_, status, outcome, reason, answer in made:
        if status == "dead" and outcome == "refused":
            return Verdict(state="refused", reason=_words(reason, answer)[:_SAID])
    statuses = {row[2] for row in made}
    if statuses & set(_UNDER_WAY):
        return Verdict(state="pending")
    return Verdict(state="delivered" if statuses <= {"done"} else "waits")
