"""What is kept, for how long, and how much room it takes."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from msgspec import Struct


class Disk(Struct, frozen=True, kw_only=True):
    """All in bytes but the last.

    Attributes:
        file: The database file; of it, `used` holds something, the rest is free and used first.
        log: The write-ahead log beside it.
        free: On the disk, until new orders are refused.
        days_left: Until new orders are refused, at the rate of the last days; None where it does not grow, or nobody knows yet.
    """

    file: int
    used: int
    log: int
    free: int
    days_left: float | None


class RetentionStore(Protocol):
    """A part of `gateway.store.base.Store`. Nothing here touches what is open or waits for a person."""

    async def erase_bodies(self, before: datetime, limit: int) -> int:
        """Erase documents, bodies, answers, codes and attempts of rows settled before; keys and digests stay, and codes while their order
        can still be read. Returns the rows changed."""

    def time_to_let_go(self) -> datetime | None:
        """The time by which things are let go of, which goes on with what has really passed; None while the wall clock is in doubt, when
        nothing may be let go of or given up for its age."""

    def clock_doubt(self) -> str | None:
        """Why the wall clock is in doubt, and what to do; None where it is not."""

    async def confirm_clock(self, who: str) -> bool:
        """A person says that the wall clock is right; leaves an audit row. False where it was not in doubt."""

    async def finish_restore(self, who: str) -> bool:
        """The gap after a copy was put back is closed: events from before it are like others again. False where there was none."""

    async def erase_attempts(self, before: datetime, after: int, limit: int) -> int | None:
        """Erase what was tried of rows settled before. A slice of a walk: it returns the next `after`, None at the end."""

    async def trim_orders(self, before: datetime, forget_before: datetime, after: int, limit: int) -> int | None:
        """Let go of the messages of orders settled before the first moment, and of all of those settled before the second, which are
        new when they come again. A slice of a walk."""

    async def forget_events(self, before: datetime, after: int, limit: int) -> int | None:
        """Let go of events that belong to no order and were settled before. A slice of a walk."""

    async def forget_submissions(self, before: datetime, after: int, limit: int) -> int | None:
        """Let go of submissions settled before, with their keys, whose order is not known any more. A slice of a walk."""

    async def give_back(self, pages: int) -> bool:
        """Give some of the file's free pages back to the disk, where there are many; whether there may be more."""

    async def used_bytes(self) -> int:
        """What of the file holds something; noted once an hour, for the forecast."""


class MaintenanceStore(Protocol):
    """Part of `gateway.store.base.Store`: the upkeep that the service does once a second.

    `refusing` says why new orders are refused, or is None.
    """

    refusing: str | None

    async def commits(self) -> None:
        """Prove that the store commits. Raises StoreBusy or StoreFailed."""

    def silent_for_s(self) -> float:
        """Return the seconds since the writing thread last finished something."""

    def look_at_disk(self) -> None:
        """Refuse new orders when the disk is nearly full, and accept them again when there is room. Blocking, a few microseconds."""

    async def checkpoint(self, *, truncate: bool = False) -> int:
        """Move the write-ahead log into the file; return how many bytes of it a reader kept there."""

    async def note_time(self, *, at_once: bool = False) -> None:
        """Follow the clocks, and store the time once a minute. Raises StoreBusy."""

    async def note_last_messages(self) -> None:
        """Store when each source was last heard of. Raises StoreBusy."""
