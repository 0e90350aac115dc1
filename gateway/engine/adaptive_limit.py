"""Adaptive limit of concurrent requests to one target: halved when the target is overloaded, one more for each round it takes.

Pure. After an outage the limit starts at one and doubles, up to what the target took before.
"""

from __future__ import annotations

import math


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (RFC 5681, 3.1). All times are monotonic seconds.

    Args:
        most: Limit of the configuration.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ceiling = most
        self._now = most
        self._successes = 0
        self._lowered_at = self._success_at = -math.inf

    @property
    def size(self) -> int:
        """Requests that may be in flight now."""
        return self._now

    @property
    def lowered(self) -> tuple[int, int] | None:
        """Requests that the target takes, and those that the configuration allows; None if they are the same."""
        return (self._ceiling, self._most) if self._ceiling < self._most else None

    def record_success(self, now: float) -> None:
        """Note an answer that shows the target well."""
        self._success_at = now
        if self._now < self._ceiling:
            self._now = min(self._now * 2, self._ceiling)
            return
        self._successes += 1
        if self._successes >= self._now and self._ceiling < self._most:
            self._ceiling = self._now = self._now + 1
            self._successes = 0

    def record_overload(self, now: float, *, began: float, in_flight: int) -> bool:
        """Note that a request that `began` then met an overloaded target. Return False if it was the only one in flight."""
        if began <= self._lowered_at:
            return True  # it was in flight with those that lowered the limit
        together = min(self._now, in_flight)
        if together <= 1:
            return False
        self._ceiling = self._now = together // 2
        self._successes, self._lowered_at = 0, now
        return True

    def succeeded_within(self, now: float, seconds: float) -> bool:
        """Return True if the target took a request within the last `seconds`."""
        return now - self._success_at <= seconds

    def slow_start(self) -> None:
        """Start at one again, after an outage."""
        self._now, self._successes = 1, 0
