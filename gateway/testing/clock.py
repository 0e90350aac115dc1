"""Clock for tests; it moves only by `advance`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from gateway.clock import to_ms


class ManualClock:
    """`gateway.clock.Clock` for tests. A sleeper wakes when `advance` passes its time.

    Args:
        at: Where the wall clock starts; UTC.
    """

    def __init__(self, at: datetime = datetime(2024, 3, 31, 12, 0, tzinfo=UTC)) -> None:
        self._wall = at
        self._steady = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._wall

    def now_ms(self) -> int:
        return to_ms(self._wall)

    def monotonic(self) -> float:
        return self._steady

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._steady + delay_s, woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._wall += timedelta(seconds=seconds)
        self._steady += seconds
        due = [woken for at, woken in self._sleepers if at <= self._steady]
        self._sleepers = [(at, woken) for at, woken in self._sleepers if at > self._steady]
        for woken in due:
            if not woken.done():
                woken.set_result(None)

    def jump(self, seconds: float) -> None:
        """Set the wall clock alone, as NTP or a person does."""
        self._wall += timedelta(seconds=seconds)
