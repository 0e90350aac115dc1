"""The breaker of one target: after failures in a row nothing is sent for a while, then one order tries.

closed --failures in a row--> open --cooldown over--> probing --success--> closed (ramping up)
                               ^-----------failure, longer cooldown--------'
"""

from __future__ import annotations

import math
from typing import Literal


class Breaker:
    """Counts; knows no clock and no network. All times are monotonic seconds.

    Args:
        failures: In a row, until it opens.
        cooldown_s: The first pause; doubles with each failed probe. No pause is longer than `cap_s`.
        concurrency: In flight at the most when all is well; after an outage it grows from 1, doubling with each success.
    """

    def __init__(self, *, failures: int, cooldown_s: float, cap_s: float, concurrency: int) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._cap_s = cap_s
        self._concurrency = concurrency
        self._row = 0
        self._probes = 0
        self._opened_at: float | None = None
        self._ramp = concurrency

    @property
    def is_open(self) -> bool:
        """Whether the target counts as down."""
        return self._opened_at is not None

    def may_fly(self, now: float) -> int:
        """How many orders may be in flight now: 0 in the pause, 1 for the probe, then more and more."""
        if self._opened_at is None:
            return min(self._ramp, self._concurrency)
        return 1 if now >= self._opened_at + self._pause_s() else 0

    def next_probe_s(self, now: float) -> float:
        """Seconds until the probe; 0 where nothing is in the way."""
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._pause_s() - now)

    def failed(self, now: float) -> Literal["opened"] | None:
        """Note a failure of the target as a whole."""
        self._row += 1
        if self._opened_at is not None:
            if now >= self._opened_at + self._pause_s():
                self._opened_at, self._probes = now, self._probes + 1
            return None
        if self._row < self._limit:
            return None
        self._opened_at, self._probes = now, 0
        return "opened"

    def succeeded(self) -> Literal["closed"] | None:
        """Note an answer that shows the target alive."""
        self._row = 0
        if self._opened_at is None:
            self._ramp = min(self._ramp * 2, self._concurrency)
            return None
        self._opened_at, self._ramp = None, 1
        return "closed"

    def hurry(self) -> None:
        """Let the probe go now: somebody says that the target is back."""
        if self._opened_at is not None:
            self._opened_at = -math.inf

    def _pause_s(self) -> float:
        return min(self._cap_s, self._cooldown_s * 2.0 ** min(self._probes, 40))
