"""Circuit breaker of one target, which closes by itself. It counts, without clock or network; all times are monotonic seconds.

up --failures in a row--> down --a success--> up     A probe goes out every `cooldown_s`, whatever the order's own pause. If several orders
                                                     have failed, or the target cannot be reached, nothing else goes out meanwhile.
up --wrong settings or credentials--> paused --a success--> up   Single orders probe, by the pauses of that state.

A probe is an order that has not failed yet: one order that the target never takes does not keep the others waiting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Literal

Kind = Literal["down", "paused"]
Pauses = Callable[[int], float]
"""Seconds to wait after so many failed probes, from 0."""

_SEVERAL = 2
_OWN_FAULT = 3


def doubling(first_s: float, longest_s: float) -> Pauses:
    """Return pauses that double with each failed probe."""
    return lambda probes: min(longest_s, first_s * 2.0 ** min(probes, 40))


def once_then(first_s: float, then_s: float) -> Pauses:
    """Return a first pause and one for all later probes; `math.inf` for no probe."""
    return lambda probes: first_s if probes == 0 else then_s


class Breaker:
    """State of one target, and the time of the next probe while it is open.

    Args:
        failures: In a row, until the target counts as down.
        cooldown_s: Between two probes while it is down; at most `cap_s`.

    Attributes:
        kind: None if the target is up.
        probed: Rows that have failed since it opened, or opened it: another one probes first.
    """

    def __init__(self, *, failures: int, cooldown_s: float, cap_s: float) -> None:
        self._limit = failures
        self._cooldown: Pauses = lambda _: min(cooldown_s, cap_s)
        self.kind: Kind | None = None
        self.probed: set[int] = set()
        self._in_a_row = 0
        self._failed: set[int] = set()
        self._unreached = 0
        self._pauses: Pauses = self._cooldown
        self._probes = 0
        self._since = self._next_at = -math.inf
        self._opened_by: int | None = None
        self._own: Counter[int] = Counter()
        self._alone: Counter[int] = Counter()

    @property
    def is_open(self) -> bool:
        """True if the target is down or paused."""
        return self.kind is not None

    @property
    def blocks(self) -> bool:
        """True if only the probe may go out: no single order is at fault."""
        several = len(self._failed) >= max(self._limit, _SEVERAL) or self._unreached >= self._limit
        return self.kind == "paused" or (self.kind == "down" and several)

    @property
    def unreachable(self) -> bool:
        """True if the target is down because no connection succeeds, and no probe was asked for since."""
        return self.kind == "down" and self._unreached >= self._limit and self._next_at > self._since

    def next_probe_s(self, now: float) -> float:
        """Return the seconds until the next probe: 0 if it is due or the breaker is closed, `math.inf` if none follows by itself."""
        return 0.0 if self.kind is None else max(0.0, self._next_at - now)

    def record_probe(self, now: float, row: int) -> None:
        """Note that a probe starts. If others go out as well, the next one follows after another pause, whatever its result."""
        if row in self.probed:  # all have probed: start over
            self.probed.clear()
        if not self.blocks:
            self._next_at = now + self._pauses(self._probes)

    def record_failure(self, now: float, row: int, *, began: float, reached: bool = True) -> bool:
        """Note a failure of the target as a whole, of a request that `began` then. Return True if the state to show changes.

        A row that has failed alone again and again, while others succeeded, says nothing about the target.
        """
        if reached and self.kind is None and self._alone[row] >= _OWN_FAULT:
            return False
        self._in_a_row += 1
        self._failed.add(row)
        self._unreached += not reached
        self.probed.add(row)
        if self.kind is None and self._in_a_row >= self._limit:
            self._open("down", now, self._cooldown)
            return True
        if self.kind is None or self._is_late(began):
            return False
        self._pause(now)
        return True

    def record_refusal(self, now: float, row: int, pauses: Pauses, *, began: float) -> bool:
        """Note an answer that blames our settings or credentials. Return False if only this row gets it, again and again."""
        self.probed.add(row)
        if self._own[row] >= _OWN_FAULT:
            return False
        if self.kind != "paused":
            self._open("paused", now, pauses)
            self._opened_by = row
        elif not self._is_late(began):
            self._pauses, self._probes = pauses, self._probes + 1
            self._pause(now)
        return True

    def record_success(self, row: int, *, began: float) -> Kind | None:
        """Note an answer that shows the target well. Return the state that it ends."""
        if self.kind == "paused" and self._is_late(began):
            return None
        ended = self.kind
        if ended == "paused" and self._opened_by is not None and self._opened_by != row:
            self._own[self._opened_by] += 1
        self._own.pop(row, None)
        self._alone.pop(row, None)
        if len(self._failed) == 1 and not self._unreached:
            self._alone.update(self._failed - {row})
        self.close()
        return ended

    def probe_now(self) -> None:
        """Make the next probe due: an operator or a test connection says that the target is back."""
        self._since = self._next_at = -math.inf

    def close(self) -> None:
        """Return to normal."""
        self.kind, self._in_a_row, self._unreached = None, 0, 0
        self._failed.clear()
        self.probed.clear()

    def _open(self, kind: Kind, now: float, pauses: Pauses) -> None:
        self.kind, self._pauses, self._probes = kind, pauses, 0
        self._pause(now)

    def _pause(self, now: float) -> None:
        self._since, self._next_at = now, now + self._pauses(self._probes)

    def _is_late(self, began: float) -> bool:
        """Return True for a request that began before the pause, and so is no probe."""
        return began <= self._since
