"""How many requests a target gets at the same time: half as many where it says that it is too much, one more for each round it takes.

Pure. After an outage it begins with one and doubles, up to what the target took before.
"""

from __future__ import annotations

import math


class Parallel:
    """Additive increase, multiplicative decrease (RFC 5681, 3.1). All times are monotonic seconds.

    Args:
        most: What the configuration allows.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._roof = most
        self._now = most
        self._taken = 0
        self._lowered_at = self._taken_at = -math.inf

    @property
    def size(self) -> int:
        """How many may be under way now."""
        return self._now

    @property
    def lowered(self) -> tuple[int, int] | None:
        """How many it takes, of how many it might be sent; None where it takes all."""
        return (self._roof, self._most) if self._roof < self._most else None

    def taken(self, now: float) -> None:
        """Note an answer that shows the target well."""
        self._taken_at = now
        if self._now < self._roof:
            self._now = min(self._now * 2, self._roof)
            return
        self._taken += 1
        if self._taken >= self._now and self._roof < self._most:
            self._roof = self._now = self._now + 1
            self._taken = 0

    def overloaded(self, now: float, *, began: float, flying: int) -> bool:
        """Note an answer that it was too much, to one of so many at the same time, which `began` then. False: it was alone."""
        if began <= self._lowered_at:
            return True  # it was on its way with those that lowered the number
        together = min(self._now, flying)
        if together <= 1:
            return False
        self._roof = self._now = together // 2
        self._taken, self._lowered_at = 0, now
        return True

    def took_within(self, now: float, seconds: float) -> bool:
        """Whether it has taken something lately."""
        return now - self._taken_at <= seconds

    def begin_small(self) -> None:
        """The target is back: one first, then more and more."""
        self._now, self._taken = 1, 0
