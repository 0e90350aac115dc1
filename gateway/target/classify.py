"""What an ERP's answer means: the default outcomes of CONTRACT section 5. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from gateway.outbound.session import Answer, retry_after_s

Meaning = Literal["delivered", "duplicate", "refused", "retry", "throttled", "hold"]


class Outcome(Struct, frozen=True, kw_only=True):
    """One attempt's end, as the engine needs it.

    Attributes:
        maybe_taken: The ERP may have the order although it did not say so.
        unwell: The target as a whole looks down; enough of these in a row open the breaker.
        detail: The ERP's words, bounded, for the operator.
    """

    meaning: Meaning
    reason: str
    http_status: int | None = None
    detail: str | None = None
    retry_after_s: float | None = None
    maybe_taken: bool = False
    unwell: bool = False


_DETAIL_CHARACTERS = 2000


def classify(answer: Answer, now: datetime) -> Outcome:
    """The outcome of a whole answer."""
    status = answer.status
    detail = answer.body[: 4 * _DETAIL_CHARACTERS].decode("utf-8", "replace")[:_DETAIL_CHARACTERS] or None
    wait_s = retry_after_s(answer.headers, now)
    if 200 <= status < 300:
        return Outcome(meaning="delivered", reason="taken", http_status=status, detail=detail)
    if status == 409:
        return Outcome(meaning="duplicate", reason="the target has it already", http_status=status, detail=detail)
    if status == 429:
        reason = "the target asks for a slower pace (429)"
        return Outcome(meaning="throttled", reason=reason, http_status=status, detail=detail, retry_after_s=wait_s)
    if status in (408, 425) or status >= 500:
        return Outcome(
            meaning="retry",
            reason=f"the target answers {status}",
            http_status=status,
            detail=detail,
            retry_after_s=wait_s if status == 503 else None,
            maybe_taken=status != 425,
            unwell=status != 425,
        )
    if status in (401, 403, 404) or status < 400:
        return Outcome(meaning="hold", reason=f"the target answers {status}: {_advice(status)}", http_status=status, detail=detail)
    return Outcome(meaning="refused", reason=f"the target refuses the order ({status})", http_status=status, detail=detail)


def _advice(status: int) -> str:
    return {
        401: "check its credentials",
        403: "check what its credentials may do",
        404: "check its url",
    }.get(status, "check its url, redirects are not followed")
