"""What people decide about rows: replay, release, drop, resend. Every decision leaves an audit row.

What a name picks is in `naming.py`; without names, `Choice` describes the rows. Both are looked up in the transaction that decides, so
that nothing is touched that does not fit at that moment. The reason stands in the audit row and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from gateway.store.decisions import ANY, Choice, Decided
from gateway.store.outcome import storable
from gateway.store.row_names import Status
from gateway.store.sqlite import submissions
from gateway.store.sqlite.choice import chosen
from gateway.store.sqlite.core import Core, advance_inbox, advance_messages, advance_outbox
from gateway.store.sqlite.resend import may_resend, resend
from gateway.store.sqlite.row_names import Found, pick
from gateway.store.sqlite.writer import Connection

Act = Callable[[Connection, Found, int], None]
May = Callable[[Connection, Found, Collection[Found]], str | None]


class Action(Struct, frozen=True, kw_only=True):
    """One kind of decision: the statuses it applies to, what it does, and why it may not be done to a row among those decided with it."""

    name: str
    wanted: tuple[Status, ...]
    act: Act
    may: May = lambda *_: None
    outcomes: tuple[str, ...] = ()

    def fits(self, row: Found) -> bool:
        """Whether it applies to a row; one for certain outcomes is for messages alone."""
        return row.status in self.wanted and (not self.outcomes or (row.queue == "outbox" and row.outcome in self.outcomes))

    @property
    def words(self) -> str:
        """What it applies to."""
        return " or ".join(self.outcomes or self.wanted)


class Decisions(Core):
    """See `gateway.store.base.Store`."""

    async def replay(self, keys: Sequence[str], who: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("replay", keys, who, None, choice)

    async def release(self, keys: Sequence[str], who: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("release", keys, who, None, choice)

    async def drop(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("drop", keys, who, storable(reason), choice)

    async def resend(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("resend", keys, who, storable(reason), choice)

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
                (now_ms, who, action, key, storable(reason) if reason else None),
            )
        )

    async def _decide(self, action: str, keys: Sequence[str], who: str, reason: str | None, choice: Choice) -> list[Decided]:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> list[Decided]:
            planned = plan(db, ACTIONS[action], keys, choice, now_ms)
            if choice.dry_run or (not choice.yes and sum(isinstance(one, Found) for one in planned) > 1):
                return [_would(one) for one in planned]
            return [one if isinstance(one, Decided) else _done(db, ACTIONS[action], one, who, reason, now_ms) for one in planned]

        decided = await self._run(change)
        self._ring_all()
        return decided


def plan(db: Connection, action: Action, keys: Sequence[str], choice: Choice, now_ms: int) -> list[Found | Decided]:
    """The rows that a decision touches, each once, and what cannot be done, in the order of the names."""
    planned: dict[str, Found | Decided] = {}
    if not keys:
        planned = {row.name: row for row in chosen(db, choice, action.wanted, now_ms)}
    for key in keys:
        rows, problem = pick(db, key, action.fits, action.words)
        planned |= {f"key {key}": Decided(key=key, problem=problem)} if problem else {row.name: row for row in rows}
    while together := [row for row in planned.values() if isinstance(row, Found)]:
        refused = {row.name: _refused(row, problem) for row in together if (problem := action.may(db, row, together))}
        planned |= refused
        if not refused:  # else what was to go with it is asked about anew
            break
    return list(planned.values())


def _done(db: Connection, action: Action, row: Found, who: str, reason: str | None, now_ms: int) -> Decided:
    if problem := _another(db, row) if action.act is _reopen else None:  # also what this very command let go before
        return _refused(row, problem)
    action.act(db, row, now_ms)
    db.execute(
        "INSERT INTO audit (at_ms, who, action, queue, row_id, key, reason) VALUES (?,?,?,?,?,?,?)",
        (now_ms, who, action.name, row.queue, row.id, row.key, reason),
    )
    return Decided(key=row.key, queue=row.queue, row=row.name, status=row.status, waits_behind=_waits_behind(db, row))


def would(db: Connection, action: str, keys: Sequence[str], choice: Choice, now_ms: int) -> list[Decided]:
    """What a decision would touch; nothing is done."""
    return [_would(one) for one in plan(db, ACTIONS[action], keys, choice, now_ms)]


def _would(one: Found | Decided) -> Decided:
    return one if isinstance(one, Decided) else Decided(key=one.key, queue=one.queue, row=one.name, status=one.status, would=True)


def _refused(row: Found, problem: str) -> Decided:
    return Decided(key=row.key, queue=row.queue, row=row.name, status=row.status, problem=problem)


def _another(db: Connection, row: Found, _: Collection[Found] = ()) -> str | None:
    """Why a dead submission cannot go again."""
    if row.queue == "submit" and row.status == "dead" and (other := submissions.standing_in(db, row.id)):
        return f"submission {other} stands for the same by now; drop that one first, or leave this one dead"
    return None


def _reopen(db: Connection, row: Found, now_ms: int) -> None:
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
            "outcome = NULL, lookup_attempts = 0, ambiguous_failures = 0, "
            "maybe_delivered = CASE WHEN in_doubt_since_ms IS NULL THEN maybe_delivered ELSE step > 0 END, "
            "in_doubt_since_ms = NULL WHERE id = ?",  # who releases what is unknown says that it is not there
            (row.id,),
        )
        assert row.order_id is not None
        advance_outbox(db, row.order_id, row.target, now_ms)


def _drop(db: Connection, row: Found, now_ms: int) -> None:
    if row.queue == "submit":
        submissions.drop(db, row.id, now_ms)
        return
    if row.queue == "acknowledgements":
        db.execute(
            "UPDATE acknowledgements SET status = 'done', due_at_ms = NULL, settled_at_ms = ?, reason = 'dropped' WHERE id = ?",
            (now_ms, row.id),
        )
        return
    db.execute(
        f"UPDATE {row.queue} SET status = 'done', outcome = 'dropped', due_at_ms = NULL, settled_at_ms = ? WHERE id = ?",
        (now_ms, row.id),
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


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(name="replay", wanted=("dead",), act=_reopen, may=_another),
        Action(name="release", wanted=("held",), act=_reopen),
        Action(name="drop", wanted=("held", "dead", "ready", "unknown"), act=_drop),
        Action(name="resend", wanted=("done",), act=resend, may=may_resend, outcomes=("delivered", "duplicate")),
    )
}
