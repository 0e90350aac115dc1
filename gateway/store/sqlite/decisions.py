"""Decisions of operators about rows: replay, release, drop, resend. Every decision leaves an audit row.

What a name picks is in `naming.py`; without names, `Choice` describes the rows. Both are looked up in the transaction that decides, so
that nothing is touched that does not fit at that moment. The reason stands in the audit row and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from gateway.store.decisions import ANY, Choice, Decided
from gateway.store.row_names import Queue, Status
from gateway.store.sqlite import submissions
from gateway.store.sqlite.choice import chosen
from gateway.store.sqlite.core import Core, audit
from gateway.store.sqlite.queues import advance, advance_messages
from gateway.store.sqlite.resend import may_resend, resend
from gateway.store.sqlite.row_names import Found, ahead_of, pick
from gateway.store.sqlite.writer import Connection

Act = Callable[[Connection, Found, int], None]
May = Callable[[Connection, Found, Collection[Found]], str | None]


_WAITS = "SELECT status = 'ready' AND due_at_ms IS NULL FROM submit WHERE id = ?"
# Releasing a row that is in doubt says that the other side does not have it.
_REOPENED: Mapping[Queue, str] = {
    "inbox": "released = released OR status = 'held', outcome = NULL, due_at_ms = CASE WHEN order_id IS NULL THEN ?1 END",
    "outbox": """
        due_at_ms = NULL, first_attempt_ms = NULL, held_for = NULL, outcome = NULL, lookup_attempts = 0, ambiguous_failures = 0,
        maybe_delivered = CASE WHEN in_doubt_since_ms IS NULL THEN maybe_delivered ELSE step > 0 END, in_doubt_since_ms = NULL""",
    "acknowledgements": "due_at_ms = ?1, first_attempt_ms = NULL",
    "submit": """
        due_at_ms = CASE WHEN subject IS NULL THEN ?1 END, first_attempt_ms = NULL, outcome = NULL, lookup_attempts = 0,
        in_doubt_since_ms = NULL""",
}
_DROPPED: Mapping[Queue, str] = {
    "inbox": "outcome = 'dropped'",
    "outbox": "outcome = 'dropped'",
    "acknowledgements": "reason = 'dropped'",
    "submit": "outcome = 'dropped', reason = 'a person at the gateway dropped it'",  # its caller sees this, not the operator's reason
}


class Action(Struct, frozen=True, kw_only=True):
    """Kind of decision: the statuses it applies to, what it does, and `may`, which says why a row must be left out."""

    name: str
    wanted: tuple[Status, ...]
    act: Act
    may: May = lambda *_: None
    outcomes: tuple[str, ...] = ()

    def fits(self, row: Found) -> bool:
        """Return whether it applies to a row; one for certain outcomes is for messages alone."""
        return row.status in self.wanted and (not self.outcomes or (row.queue == "outbox" and row.outcome in self.outcomes))

    @property
    def words(self) -> str:
        """The statuses or outcomes that it applies to, in words."""
        return " or ".join(self.outcomes or self.wanted)


class Decisions(Core):
    """Part of `SqliteStore`; `gateway.store.decisions.DecisionStore` describes the methods."""

    async def replay(self, keys: Sequence[str], who: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("replay", keys, who, None, choice)

    async def release(self, keys: Sequence[str], who: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("release", keys, who, None, choice)

    async def drop(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("drop", keys, who, reason, choice)

    async def resend(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        return await self._decide("resend", keys, who, reason, choice)

    async def finish_restore(self, who: str) -> bool:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> bool:
            ended = db.execute("UPDATE restores SET finished_at_ms = ? WHERE finished_at_ms IS NULL", (now_ms,))
            if ended.rowcount:
                audit(db, now_ms, who, "restore finished")
            return bool(ended.rowcount)

        was_open = await self._run(change)
        self._restored_ms = None
        return was_open

    async def note(self, who: str, action: str, key: str, reason: str | None = None) -> None:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> None:
            found = db.execute("SELECT id FROM submit WHERE public_id = ?", (key,)).fetchone()
            audit(db, now_ms, who, action, queue=found and "submit", row_id=found and found[0], key=key, reason=reason)

        await self._run(change)

    async def _decide(self, action: str, keys: Sequence[str], who: str, reason: str | None, choice: Choice) -> list[Decided]:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> list[Decided]:
            planned = plan(db, ACTIONS[action], keys, choice, now_ms)
            if choice.dry_run or (not choice.yes and sum(isinstance(one, Found) for one in planned) > 1):
                return [_would(one) for one in planned]
            return [one if isinstance(one, Decided) else _done(db, ACTIONS[action], one, who, reason, now_ms) for one in planned]

        decided = await self._run(change)
        self._wake_all()
        return decided


def plan(db: Connection, action: Action, keys: Sequence[str], choice: Choice, now_ms: int) -> list[Found | Decided]:
    """Return the rows that a decision touches, each once, and what cannot be done, in the order of the names."""
    planned: dict[str, Found | Decided] = {}
    if not keys:
        planned = {row.name: row for row in chosen(db, choice, action.wanted, now_ms)}
    for key in keys:
        rows, problem = pick(db, key, action.fits, action.words)
        planned |= {f"key {key}": Decided(key=key, problem=problem)} if problem else {row.name: row for row in rows}
    while together := [row for row in planned.values() if isinstance(row, Found)]:
        refused = {row.name: _refused(row, problem) for row in together if (problem := action.may(db, row, together))}
        planned |= refused
        if not refused:  # else ask again about the rows that were to go with it
            break
    return list(planned.values())


def _done(db: Connection, action: Action, row: Found, who: str, reason: str | None, now_ms: int) -> Decided:
    if problem := _another(db, row) if action.act is _reopen else None:  # also what this decision has reopened
        return _refused(row, problem)
    action.act(db, row, now_ms)
    audit(db, now_ms, who, action.name, queue=row.queue, row_id=row.id, key=row.key, reason=reason)
    return Decided(key=row.key, queue=row.queue, row=row.name, status=row.status, waits_behind=_waits_behind(db, row))


def would(db: Connection, action: str, keys: Sequence[str], choice: Choice, now_ms: int) -> list[Decided]:
    """Return what a decision would touch; nothing is done."""
    return [_would(one) for one in plan(db, ACTIONS[action], keys, choice, now_ms)]


def _would(one: Found | Decided) -> Decided:
    return one if isinstance(one, Decided) else Decided(key=one.key, queue=one.queue, row=one.name, status=one.status, would=True)


def _refused(row: Found, problem: str) -> Decided:
    return Decided(key=row.key, queue=row.queue, row=row.name, status=row.status, problem=problem)


def _another(db: Connection, row: Found, _: Collection[Found] = ()) -> str | None:
    """Say why a dead submission cannot be sent again."""
    if row.queue == "submit" and row.status == "dead" and (other := submissions.current_for_subject(db, row.id)):
        return f"submission {other} stands for the same by now; drop that one first, or leave this one dead"
    return None


def _reopen(db: Connection, row: Found, now_ms: int) -> None:
    columns = f"status = 'ready', attempts = 0, reason = NULL, {_REOPENED[row.queue]}"
    db.execute(f"UPDATE {row.queue} SET {columns} WHERE id = ?2", (now_ms, row.id))
    _go_on(db, row, now_ms)


def _drop(db: Connection, row: Found, now_ms: int) -> None:
    columns = f"status = 'done', due_at_ms = NULL, settled_at_ms = ?, {_DROPPED[row.queue]}"
    db.execute(f"UPDATE {row.queue} SET {columns} WHERE id = ?", (now_ms, row.id))
    _go_on(db, row, now_ms)


def _go_on(db: Connection, row: Found, now_ms: int) -> None:
    """Make due what waited behind the row, or for this decision."""
    advance(db, now_ms, row.queue, *row.ordering_key)
    if row.queue == "inbox" and row.order_id is not None:
        db.execute(
            "UPDATE outbox INDEXED BY outbox_by_order SET status = 'ready', due_at_ms = NULL, held_for = NULL, reason = NULL "
            "WHERE order_id = ? AND held_for = ? AND status = 'held'",
            (row.order_id, row.id),
        )
        advance_messages(db, now_ms, row.order_id, row.id)


def _waits_behind(db: Connection, row: Found) -> str | None:
    if row.queue == "submit" and not db.execute(_WAITS, (row.id,)).fetchone()[0]:
        return None
    ahead = ahead_of(db, row.queue, row.id, row.ordering_key)
    return f"{ahead.key} ({ahead.status})" if ahead else None


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(name="replay", wanted=("dead",), act=_reopen, may=_another),
        Action(name="release", wanted=("held",), act=_reopen),
        Action(name="drop", wanted=("held", "dead", "ready", "unknown"), act=_drop),
        Action(name="resend", wanted=("done",), act=resend, may=may_resend, outcomes=("delivered", "duplicate")),
    )
}
