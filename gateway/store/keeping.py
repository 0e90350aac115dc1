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


class Keeping(Protocol):
    """A part of `gateway.store.base.Store`. Nothing here touches what is open or waits for a person."""

    async def erase_bodies(self, before: datetime, limit: int) -> int:
        """Erase documents, bodies, answers, codes and attempts of rows settled before; keys and digests stay, and codes while their order
        can still be read. Returns the rows changed."""

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
