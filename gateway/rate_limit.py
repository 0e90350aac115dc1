"""Limits of calls per time: one that waits, for what leaves, and one that refuses, for what arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.clock import Clock


class RateLimiter:
    """At most `calls` in any stretch of `per_s` seconds; the rest waits, first come, first served. Without `calls` nothing waits."""

    def __init__(self, calls: int | None, per_s: float, clock: Clock) -> None:
        self._limit = calls
        self._per_s = per_s
        self._clock = clock
        self._calls: deque[float] = deque()
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Return when one more call fits."""
        if self._limit is None:
            return
        async with self._turn:
            while len(self._recent()) >= self._limit:
                # Never 0: rounding may say "now" of a call that the next look still counts.
                await self._clock.sleep(max(self._calls[0] + self._per_s - self._clock.monotonic(), 0.001))
            self._calls.append(self._clock.monotonic())

    def _recent(self) -> deque[float]:
        now = self._clock.monotonic()
        while self._calls and self._calls[0] <= now - self._per_s:
            self._calls.popleft()
        return self._calls


class RateCounter:
    """Counts requests by name, in each second of the clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds: dict[str, tuple[int, int]] = {}

    def allows(self, name: str, most: int) -> bool:
        """Count one more; return whether it is among the first `most` of this second."""
        second = int(self._monotonic())
        at, count = self._seconds.get(name, (second, 0))
        count = count + 1 if at == second else 1
        self._seconds[name] = (second, count)
        return count <= most
