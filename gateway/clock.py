"""Time, as an argument: the wall clock for what people and vendors see, the monotonic one for durations."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, overload


class Clock(Protocol):
    """What the core asks about time; tests pass a `ManualClock` (gateway.testing)."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""

    def now_ms(self) -> int:
        """Wall clock in whole milliseconds since 1970, as the store keeps it."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps."""

    async def sleep(self, delay_s: float) -> None:
        """Wait; 0 lets other tasks run."""


class SystemClock:
    """The machine's clocks."""

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
    """Milliseconds since 1970 of an aware instant."""
    return None if instant is None else (instant - _EPOCH) // timedelta(milliseconds=1)


@overload
def from_ms(ms: int) -> datetime: ...
@overload
def from_ms(ms: int | None) -> datetime | None: ...
def from_ms(ms: int | None) -> datetime | None:
    """The instant of a stored millisecond count, in UTC."""
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)
