"""Retention, and the room that the store takes.

Three verbs have one meaning each. *Redact*: remove the contents of a row (bodies, answers, codes) and keep the row. *Prune*: delete the
messages of an old order, and later the order. *Delete*: remove rows. Nothing here touches what is open or waits for an operator.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from msgspec import Struct


class Disk(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, and a forecast.

    Attributes:
        file: The database file; of it, `used` holds something, the rest is free and used first.
        log: The write-ahead log beside it.
        free: On the disk, until new orders are refused.
        days_left: Days until new orders are refused, at the rate of the last days; None if the file does not grow, or for lack of data.
    """

    file: int
    used: int
    log: int
    free: int
    days_left: float | None


class RetentionStore(Protocol):
    """Part of `gateway.store.base.Store`. A method with `after` works on a slice: it returns the next `after`, None at the end."""

    async def redact_bodies(self, before: datetime, limit: int) -> int:
        """Remove documents, bodies, answers, codes and attempts of rows settled before, and return how many rows changed.

        Keys and digests stay, and codes as long as their order can still be read.
        """

    async def delete_attempts(self, before: datetime, after: int, limit: int) -> int | None:
        """Delete the attempts of rows settled before."""

    async def prune_orders(self, before: datetime, delete_before: datetime, after: int, limit: int) -> int | None:
        """Delete the messages of orders settled before the first moment, and all of those settled before the second.

        The latter are new orders if they come again.
        """

    async def delete_events(self, before: datetime, after: int, limit: int) -> int | None:
        """Delete events that belong to no order and were settled before."""

    async def delete_submissions(self, before: datetime, after: int, limit: int) -> int | None:
        """Delete submissions settled before, with their keys, whose order is not known any more."""

    async def return_free_pages(self, pages: int) -> bool:
        """Return some of the file's free pages to the disk if there are many; True if there may be more."""

    async def used_bytes(self) -> int:
        """Return how much of the file holds something; recorded once an hour, for the forecast."""

    def retention_time(self) -> datetime | None:
        """Return the time by which ages count, which follows the time that has really passed.

        None while the wall clock is in doubt: nothing may be deleted or given up for its age.
        """

    def clock_doubt(self) -> str | None:
        """Return why the wall clock is in doubt, and what to do; None if it is not."""

    async def confirm_clock(self, who: str) -> bool:
        """Trust the wall clock, since an operator says that it is right; False if it was not in doubt."""

    async def finish_restore(self, who: str) -> bool:
        """Close the gap after a copy was put back: events from before it are like others again. False if there was none."""


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
