"""Decisions of operators about rows. No SQL here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gateway.store.row_names import Queue, Status

AT_ONCE = 1000


class Decided(Struct, frozen=True, kw_only=True):
    """Effect of a decision on one row, or the problem with what was named.

    Attributes:
        row, status: The row, and what it was before; None where `problem` speaks of a name.
        would: Nothing was done yet: this is a row that would be decided on.
    """

    key: str
    queue: Queue | None = None
    row: str | None = None
    status: Status | None = None
    problem: str | None = None
    waits_behind: str | None = None
    would: bool = False


class Choice(Struct, frozen=True, kw_only=True):
    """Limits of a decision, and the rows that it is for if it names none.

    Attributes:
        status, source, target, older_than_s: What a row must be like; `older_than_s` counts from when it came.
        after: Continue behind this row of an earlier answer.
        yes: Decide even on more than one row; else they come back as what would be done.
        dry_run: Only say what would be done.
    """

    status: Status | None = None
    source: str | None = None
    target: str | None = None
    older_than_s: float | None = None
    after: str | None = None
    yes: bool = True
    dry_run: bool = False

    @property
    def filters(self) -> bool:
        """True if it says what rows must be like."""
        return (self.status, self.source, self.target, self.older_than_s) != (None, None, None, None)


ANY = Choice()


class DecisionStore(Protocol):
    """Part of `gateway.store.base.Store`: one method for each decision. A name that cannot be decided on comes back with its `problem`."""

    async def replay(self, keys: Sequence[str], who: str, *, choice: Choice = ANY) -> list[Decided]:
        """Make dead letters ready again, with a clean count. Without keys, the first that `choice` describes, `AT_ONCE` at most."""

    async def release(self, keys: Sequence[str], who: str, *, choice: Choice = ANY) -> list[Decided]:
        """Make held rows ready; what waited for the decision becomes ready before them."""

    async def drop(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        """End rows without delivery, also those that may have been delivered; what waited for the decision becomes ready."""

    async def resend(self, keys: Sequence[str], who: str, reason: str, *, choice: Choice = ANY) -> list[Decided]:
        """Send delivered messages to their targets once more, under the same key and with the same bytes."""

    async def note(self, who: str, action: str, key: str, reason: str | None = None) -> None:
        """Write an audit row for a decision that changes no row; that of a submission is shown with it."""
