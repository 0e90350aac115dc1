"""Settlement of an inbox row whose preparation failed. Pure."""

from __future__ import annotations

from datetime import datetime

from gateway.api.description import FetchRetry
from gateway.api.errors import AuthError, Hold, Ignore, RateLimited, TransientError
from gateway.retry import backoff_s, capped_retry_after_s, is_over
from gateway.store.outcome import Settlement
from gateway.store.rows import InboxRow

_BASE_S, _CAP_S, _MAX_AGE_S = 5.0, 900.0, 86400.0
_RATE_LIMITED_S = 60.0
_LONGEST_REASON = 1000


def settlement(row: InboxRow, error: BaseException, retry: FetchRetry | None, *, now: datetime) -> Settlement:
    """Return the settlement of an attempt that raised `error`.

    Args:
        retry: Schedule of the source's fetches; None for the default.
        now: See `now_for_ages`.
    """
    match error:
        case Hold():
            return Settlement(status="held", outcome="held", reason=error.reason, detail=error.detail)
        case Ignore():
            return Settlement(status="done", outcome="flagged" if error.flag else "ignored", reason=error.reason)
        case RateLimited():
            wait_s = capped_retry_after_s(error.retry_after_s, _CAP_S) or _RATE_LIMITED_S
            return Settlement(status="ready", outcome="rate_limited", due_in_s=wait_s, reason=str(error), counts=False)
        case TransientError() | AuthError() | TimeoutError():
            age_s = (now - row.received_at).total_seconds()
            reason = str(error) or "no answer in time"
            if is_over(age_s, _MAX_AGE_S if retry is None else retry.give_up_s):
                return Settlement(status="held", outcome="given_up", reason=f"not available for {age_s / 3600:.1f} h: {reason}")
            asked_s = capped_retry_after_s(getattr(error, "retry_after_s", None), _CAP_S)
            return Settlement(status="ready", outcome="retry", due_in_s=max(asked_s, _pause_s(retry, row.attempts)), reason=reason)
    return Settlement(status="dead", outcome="dead", reason=str(error)[:_LONGEST_REASON])


def _pause_s(retry: FetchRetry | None, attempts: int) -> float:
    if retry is None:
        return backoff_s(attempts, base_s=_BASE_S, cap_s=_CAP_S)
    return retry.schedule_s[min(attempts, len(retry.schedule_s)) - 1]
