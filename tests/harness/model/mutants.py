"""Known-bad stores: each is the real one with one fault put in. The model has to find every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.api.messages import Door
from gateway.store.arrivals import Accepted, NewEvent
from gateway.store.decisions import ANY, Choice, Decided
from gateway.store.outcome import Settlement
from gateway.store.rows import OutboxRow, Prepared
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.writer import Connection
from gateway.store.submissions import NewSubmission, SubmissionAccepted, SubmissionEnd, SubmissionRow, SubmissionState


class SettlesWithoutItsLease(SqliteStore):
    """A late result overwrites what others have done meanwhile."""

    async def settle_outbox(self, row: OutboxRow, end: Settlement, *, acknowledge: bool = False) -> None:
        sql = "UPDATE outbox SET lease = ?, status = 'leased', due_at_ms = NULL WHERE id = ?"
        await self._run(lambda db: db.execute(sql, (row.lease, row.id)))
        await super().settle_outbox(row, end, acknowledge=acknowledge)


class AnswersBeforeItCommits(SqliteStore):
    """What is accepted is committed with the next one."""

    _held_back: Any = None

    async def accept(self, source: str, door: Door, events: Sequence[NewEvent], **more: Any) -> list[Accepted]:
        before, self._held_back = self._held_back, (source, door, events)
        if before is not None:
            await super().accept(*before)
        said = await self._run(lambda db: _what_it_would_say(db, events[0]))
        return [Accepted(key=said[0], outcome=said[1])]


def _what_it_would_say(db: Connection, event: NewEvent) -> tuple[str, Any]:
    sql = "SELECT versions, content FROM orders WHERE order_ref = ?"
    versions, content = db.execute(sql, (event.order_ref,)).fetchone() or (0, None)
    version = versions + (content != event.content)
    return event.key if version == 1 else f"{event.key}@{version}", "repeat" if version == versions else "stored"


class HasNoUniqueIndex(SqliteStore):
    """A repeat is one more order."""

    async def accept(self, source: str, door: Door, events: Sequence[NewEvent], **more: Any) -> list[Accepted]:
        for sql in (
            "UPDATE inbox SET content = NULL WHERE order_id = (SELECT id FROM orders WHERE order_ref = ?)",
            "UPDATE orders SET content = NULL WHERE order_ref = ?",
        ):
            await self._run(lambda db, sql=sql: db.execute(sql, (events[0].order_ref,)))  # type: ignore[misc]
        return await super().accept(source, door, events, **more)


class TakesWhatWasLeasedForDone(SqliteStore):
    """After a crash nobody looks at what was under way."""

    def _open(self) -> Connection:
        db = super()._open()
        db.execute("UPDATE outbox SET status = 'done', outcome = 'delivered', due_at_ms = NULL WHERE attempts > 0 AND status = 'ready'")
        return db


class LetsThemOvertake(SqliteStore):
    """A message does not wait for the one before it."""

    async def prepared(self, made: Sequence[Prepared]) -> None:
        await super().prepared(made)
        now_ms = self._clock.now_ms()
        await self._run(lambda db: db.execute("UPDATE outbox SET due_at_ms = ? WHERE status = 'ready'", (now_ms,)))


class DropsWithoutATrace(SqliteStore):
    """Nobody can say afterwards who did it."""

    async def drop(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        decided = await super().drop(keys, who, reason, choice=choice)
        await self._run(lambda db: db.execute("DELETE FROM audit WHERE action = 'drop'"))
        return decided


class ErasesWhatHasNotLeft(SqliteStore):
    """Old bodies go, whatever their orders' state."""

    async def redact_bodies(self, before: Any, limit: int) -> int:
        await self._run(lambda db: db.execute("UPDATE outbox SET body = NULL WHERE status <> 'leased'"))
        return await super().redact_bodies(before, limit)


class SupersedesWhatMayBeThere(SqliteStore):
    """The newer version replaces also one that is not its own to replace: whatever the source's policy."""

    async def prepared(self, made: Sequence[Prepared]) -> None:
        await super().prepared([replace(one, supersedes=True, sent=None) for one in made])


