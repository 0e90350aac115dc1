"""A budget of calls per minute: short bursts, and never more than the number in any minute."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.clock import Clock


class CallBudget:
    """Counts the calls of the last 60 s and makes the next one wait until it fits; first come, first served."""

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._calls: deque[float] = deque()
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Return when one more call fits."""
        if self._per_minute is None:
            return
        async with self._turn:
            while len(self._recent()) >= self._per_minute:
                # Never 0: rounding may say "now" of a call that the next look still counts.
                await self._clock.sleep(max(self._calls[0] + 60 - self._clock.monotonic(), 0.001))
            self._calls.append(self._clock.monotonic())

    def _recent(self) -> deque[float]:
        now = self._clock.monotonic()
        while self._calls and self._calls[0] <= now - 60:
            self._calls.popleft()
        return self._calls
