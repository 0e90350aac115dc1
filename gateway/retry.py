"""When to try again: full jitter under an exponential roof, ended by age. Pure but for the dice, which are an argument."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 40
_BELIEVED_S = 3600.0


def backoff_s(attempt: int, *, base_s: float, cap_s: float, dice: Callable[[], float] = random.random) -> float:
    """Seconds until the next try after `attempt` failed ones, from 1: between 0 and min(cap_s, base_s * 2^(attempt-1)).

    Never less than a tenth of the base, so that an unlucky throw is no storm.
    """
    roof = min(cap_s, base_s * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
    return max(base_s / 10, dice() * roof)


def believed_s(asked_s: float | None, own_pause_s: float) -> float:
    """How much of a `Retry-After` is believed: up to the larger of an hour and three of our own pauses; 0 where there is none."""
    return min(asked_s or 0.0, max(_BELIEVED_S, 3 * own_pause_s))


def is_over(age_s: float, max_age_s: float) -> bool:
    """Whether a row has been tried for so long that a person has to look."""
    return age_s >= max_age_s
