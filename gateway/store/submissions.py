"""Submissions: commands for vendors in their own queue, and one method for each state transition.

ready -> leased -> done | dead | held          unknown -> leased (to look it up, or to repeat what may be) -> done | ready | unknown | held
         leased -> ready (retry, release)      leased -> unknown (the vendor may have done it)
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

from gateway.api.commands import Codes
from gateway.store.arrivals import Accepted, NewEvent
from gateway.store.outcome import Settlement
from gateway.store.row_names import Status


class NewSubmission(Struct, frozen=True, kw_only=True):
    """Checked command on its way in.

    Attributes:
        id: Made by the door, random.
        caller: The API caller; `key` is the caller's idempotency key.
        subject, unique: As the command's description says.
        body: As the caller sent it.
        sha256: Of source, command and what the body says, whatever its spelling: another one under the same key is a conflict.
    """

    id: str
    caller: str
    key: str
    source: str
    command: str
    subject: str | None = None
    unique: bool = False
    body: bytes
    sha256: bytes


class SubmissionState(Struct, frozen=True, kw_only=True):
    """Submission as its `caller` may see it. `answer` and `codes` are there once it is done, until they are redacted."""

    id: str
    caller: str
    source: str
    command: str
    state: Status
    attempts: int
    answer: bytes | None = None
    error: str | None = None
    codes: Codes | None = None


class SubmissionAccepted(Struct, frozen=True, kw_only=True):
    """Result of `accept_submission`. `conflict`: the key stands for another body; `taken`: `state` is another submission of the same unique
    subject.
    """

    outcome: Literal["stored", "repeat", "conflict", "taken"]
    state: SubmissionState


class SubmissionRow(Struct, frozen=True, kw_only=True):
    """Leased submission.

    Attributes:
        sha256: Of `body`, for a bit that flipped.
        in_doubt_since: Since when the outcome of the last attempt is unknown; None if it is known.
        lookup_attempts: How many look-ups since then brought nothing.
        maybe_delivered: An attempt before this one may have reached the vendor, whatever has been found out since.
    """

    id: int
    lease: int
    public_id: str
    caller: str
    source: str
    command: str
    subject: str | None
    attempts: int
    accepted_at: datetime
    first_attempt_at: datetime | None
    body: bytes | None
    sha256: bytes
    in_doubt_since: datetime | None = None
    lookup_attempts: int = 0
    maybe_delivered: bool = False


class SubmissionEnd(Struct, frozen=True, kw_only=True):
    """Answer of the vendor: kept with the row that is done; its events are accepted in the same transaction."""

    answer: bytes | None = None
    codes: Codes | None = None
    events: tuple[NewEvent, ...] = ()


class SubmissionStore(Protocol):
    """Part of `gateway.store.base.Store`."""

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        """Make a command durable, once for its caller and key, and once for a subject that is unique."""

    async def submission(self, caller: str, id: str) -> SubmissionState | None:
        """Return a submission as the caller that made it may see it."""

    async def submission_ended(self, caller: str, id: str, timeout_s: float) -> SubmissionState | None:
        """Return it as soon as it is done, held or dead, at the latest after the timeout. The change wakes the caller."""

    async def lease_submissions(self, source: str, limit: int) -> list[SubmissionRow]:
        """Lease due submissions, oldest first, one per subject; unknown ones to be looked up.

        After a crash, a leased row whose request was recorded is `unknown`, another one `ready`.
        """

    async def start_submission(self, row: SubmissionRow) -> None:
        """Record that a request for this row is about to leave. Raises LeaseLost."""

    async def settle_submission(self, row: SubmissionRow, end: Settlement, made: SubmissionEnd | None = None) -> list[Accepted]:
        """End one attempt or look-up, and accept the events of `made`; return their results. Raises LeaseLost."""
