"""Settlement of a command after an attempt or a look-up that failed. Pure.

A command in doubt is never given up: it is held once it has been in doubt for too long.
"""

from __future__ import annotations

from datetime import datetime

from gateway.api.errors import AuthError, Hold, PermanentError, RateLimited, TransientError
from gateway.outbound.session import TooLong
from gateway.retry import backoff_s, capped_retry_after_s, is_over
from gateway.store.outcome import Settlement
from gateway.store.submissions import SubmissionRow

CERTAIN_AFTER_S = 10.0
BASE_S, CAP_S, MAX_AGE_S = 2.0, 900.0, 7 * 86400.0

_TO_DECIDE = "`gateway release` says that the vendor has nothing of it and sends it, `gateway drop` ends it"


def failed(row: SubmissionRow, error: Exception, reason: str, *, sent: bool, now: datetime) -> Settlement:
    """Return the settlement of an attempt that raised `error`, or, if nothing was `sent`, of a look-up."""
    if not sent:
        return _not_sent(row, error, reason, now) if row.in_doubt_since is None else _not_found_out(row, error, reason, now)
    if isinstance(error, Hold):
        return Settlement(status="held", outcome="held", reason=reason)
    if isinstance(error, PermanentError) and not isinstance(error, TooLong):
        return Settlement(status="dead", outcome="refused", reason=reason, cleared=True)
    undone = isinstance(error, AuthError) or (isinstance(error, TransientError) and error.undone)
    if undone and row.in_doubt_since is None:
        return _not_sent(row, error, reason, now)
    return _unknown(row, reason, _pause_s(row.attempts, error), now, outcome="retry" if undone else "unknown")


def not_there(row: SubmissionRow, now: datetime, by_age: datetime) -> Settlement:
    """Return the settlement of a look-up that found nothing: it counts once the attempt can no longer be on its way.

    Args:
        now: By the wall clock.
        by_age: The time by which it is given up; see `now_for_ages`.
    """
    too_early_s = CERTAIN_AFTER_S - _age_s(row.in_doubt_since, now)
    if too_early_s > 0:
        return Settlement(status="unknown", outcome="unknown", reason="it is not there so far", due_in_s=too_early_s, counts=False)
    if is_over(_age_s(row.first_attempt_at, by_age), MAX_AGE_S):
        return Settlement(status="dead", outcome="given_up", reason=_given_up(row, "it is not there", by_age), counts=False, cleared=True)
    return Settlement(status="ready", outcome="not_there", counts=False, cleared=True)


def undecidable(reason: str) -> Settlement:
    """Return the settlement of a command that only a person can clear up."""
    return Settlement(status="held", outcome="unknown", reason=f"{reason}; {_TO_DECIDE}", counts=False)


def _not_sent(row: SubmissionRow, error: Exception, reason: str, now: datetime) -> Settlement:
    """Settle a command that did not reach the vendor. A refused sign-in or a rate limit is no attempt, and never given up."""
    if isinstance(error, AuthError):
        return Settlement(status="ready", outcome="paused", reason=reason, counts=False)
    if isinstance(error, RateLimited):
        return Settlement(status="ready", outcome="throttled", reason=reason, due_in_s=_believed_s(error), counts=False)
    if is_over(_age_s(row.first_attempt_at, now), MAX_AGE_S):
        return Settlement(status="dead", outcome="given_up", reason=_given_up(row, reason, now))
    return Settlement(status="ready", outcome="retry", reason=reason, due_in_s=_pause_s(row.attempts, error))


def _not_found_out(row: SubmissionRow, error: Exception, reason: str, now: datetime) -> Settlement:
    """Settle a failed look-up: the command stays in doubt."""
    if isinstance(error, (Hold, PermanentError)):
        return undecidable(reason if isinstance(error, Hold) else f"it cannot be looked up: {reason}")
    end = _unknown(row, reason, _pause_s(row.lookup_attempts + 1, error), now, outcome="unknown")
    return Settlement(status=end.status, outcome="unknown", reason=end.reason, due_in_s=end.due_in_s, counts=False, looked=True)


def _unknown(row: SubmissionRow, reason: str, due_in_s: float, now: datetime, *, outcome: str) -> Settlement:
    age_s = _age_s(row.in_doubt_since, now)
    if is_over(age_s, MAX_AGE_S):
        return undecidable(f"unknown for {age_s / 3600:.0f} h: {reason}")
    return Settlement(status="unknown", outcome=outcome, reason=reason, due_in_s=due_in_s)


def _pause_s(times: int, error: Exception) -> float:
    return max(_believed_s(error), backoff_s(times, base_s=BASE_S, cap_s=CAP_S))


def _believed_s(error: Exception) -> float:
    return capped_retry_after_s(error.retry_after_s if isinstance(error, TransientError) else None, CAP_S)


def _given_up(row: SubmissionRow, reason: str, now: datetime) -> str:
    return f"not done in {_age_s(row.first_attempt_at, now) / 3600:.0f} h of trying: {reason}"


def _age_s(since: datetime | None, now: datetime) -> float:
    return (now - since).total_seconds() if since else 0.0
