"""What people decide about rows: replay, release, drop. Every decision leaves an audit row.

A key names an event (`5f0c2b7e9d1a`, `apicbase/5f0c2b7e9d1a@2`), a message (`apicbase/5f0c2b7e9d1a/1`), a submission
(by its id), or one row (`outbox:17`). A decision applies to what it can apply to among the rows of that name and of the
messages made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from gateway.store.base import Decided, Queue, Status
from gateway.store.sqlite import submissions
from gateway.store.sqlite.accepting import shown_key
from gateway.store.sqlite.core import Core, advance_inbox, advance_messages, advance_outbox
from gateway.store.sqlite.writer import Connection

_REF = re.compile(r"(inbox|outbox|acknowledgements|submit):(\d{1,18})\Z")


class Found(Struct, frozen=True, kw_only=True):
    """One row that a key names."""

    queue: Queue
    id: int
    key: str
    status: Status
    order_id: int | None
    target: str = ""


class Decisions(Core):
    """See `gateway.store.base.Store`."""

    async def replay(self, keys: Sequence[str], who: str) -> list[Decided]:
        return await self._decide(keys, who, "replay", None, ("dead",), _reopen)

    async def release(self, keys: Sequence[str], who: str) -> list[Decided]:
        return await self._decide(keys, who, "release", None, ("held",), _reopen)

    async def drop(self, keys: Sequence[str], who: str, reason: str) -> list[Decided]:
        return await self._decide(keys, who, "drop", reason, ("held", "dead", "ready", "unknown"), _drop)

    async def finish_restore(self, who: str) -> bool:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> bool:
            ended = db.execute("UPDATE restores SET finished_at_ms = ? WHERE finished_at_ms IS NULL", (now_ms,))
            if ended.rowcount:
                db.execute("INSERT INTO audit (at_ms, who, action) VALUES (?,?,'restore finished')", (now_ms, who))
            return bool(ended.rowcount)

        was_open = await self._run(change)
        self._restored_ms = None
        return was_open

    async def note(self, who: str, action: str, key: str, reason: str | None = None) -> None:
        now_ms = self._clock.now_ms()
        await self._run(
            lambda db: db.execute(
                "INSERT INTO audit (at_ms, who, action, queue, row_id, key, reason) SELECT ?1, ?2, ?3, iif(id, 'submit', NULL), id, ?4, ?5 "
                "FROM (SELECT (SELECT id FROM submit WHERE public_id = ?4) AS id)",
                (now_ms, who, action, key, reason),
            )
        )

    async def _decide(
        self,
        keys: Sequence[str],
        who: str,
        action: str,
        reason: str | None,
        wanted: tuple[Status, ...],
        act: Callable[[Connection, Found, str | None, int], None],
    ) -> list[Decided]:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> list[Decided]:
            decided: list[Decided] = []
            for key in keys:
                rows = find(db, key)
                fitting = [row for row in rows if row.status in wanted]
                problem = _problem(key, rows, fitting, wanted) or (_another(db, fitting) if act is _reopen else None)
                if problem:
                    decided.append(Decided(key=key, problem=problem))
                    continue
                for row in fitting:
                    act(db, row, reason, now_ms)
                    db.execute(
                        "INSERT INTO audit (at_ms, who, action, queue, row_id, key, reason) VALUES (?,?,?,?,?,?,?)",
                        (now_ms, who, action, row.queue, row.id, row.key, reason),
                    )
                    decided.append(Decided(key=row.key, queue=row.queue, waits_behind=_waits_behind(db, row)))
            return decided

        decided = await self._run(change)
        self._ring_all()
        return decided


def find(db: Connection, key: str) -> list[Found]:
    """Every row that a key names, and the messages and acknowledgements made of it."""
    ref = _REF.match(key)
    queue, row_id = (ref[1], int(ref[2])) if ref else (None, -1)
    rows: list[Found] = []
    for id_, source, event, version, status, order_id in events_named(db, key, row_id if queue == "inbox" else -1):
        name = f"{source}/{shown_key(event, version)}"
        rows.append(Found(queue="inbox", id=id_, key=name, status=status, order_id=order_id))
        for made in db.execute(
            "SELECT id, key, status, order_id, target FROM outbox INDEXED BY outbox_by_order WHERE order_id = ? AND inbox_id = ?",
            (order_id, id_),
        ).fetchall():
            rows.append(_delivery(made))
        for ack_id, stage, ack_status in db.execute("SELECT id, stage, status FROM acknowledgements WHERE inbox_id = ?", (id_,)).fetchall():
            rows.append(Found(queue="acknowledgements", id=ack_id, key=f"{name} ({stage})", status=ack_status, order_id=None))
    direct = ("key = ?", key) if queue != "outbox" else ("id = ?", row_id)
    for made in db.execute(f"SELECT id, key, status, order_id, target FROM outbox WHERE {direct[0]}", (direct[1],)).fetchall():
        if _delivery(made) not in rows:
            rows.append(_delivery(made))
    if queue == "acknowledgements":
        for ack_id, stage, status in db.execute("SELECT id, stage, status FROM acknowledgements WHERE id = ?", (row_id,)).fetchall():
            rows.append(Found(queue="acknowledgements", id=ack_id, key=f"{key} ({stage})", status=status, order_id=None))
    by = ("id", row_id) if queue == "submit" else ("public_id", key)
    for sub_id, public_id, status in db.execute(f"SELECT id, public_id, status FROM submit WHERE {by[0]} = ?", (by[1],)).fetchall():
        rows.append(Found(queue="submit", id=sub_id, key=public_id, status=status, order_id=None))
    return rows


def events_named(db: Connection, key: str, row_id: int) -> Any:
    """A key may carry its source in front and its version behind; which of that it does, the rows decide."""
    names = {key, key.rsplit("@", 1)[0]}
    names |= {name.split("/", 1)[1] for name in names if "/" in name}
    found = [
        row
        for name in names
        for row in db.execute("SELECT id, source, key, version, status, order_id FROM inbox WHERE key = ?", (name,)).fetchall()
        if key in (row[2], f"{row[1]}/{row[2]}", shown_key(row[2], row[3]), f"{row[1]}/{shown_key(row[2], row[3])}")
    ]
    found += db.execute("SELECT id, source, key, version, status, order_id FROM inbox WHERE id = ?", (row_id,)).fetchall()
    return sorted(set(found), key=lambda row: row[0])


def _delivery(made: Any) -> Found:
    id_, key, status, order_id, target = made
    return Found(queue="outbox", id=id_, key=key, status=status, order_id=order_id, target=target)


def _problem(key: str, rows: Sequence[Found], fitting: Sequence[Found], wanted: Sequence[Status]) -> str | None:
    if not rows:
        return "no such key; `gateway inbox`, `gateway outbox` and `gateway submissions` list what there is"
    if not fitting:
        states = ", ".join(sorted({f"{row.queue} {row.status}" for row in rows}))
        now = " It is being worked on right now; try again." if any(row.status == "leased" for row in rows) else ""
        return f"nothing of it is {' or '.join(wanted)} ({states}).{now}"
    if len({row.key.split("/", 1)[0] for row in fitting if row.queue == "inbox"}) > 1:
        return "several sources have this key; put the source in front, as in SOURCE/" + key
    return None


def _another(db: Connection, rows: Sequence[Found]) -> str | None:
    """Why a dead submission cannot go again."""
    for row in rows:
        if row.queue == "submit" and row.status == "dead" and (other := submissions.standing_in(db, row.id)):
            return f"submission {other} stands for the same by now; drop that one first, or leave this one dead"
    return None


def _reopen(db: Connection, row: Found, _reason: str | None, now_ms: int) -> None:
    if row.queue == "submit":
        submissions.reopen(db, row.id, now_ms)
    elif row.queue == "acknowledgements":
        db.execute(
            "UPDATE acknowledgements SET status = 'ready', due_at_ms = ?, attempts = 0, first_attempt_ms = NULL, reason = NULL "
            "WHERE id = ?",
            (now_ms, row.id),
        )
    elif row.queue == "inbox":
        db.execute(
            "UPDATE inbox SET released = released OR status = 'held', status = 'ready', attempts = 0, reason = NULL, outcome = NULL, "
            "due_at_ms = CASE WHEN order_id IS NULL THEN ? END WHERE id = ?",
            (now_ms, row.id),
        )
        advance_inbox(db, row.order_id, now_ms)
        _let_go(db, row, now_ms)
    else:
        db.execute(
            "UPDATE outbox SET status = 'ready', due_at_ms = NULL, attempts = 0, first_attempt_ms = NULL, held_for = NULL, reason = NULL, "
            "outcome = NULL, looks = 0, strikes = 0, maybe_taken = CASE WHEN unknown_since_ms IS NULL THEN maybe_taken ELSE step > 0 END, "
            "unknown_since_ms = NULL WHERE id = ?",  # who releases what is unknown says that it is not there
            (row.id,),
        )
        assert row.order_id is not None
        advance_outbox(db, row.order_id, row.target, now_ms)


def _drop(db: Connection, row: Found, reason: str | None, now_ms: int) -> None:
    if row.queue == "submit":
        submissions.drop(db, row.id, reason, now_ms)
        return
    if row.queue == "acknowledgements":
        db.execute(
            "UPDATE acknowledgements SET status = 'done', due_at_ms = NULL, settled_at_ms = ?, reason = ? WHERE id = ?",
            (now_ms, f"dropped: {reason}", row.id),
        )
        return
    db.execute(
        f"UPDATE {row.queue} SET status = 'done', outcome = 'dropped', due_at_ms = NULL, settled_at_ms = ?, reason = ? WHERE id = ?",
        (now_ms, reason, row.id),
    )
    if row.queue == "inbox":
        advance_inbox(db, row.order_id, now_ms)
        _let_go(db, row, now_ms)
    else:
        assert row.order_id is not None
        advance_outbox(db, row.order_id, row.target, now_ms)


def _let_go(db: Connection, event: Found, now_ms: int) -> None:
    """What waited only for this decision goes on."""
    if event.order_id is None:
        return
    db.execute(
        "UPDATE outbox INDEXED BY outbox_by_order SET status = 'ready', due_at_ms = NULL, held_for = NULL, reason = NULL "
        "WHERE order_id = ? AND held_for = ? AND status = 'held'",
        (event.order_id, event.id),
    )
    advance_messages(db, event.order_id, event.id, now_ms)


def _waits_behind(db: Connection, row: Found) -> str | None:
    if row.queue == "submit":
        ahead = submissions.ahead_of(db, row.id)
        return f"{ahead[0]} ({ahead[1]})" if ahead else None
    if row.queue == "acknowledgements" or row.order_id is None:
        return None
    same = "AND target = (SELECT target FROM outbox WHERE id = ?)" if row.queue == "outbox" else "AND ? > 0"
    head = db.execute(
        f"SELECT key, status FROM {row.queue} WHERE order_id = ? AND id < ? {same} AND status <> 'done' ORDER BY id LIMIT 1",
        (row.order_id, row.id, row.id),
    ).fetchone()
    return f"{head[0]} ({head[1]})" if head else None
