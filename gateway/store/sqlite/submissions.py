"""Submissions: commands for vendors, accepted, leased, settled.

The ordering key is source and subject. What is held or dead does not block it, as it does in the outbox: a later command need not be a
later version of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict

import msgspec
from msgspec.structs import asdict

from gateway.api.errors import StoreBusy, StoreError
from gateway.store.arrivals import Accepted
from gateway.store.outcome import Settlement
from gateway.store.sqlite.accept import accept_all
from gateway.store.sqlite.core import Core
from gateway.store.sqlite.queues import advance, decode, mark_leased, new_lease, settle, update_leased
from gateway.store.sqlite.writer import Connection
from gateway.store.submissions import NewSubmission, SubmissionAccepted, SubmissionEnd, SubmissionRow, SubmissionState

_STATE = "SELECT public_id, caller, source, command, status, attempts, answer, reason, codes FROM submit"
IS_CURRENT = "unique_subject = 1 AND status <> 'dead' AND coalesce(outcome, '') <> 'dropped'"
_NEW = """
    INSERT INTO submit (public_id, caller, key, source, command, subject, unique_subject, status, due_at_ms, accepted_at_ms,
                        content_sha256, sha256, body, in_doubt_since_ms, maybe_delivered)
    VALUES (:id, :caller, :key, :source, :command, :subject, :unique, 'ready', :due_at_ms, :now_ms,
            :sha256, :body_sha256, :body, :in_doubt_since_ms, :maybe_delivered) ON CONFLICT DO NOTHING"""
_LEASE = """
    SELECT id, public_id, caller, source, command, subject, attempts + 1, accepted_at_ms, first_attempt_ms, body, sha256,
           in_doubt_since_ms, lookup_attempts, maybe_delivered
    FROM submit INDEXED BY submit_active
    WHERE source = ? AND status IN ('ready', 'leased', 'unknown') AND due_at_ms <= ? ORDER BY due_at_ms, id LIMIT ?"""
_ENDED = ("done", "dead", "held")


class Submissions(Core):
    """Part of `SqliteStore`; `gateway.store.submissions.SubmissionStore` describes the methods."""

    def __init__(self) -> None:
        super().__init__()
        self._watched: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        if self.refusing:
            raise StoreBusy(self.refusing)
        now_ms, sha256 = self._clock.now_ms(), hashlib.sha256(new.body).digest()
        perhaps_sent = self._restored_ms is not None  # by the gateway that had the database before the copy was put back

        def change(db: Connection) -> SubmissionAccepted:
            values = asdict(new) | {"unique": new.unique and new.subject is not None, "body_sha256": sha256, "now_ms": now_ms}
            values |= {"due_at_ms": now_ms if new.subject is None else None, "maybe_delivered": perhaps_sent}
            added = db.execute(_NEW, values | {"in_doubt_since_ms": now_ms if perhaps_sent else None})
            if added.rowcount == 1:
                advance(db, now_ms, "submit", new.source, new.subject)
                found = db.execute(f"{_STATE} WHERE public_id = ?", (new.id,)).fetchone()
                return SubmissionAccepted(outcome="stored", state=decode(SubmissionState, found))
            return _known(db, new)

        accepted = await self._run(change)
        if accepted.outcome == "stored":
            self._wake("submit", new.source)
        return accepted

    async def submission(self, caller: str, id: str) -> SubmissionState | None:
        found = await self._first(f"{_STATE} WHERE public_id = ? AND caller = ?", (id, caller))
        return found and decode(SubmissionState, found)

    async def submission_ended(self, caller: str, id: str, timeout_s: float) -> SubmissionState | None:
        wakeup = asyncio.Event()
        self._watched[id].add(wakeup)
        state: SubmissionState | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    wakeup.clear()
                    state = await self.submission(caller, id)
                    if state is None or state.state in _ENDED:
                        return state
                    await wakeup.wait()
        except TimeoutError:
            return state or await self.submission(caller, id)
        finally:
            self._watched[id].discard(wakeup)
            if not self._watched[id]:
                del self._watched[id]

    async def lease_submissions(self, source: str, limit: int) -> list[SubmissionRow]:
        now_ms, lease = self._clock.now_ms(), new_lease(self._clock.now_ms())

        def change(db: Connection) -> list[SubmissionRow]:
            rows = [decode(SubmissionRow, found, lease=lease) for found in db.execute(_LEASE, (source, now_ms, limit)).fetchall()]
            return mark_leased(db, "submit", rows, ", request_started = 0")

        return await self._run(change)

    async def start_submission(self, row: SubmissionRow) -> None:
        await self._run(lambda db: update_leased(db, "submit", row, "request_started = 1"))

    async def settle_submission(self, row: SubmissionRow, end: Settlement, made: SubmissionEnd | None = None) -> list[Accepted]:
        now_ms = self._clock.now_ms()
        kept = made or SubmissionEnd()
        codes = None if kept.codes is None else msgspec.json.encode(kept.codes)

        def change(db: Connection) -> list[Accepted]:
            settle(db, "submit", row, end, now_ms, answer=kept.answer, codes=codes)
            if end.status in _ENDED:
                advance(db, now_ms, "submit", row.source, row.subject)
            return accept_all(db, [(row.source, "submit", event, now_ms) for event in kept.events])

        accepted = await self._run(change)
        self._wake("submit", row.source)
        if kept.events:
            self._wake("inbox", row.source)
        if any(event.acknowledge for event in kept.events):
            self._wake("acknowledgements", row.source)
        for wakeup in self._watched.get(row.public_id, ()):
            wakeup.set()
        return accepted

    def _wake_all(self) -> None:
        super()._wake_all()
        for wakeups in self._watched.values():
            for wakeup in wakeups:
                wakeup.set()


def current_for_subject(db: Connection, row_id: int) -> str | None:
    """Return the public id of what now stands for the unique subject of a dead row: they cannot both be sent."""
    found = db.execute(
        "SELECT public_id FROM submit INDEXED BY submit_current WHERE (source, subject) = "
        f"(SELECT source, subject FROM submit WHERE id = ?1 AND unique_subject = 1) AND {IS_CURRENT} AND id <> ?1",
        (row_id,),
    ).fetchone()
    return found and str(found[0])


def _known(db: Connection, new: NewSubmission) -> SubmissionAccepted:
    """Return why a command was not stored."""
    same_key = db.execute(
        f"{_STATE.replace('codes', 'codes, content_sha256')} WHERE caller = ? AND key = ?", (new.caller, new.key)
    ).fetchone()
    if same_key is not None:
        *found, content_sha256 = same_key
        state = decode(SubmissionState, found)
        same = (state.source, state.command, content_sha256) == (new.source, new.command, new.sha256)
        return SubmissionAccepted(outcome="repeat" if same else "conflict", state=state)
    standing = db.execute(
        f"{_STATE} INDEXED BY submit_current WHERE source = ? AND subject = ? AND {IS_CURRENT}", (new.source, new.subject)
    ).fetchone()
    if standing is None:
        raise StoreError(f"there is a submission {new.id} already, of another key")
    return SubmissionAccepted(outcome="taken", state=decode(SubmissionState, standing))
