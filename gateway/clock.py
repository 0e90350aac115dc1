"""Clock of the gateway: wall time for people and vendors, monotonic time for durations."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, overload


class Clock(Protocol):
    """Source of time; tests pass a `ManualClock` (gateway.testing)."""

    def now(self) -> datetime:
        """Return wall time, aware, in UTC."""

    def now_ms(self) -> int:
        """Return wall time in whole milliseconds since 1970, the store's unit."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; this clock never jumps."""

    async def sleep(self, delay_s: float) -> None:
        """Sleep for `delay_s` seconds; 0 lets other tasks run."""


class SystemClock:
    """Clocks of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def to_ms(instant: datetime) -> int: ...
@overload
def to_ms(instant: datetime | None) -> int | None: ...
def to_ms(instant: datetime | None) -> int | None:
    """Convert an aware instant to milliseconds since 1970."""
    return None if instant is None else (instant - _EPOCH) // timedelta(milliseconds=1)


@overload
def from_ms(ms: int) -> datetime: ...
@overload
def from_ms(ms: int | None) -> datetime | None: ...
def from_ms(ms: int | None) -> datetime | None:
    """Convert stored milliseconds to an instant in UTC."""
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)


def utc_text(at: datetime) -> str:
    """Write an instant in UTC to the second: `2026-12-01T08:00:30Z`."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
