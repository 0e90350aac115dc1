"""Settlement of a delivery after an attempt. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from gateway.retry import backoff_s, is_over
from gateway.store.outcome import Settlement
from gateway.store.rows import OutboxRow
from gateway.targets.classify import Outcome
from gateway.targets.settings import Retry


def settlement(row: OutboxRow, outcome: Outcome, retry: Retry, *, now: datetime, began_ms: int, duration_ms: int) -> Settlement:
    """Return the settlement of an attempt. A row in doubt is never given up: it is cleared up, or a person decides."""
    end = Settlement(
        status="unknown" if outcome.in_doubt else "ready",
        outcome="unknown" if outcome.in_doubt else "retry",
        reason=outcome.reason,
        http_status=outcome.http_status,
        detail=outcome.detail,
        started_at_ms=began_ms,
        duration_ms=duration_ms,
        maybe_delivered=outcome.maybe_delivered,
        cleared=outcome.cleared,
        looked=outcome.looked,
        ambiguous_failure=outcome.ambiguous_failure,
        erp_id=outcome.erp_id,
        erp_number=outcome.erp_number,
        counts=not row.in_doubt or not outcome.in_doubt,
    )
    match outcome.meaning:
        case "delivered" | "duplicate":
            return replace(end, status="done", outcome=outcome.meaning, reason=None)
        case "refused" | "held" if outcome.in_doubt:
            return replace(end, status="held")
        case "refused":
            return replace(end, status="dead", outcome="refused")
        case "held":
            return replace(end, status="held", outcome="held")
        case "paused" | "throttled":
            wait_s = outcome.retry_after_s or (0.0 if outcome.meaning == "paused" else retry.base_s)
            return replace(end, outcome="unknown" if outcome.in_doubt else outcome.meaning, due_in_s=wait_s, counts=False)
    since = row.in_doubt_since if outcome.in_doubt else row.first_attempt_at
    age_s = (now - since).total_seconds() if since else 0.0
    if is_over(age_s, retry.max_age_s):
        if outcome.in_doubt:
            return replace(end, status="held", reason=f"unknown for {age_s / 3600:.0f} h: {outcome.reason}")
        reason = f"not delivered in {age_s / 3600:.0f} h of trying: {outcome.reason}"
        return replace(end, status="dead", outcome="given_up", reason=reason)
    if outcome.wait_s is not None:
        return replace(end, due_in_s=outcome.wait_s)
    pause_s = backoff_s(row.attempts, base_s=retry.base_s, cap_s=retry.cap_s)
    return replace(end, due_in_s=max(outcome.retry_after_s or 0.0, pause_s))