class ConfirmsAll(SqliteStore):
    """A vendor hears that an order was delivered which a person dropped."""

    async def drop(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        decided = await super().drop(keys, who, reason, choice=choice)
        sql = """INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms)
                 SELECT 'acme', 'delivered', inbox_id, 'ready', 0, 0 FROM outbox WHERE outcome = 'dropped' ON CONFLICT DO NOTHING"""
        await self._run(lambda db: db.execute(sql))
        return decided


class ResendsWhatIsOlder(SqliteStore):
    """A delivered message goes again, whatever was delivered after it."""

    async def resend(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        now_ms, row_id = self._clock.now_ms(), int(keys[0].split(":")[1])
        await self._run(
            lambda db: db.execute("UPDATE outbox SET status = 'ready', outcome = NULL, due_at_ms = ? WHERE id = ?", (now_ms, row_id))
        )
        return [Decided(key=keys[0])]


class LetsOldOnesComeBack(SqliteStore):
    """What an order was before is a revision, as anything else is."""

    async def accept(self, source: str, door: Door, events: Sequence[NewEvent], **more: Any) -> list[Accepted]:
        return await super().accept(source, door, [replace(event, sends_earlier=True) for event in events], **more)


class ReplacesTooEarly(SqliteStore):
    """The earlier message goes before it is sure that there will be another one."""

    async def sent_before(self, row: Any, *, supersede: bool) -> frozenset[str]:
        if supersede:
            sql = "UPDATE outbox SET status = 'done', outcome = 'dropped' WHERE order_id = ? AND maybe_delivered = 0 AND status = 'ready'"
            await self._run(lambda db: db.execute(sql, (row.order_id,)))
        return await super().sent_before(row, supersede=supersede)


MUTANTS: tuple[type[SqliteStore], ...] = (
    SettlesWithoutItsLease,
    AnswersBeforeItCommits,
    HasNoUniqueIndex,
    TakesWhatWasLeasedForDone,
    LetsThemOvertake,
    DropsWithoutATrace,
    ErasesWhatHasNotLeft,
    SupersedesWhatMayBeThere,
    ConfirmsAll,
    ResendsWhatIsOlder,
    LetsOldOnesComeBack,
    ReplacesTooEarly,
)


# --- of commands


class SaysYesBeforeItCommits(SqliteStore):
    """What is submitted is committed with the next one."""

    _waiting: NewSubmission | None = None

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        before, self._waiting = self._waiting, new
        if before is not None:
            await super().accept_submission(before)
        state = SubmissionState(id=new.id, caller=new.caller, source=new.source, command=new.command, state="ready", attempts=0)
        return SubmissionAccepted(outcome="stored", state=state)


class KnowsNoKeys(SqliteStore):
    """The same key again is one more command."""

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        return await super().accept_submission(replace(new, key=new.id))


class LetsTwoStandForANumber(SqliteStore):
    """An order's number may be created as often as there are keys."""

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        return await super().accept_submission(replace(new, unique=False))


class AnnouncesNothing(SqliteStore):
    """After a crash nobody can tell what had left."""

    async def start_submission(self, row: SubmissionRow) -> None:
        return None


class SendsWhatIsUnknownAgain(SqliteStore):
    """What nobody knows the end of is just sent once more."""

    async def lease_submissions(self, source: str, limit: int) -> list[SubmissionRow]:
        return [replace(row, in_doubt_since=None) for row in await super().lease_submissions(source, limit)]


class LetsCommandsOvertake(SqliteStore):
    """A command does not wait for the one before it."""

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        accepted = await super().accept_submission(new)
        await self._run(lambda db: db.execute("UPDATE submit SET due_at_ms = 0 WHERE status = 'ready'"))
        return accepted


class TakesWhatWasSaidForDone(SqliteStore):
    """After a crash nobody asks what became of a command."""

    def _open(self) -> Connection:
        db = super()._open()
        db.execute("UPDATE submit SET status = 'done', outcome = 'submitted', due_at_ms = NULL WHERE status = 'unknown'")
        return db


class TellsTheErpNothing(SqliteStore):
    """An order was created, and its event is not kept with the answer."""

    async def settle_submission(self, row: SubmissionRow, end: Settlement, made: SubmissionEnd | None = None) -> list[Accepted]:
        return await super().settle_submission(row, end, made and replace(made, events=()))


class ForgetsWhatHasNotEnded(SqliteStore):
    """Old is old, whatever its state."""

    async def delete_submissions(self, before: Any, after: int, limit: int) -> int | None:
        await self._run(lambda db: db.execute("DELETE FROM submit WHERE status IN ('ready', 'held', 'dead')"))
        return await super().delete_submissions(before, after, limit)


class ErasesCommandsThatHaveNotLeft(SqliteStore):
    """Old bodies go, whatever their state."""

    async def redact_bodies(self, before: Any, limit: int) -> int:
        await self._run(lambda db: db.execute("UPDATE submit SET body = NULL"))
        return await super().redact_bodies(before, limit)


OUTWARD: tuple[type[SqliteStore], ...] = (
    SaysYesBeforeItCommits,
    KnowsNoKeys,
    LetsTwoStandForANumber,
    AnnouncesNothing,
    SendsWhatIsUnknownAgain,
    LetsCommandsOvertake,
    TakesWhatWasSaidForDone,
    TellsTheErpNothing,
    ForgetsWhatHasNotEnded,
    ErasesCommandsThatHaveNotLeft,
    DropsWithoutATrace,
)
