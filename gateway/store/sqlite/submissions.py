"""The way back: commands for a vendor, accepted, leased, settled.

What is under way for one subject is a lane, as in the outbox; unlike there, what is held or dead leaves its lane, since a later
command need not be a later version of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from typing import Any

import msgspec

from gateway.api.commands import Codes
from gateway.api.errors import StoreBusy, StoreError
from gateway.clock import from_ms
from gateway.store.arrivals import Accepted
from gateway.store.outcome import Settlement
from gateway.store.sqlite.accept import accept_all
from gateway.store.sqlite.core import ACTIVE, Core, due, must_change, new_lease, note_attempt
from gateway.store.sqlite.writer import Connection
from gateway.store.submissions import NewSubmission, SubmissionAccepted, SubmissionEnd, SubmissionRow, SubmissionState

_STATE = "SELECT public_id, caller, source, command, status, attempts, answer, reason, codes FROM submit"
SOLE = "unique_subject = 1 AND status <> 'dead' AND coalesce(outcome, '') <> 'dropped'"
_NEW = """
    INSERT INTO submit (public_id, caller, key, source, command, subject, unique_subject, status, due_at_ms, accepted_at_ms,
                        content_sha256, sha256, body, in_doubt_since_ms, repeated)
    VALUES (?,?,?,?,?,?,?,'ready',?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"""
_LEASE = """
    SELECT id, public_id, caller, source, command, subject, attempts + 1, accepted_at_ms, first_attempt_ms, body, sha256,
           in_doubt_since_ms, lookup_attempts, repeated
    FROM submit INDEXED BY submit_active
    WHERE source = ? AND status IN ('ready', 'leased', 'unknown') AND due_at_ms <= ? ORDER BY due_at_ms, id LIMIT ?"""
_SETTLE = """
    UPDATE submit SET status = ?, due_at_ms = ?, attempts = attempts - ?, lease = NULL, request_started = NULL,
                      first_attempt_ms = coalesce(first_attempt_ms, ?), outcome = ?, reason = ?, settled_at_ms = ?,
                      lookup_attempts = lookup_attempts + ?,
                      answer = ?, codes = ?
    WHERE id = ? AND lease = ?"""
_CLEARED = "UPDATE submit SET in_doubt_since_ms = NULL, lookup_attempts = 0 WHERE id = ?"
_IN_DOUBT = "UPDATE submit SET in_doubt_since_ms = coalesce(in_doubt_since_ms, ?), repeated = 1 WHERE id = ?"
# The oldest of a lane goes where nothing of the lane is on its way.
_ADVANCE = f"""
    UPDATE submit SET due_at_ms = ?1 WHERE id = (
        SELECT min(id) FROM submit INDEXED BY submit_lanes WHERE source = ?2 AND subject = ?3 AND {ACTIVE}
        HAVING sum(status <> 'ready' OR due_at_ms IS NOT NULL) = 0)"""
_ENDED = ("done", "dead", "held")


class Submissions(Core):
    """See `gateway.store.submissions.Submissions`."""

    refusing: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self._watched: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        if self.refusing:
            raise StoreBusy(self.refusing)
        now_ms, sha256 = self._clock.now_ms(), hashlib.sha256(new.body).digest()
        perhaps_sent = self._restored_ms is not None  # by the gateway whose database this was before the copy was put back

        def change(db: Connection) -> SubmissionAccepted:
            added = db.execute(
                _NEW,
                (
                    new.id,
                    new.caller,
                    new.key,
                    new.source,
                    new.command,
                    new.subject,
                    new.unique and new.subject is not None,
                    None if new.subject is not None else now_ms,
                    now_ms,
                    new.sha256,
                    sha256,
                    new.body,
                    now_ms if perhaps_sent else None,
                    perhaps_sent,
                ),
            )
            if added.rowcount == 1:
                advance(db, new.source, new.subject, now_ms)
                return SubmissionAccepted(outcome="stored", state=_state(db.execute(f"{_STATE} WHERE public_id = ?", (new.id,)).fetchone()))
            return _known(db, new)

        accepted = await self._run(change)
        if accepted.outcome == "stored":
            self._ring("submit", new.source)
        return accepted

    async def submission(self, caller: str, id: str) -> SubmissionState | None:
        def change(db: Connection) -> SubmissionState | None:
            found = db.execute(f"{_STATE} WHERE public_id = ? AND caller = ?", (id, caller)).fetchone()
            return found and _state(found)

        return await self._run(change)

    async def submission_ended(self, caller: str, id: str, timeout_s: float) -> SubmissionState | None:
        bell = asyncio.Event()
        self._watched[id].add(bell)
        state: SubmissionState | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    bell.clear()
                    state = await self.submission(caller, id)
                    if state is None or state.state in _ENDED:
                        return state
                    await bell.wait()
        except TimeoutError:
            return state or await self.submission(caller, id)
        finally:
            self._watched[id].discard(bell)
            if not self._watched[id]:
                del self._watched[id]

    async def lease_submissions(self, source: str, limit: int) -> list[SubmissionRow]:
        now_ms, lease = self._clock.now_ms(), new_lease(self._clock.now_ms())

        def change(db: Connection) -> list[SubmissionRow]:
            rows = [_row(found, lease) for found in db.execute(_LEASE, (source, now_ms, limit)).fetchall()]
            if rows:
                db.execute(
                    "UPDATE submit SET status = 'leased', lease = ?, attempts = attempts + 1, due_at_ms = NULL, request_started = 0 "
                    "WHERE id IN (SELECT value FROM json_each(?))",
                    (lease, json.dumps([row.id for row in rows])),
                )
            return rows

        return await self._run(change)

    async def submitting(self, row: SubmissionRow) -> None:
        def change(db: Connection) -> None:
            must_change(db.execute("UPDATE submit SET request_started = 1 WHERE id = ? AND lease = ?", (row.id, row.lease)), row.public_id)

        await self._run(change)

    async def settle_submission(self, row: SubmissionRow, end: Settlement, made: SubmissionEnd | None = None) -> list[Accepted]:
        now_ms = self._clock.now_ms()
        kept = made or SubmissionEnd()

        def change(db: Connection) -> list[Accepted]:
            must_change(
                db.execute(
                    _SETTLE,
                    (
                        end.status,
                        due(end, now_ms),
                        0 if end.counts else 1,
                        end.started_at_ms or None,
                        end.outcome,
                        end.reason,
                        now_ms,
                        end.looked,
                        kept.answer,
                        None if kept.codes is None else msgspec.json.encode(kept.codes),
                        row.id,
                        row.lease,
                    ),
                ),
                row.public_id,
            )
            if end.cleared:
                db.execute(_CLEARED, (row.id,))
            elif "unknown" in (end.status, end.outcome):
                db.execute(_IN_DOUBT, (now_ms, row.id))
            note_attempt(db, "submit", row.id, row.attempts, end)
            if end.status in _ENDED:
                advance(db, row.source, row.subject, now_ms)
            return accept_all(db, [(row.source, "submit", event, now_ms) for event in kept.events])

        accepted = await self._run(change)
        self._ring("submit", row.source)
        if kept.events:
            self._ring("inbox", row.source)
        if any(event.acknowledge for event in kept.events):
            self._ring("acknowledgements", row.source)
        for bell in self._watched.get(row.public_id, ()):
            bell.set()
        return accepted

    def _ring_all(self) -> None:
        super()._ring_all()
        for bells in self._watched.values():
            for bell in bells:
                bell.set()


def advance(db: Connection, source: str, subject: str | None, now_ms: int) -> None:
    """Let the oldest of a lane go, unless something of the lane is on its way."""
    if subject is not None:
        db.execute(_ADVANCE, (now_ms, source, subject))


def ahead_of(db: Connection, row_id: int) -> tuple[str, str] | None:
    """The public id and the status of what a row waits behind."""
    found = db.execute(
        f"SELECT ahead.public_id, ahead.status FROM submit AS row JOIN submit AS ahead INDEXED BY submit_lanes "
        f"ON ahead.source = row.source AND ahead.subject = row.subject AND ahead.{ACTIVE} AND ahead.id <> row.id "
        "WHERE row.id = ? AND row.status = 'ready' AND row.due_at_ms IS NULL ORDER BY ahead.id LIMIT 1",
        (row_id,),
    ).fetchone()
    return found and (str(found[0]), str(found[1]))


def standing_in(db: Connection, row_id: int) -> str | None:
    """The public id of what now stands for the subject of a dead row that is unique_subject: they cannot both be sent."""
    found = db.execute(
        "SELECT public_id FROM submit INDEXED BY submit_sole WHERE (source, subject) = "
        f"(SELECT source, subject FROM submit WHERE id = ?1 AND unique_subject = 1) AND {SOLE} AND id <> ?1",
        (row_id,),
    ).fetchone()
    return found and str(found[0])


def reopen(db: Connection, row_id: int, now_ms: int) -> None:
    """A person lets a row go again; of what is unknown they say that the vendor has nothing of it."""
    db.execute(
        "UPDATE submit SET status = 'ready', due_at_ms = CASE WHEN subject IS NULL THEN ? END, attempts = 0, first_attempt_ms = NULL, "
        "reason = NULL, outcome = NULL, lookup_attempts = 0, in_doubt_since_ms = NULL WHERE id = ?",
        (now_ms, row_id),
    )
    _advance_of(db, row_id, now_ms)


def drop(db: Connection, row_id: int, now_ms: int) -> None:
    """A person ends a row; its caller is told so, and not in that person's words."""
    db.execute(
        "UPDATE submit SET status = 'done', outcome = 'dropped', due_at_ms = NULL, settled_at_ms = ?, reason = ? WHERE id = ?",
        (now_ms, "a person at the gateway dropped it", row_id),
    )
    _advance_of(db, row_id, now_ms)


def _advance_of(db: Connection, row_id: int, now_ms: int) -> None:
    source, subject = db.execute("SELECT source, subject FROM submit WHERE id = ?", (row_id,)).fetchone()
    advance(db, source, subject, now_ms)


def _known(db: Connection, new: NewSubmission) -> SubmissionAccepted:
    """Why a command was not stored."""
    same_key = db.execute(
        f"{_STATE.replace('codes', 'codes, content_sha256')} WHERE caller = ? AND key = ?", (new.caller, new.key)
    ).fetchone()
    if same_key is not None:
        *found, content_sha256 = same_key
        state = _state(found)
        same = (state.source, state.command, content_sha256) == (new.source, new.command, new.sha256)
        return SubmissionAccepted(outcome="repeat" if same else "conflict", state=state)
    standing = db.execute(
        f"{_STATE} INDEXED BY submit_sole WHERE source = ? AND subject = ? AND {SOLE}", (new.source, new.subject)
    ).fetchone()
    if standing is None:
        raise StoreError(f"there is a submission {new.id} already, of another key")
    return SubmissionAccepted(outcome="taken", state=_state(standing))


def _state(found: Any) -> SubmissionState:
    public_id, caller, source, command, status, attempts, answer, reason, codes = found
    return SubmissionState(
        id=public_id,
        caller=caller,
        source=source,
        command=command,
        state=status,
        attempts=attempts,
        answer=answer,
        error=reason,
        codes=None if codes is None else msgspec.json.decode(codes, type=Codes),
    )


def _row(found: Any, lease: int) -> SubmissionRow:
    (
        id_,
        public_id,
        caller,
        source,
        command,
        subject,
        attempts,
        accepted_ms,
        first_ms,
        body,
        sha256,
        in_doubt_ms,
        lookup_attempts,
        repeated,
    ) = found
    return SubmissionRow(
        id=id_,
        lease=lease,
        public_id=public_id,
        caller=caller,
        source=source,
        command=command,
        subject=subject,
        attempts=attempts,
        accepted_at=from_ms(accepted_ms),
        first_attempt_at=from_ms(first_ms),
        body=body,
        sha256=sha256,
        in_doubt_since=from_ms(in_doubt_ms),
        lookup_attempts=lookup_attempts,
        repeated=bool(repeated),
    )
