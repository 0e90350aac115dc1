"""What stops one target as a whole, and lets it go on by itself. Counts; knows no clock and no network. All times are monotonic seconds.

up --failures in a row--> down --an answer--> up      An order is tried every `cooldown_s`, whatever its own pause. Where several orders
                                                      have failed, or nothing can be reached, nothing else leaves meanwhile.
up --the target says that it is set up wrongly--> hold --an order is taken--> up      One order is tried, by the pauses of that hold.

The order that is tried is another one than those that failed: one that the target never takes is no reason for others to wait.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Literal

Kind = Literal["down", "hold"]
Pauses = Callable[[int], float]
"""How long to wait after so many tries in vain, from 0."""

_SEVERAL = 2
_OWN_FAULT = 3


def doubling(first_s: float, longest_s: float) -> Pauses:
    """Twice as long after each try in vain."""
    return lambda tries: min(longest_s, first_s * 2.0 ** min(tries, 40))


def once_then(first_s: float, then_s: float) -> Pauses:
    """One try soon, and later ones seldom; `math.inf` for never."""
    return lambda tries: first_s if tries == 0 else then_s


class Breaker:
    """Whether the target is up, and when it is tried again where it is not.

    Args:
        failures: In a row, until the target counts as down.
        cooldown_s: Between two tries while it does; never more than `cap_s`.

    Attributes:
        kind: None where the target is up.
        tried: The rows that have failed since it stopped, or made it stop: another one is tried first.
    """

    def __init__(self, *, failures: int, cooldown_s: float, cap_s: float) -> None:
        self._limit = failures
        self._cooldown: Pauses = lambda _: min(cooldown_s, cap_s)
        self.kind: Kind | None = None
        self.tried: set[int] = set()
        self._row = 0
        self._failed: set[int] = set()
        self._unreached = 0
        self._pauses: Pauses = self._cooldown
        self._tries = 0
        self._since = self._next_at = -math.inf
        self._stopped_by: int | None = None
        self._own: Counter[int] = Counter()
        self._alone: Counter[int] = Counter()

    @property
    def is_open(self) -> bool:
        """Whether the target counts as down, or is on hold."""
        return self.kind is not None

    @property
    def stops(self) -> bool:
        """Whether nothing but the one order that tries may leave: it is no single order's fault."""
        several = len(self._failed) >= max(self._limit, _SEVERAL) or self._unreached >= self._limit
        return self.kind == "hold" or (self.kind == "down" and several)

    @property
    def unreachable(self) -> bool:
        """Whether it is down because nothing can be reached, and nobody has hurried it since."""
        return self.kind == "down" and self._unreached >= self._limit and self._next_at > self._since

    def next_try_s(self, now: float) -> float:
        """Seconds until an order tries; 0 where it is time, or nothing is in the way; `math.inf` where none does by itself."""
        return 0.0 if self.kind is None else max(0.0, self._next_at - now)

    def trying(self, now: float, row: int) -> None:
        """Note that an order tries now. Where others leave as well, the next one tries after another pause, whatever comes of it."""
        if row in self.tried:  # there is none that has not been tried: from the beginning
            self.tried.clear()
        if not self.stops:
            self._next_at = now + self._pauses(self._tries)

    def failed(self, now: float, row: int, *, began: float, reached: bool = True) -> bool:
        """Note a failure of the target as a whole, of a request that `began` then; whether that changes what is shown.

        A row that has failed alone again and again, while others were taken, says nothing about the target.
        """
        if reached and self.kind is None and self._alone[row] >= _OWN_FAULT:
            return False
        self._row += 1
        self._failed.add(row)
        self._unreached += not reached
        self.tried.add(row)
        if self.kind is None and self._row >= self._limit:
            self._stop("down", now, self._cooldown)
            return True
        if self.kind is None or self._is_late(began):
            return False
        self._pause(now)
        return True

    def refused(self, now: float, row: int, pauses: Pauses, *, began: float) -> bool:
        """Note that the target says it is set up wrongly. False: it takes others and says so of this row alone, again and again."""
        self.tried.add(row)
        if self._own[row] >= _OWN_FAULT:
            return False
        if self.kind != "hold":
            self._stop("hold", now, pauses)
            self._stopped_by = row
        elif not self._is_late(began):
            self._pauses, self._tries = pauses, self._tries + 1
            self._pause(now)
        return True

    def taken(self, row: int, *, began: float) -> Kind | None:
        """Note an answer that shows the target alive; what that ends."""
        if self.kind == "hold" and self._is_late(began):
            return None
        ended = self.kind
        if ended == "hold" and self._stopped_by is not None and self._stopped_by != row:
            self._own[self._stopped_by] += 1
        self._own.pop(row, None)
        self._alone.pop(row, None)
        if len(self._failed) == 1 and not self._unreached:
            self._alone.update(self._failed - {row})
        self.end()
        return ended

    def hurry(self) -> None:
        """Try now: somebody says that the target is back."""
        self._since = self._next_at = -math.inf

    def end(self) -> None:
        """All is well."""
        self.kind, self._row, self._unreached = None, 0, 0
        self._failed.clear()
        self.tried.clear()

    def _stop(self, kind: Kind, now: float, pauses: Pauses) -> None:
        self.kind, self._pauses, self._tries = kind, pauses, 0
        self._pause(now)

    def _pause(self, now: float) -> None:
        self._since, self._next_at = now, now + self._pauses(self._tries)

    def _is_late(self, began: float) -> bool:
        """Whether a request was on its way before the pause began: it is not the one that tries."""
        return began <= self._since
