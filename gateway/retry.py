"""Schedule of retries: exponential backoff with full jitter, ended by age."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 40
_MAX_RETRY_AFTER_S = 3600.0


def backoff_s(attempt: int, *, base_s: float, cap_s: float, dice: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after failed attempt number `attempt`, from 1: at random up to min(cap_s, base_s * 2^(attempt-1)).

    A tenth of the base is the minimum, so that unlucky draws make no storm of requests.
    """
    limit_s = min(cap_s, base_s * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
    return max(base_s / 10, dice() * limit_s)


def capped_retry_after_s(asked_s: float | None, own_pause_s: float) -> float:
    """Return the part of a `Retry-After` to obey: at most an hour or three of our own pauses, whichever is longer; 0 without one."""
    return min(asked_s or 0.0, max(_MAX_RETRY_AFTER_S, 3 * own_pause_s))


def is_over(age_s: float, max_age_s: float) -> bool:
    """Tell whether a row has been retried for so long that an operator must look at it."""
    return age_s >= max_age_s
