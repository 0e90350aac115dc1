"""Classification of an ERP's answers. Pure.

Defaults: CONTRACT section 5 for an ERP that recognises a repeated key, where a repeat is harmless; erp_targets.md 4.2 for every
other, where a repeat may make a second order. A target's own rules come before both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.outbound.answer import Answer, is_transient, retry_after_s
from gateway.targets.delivery_settings import Class, Rule

Meaning = Literal["delivered", "duplicate", "refused", "retry", "throttled", "paused", "unknown", "held"]


class Outcome(Struct, frozen=True, kw_only=True):
    """Result of one attempt.

    Attributes:
        meaning: `paused` pauses the target; `held` holds the order for a person; `unknown` waits for a look-up.
        maybe_delivered: The ERP may have the order although it did not say so.
        in_doubt: The row stays in doubt, whatever the meaning.
        cleared: The last request was certainly not done.
        looked: A look-up did not find the order, late enough to count.
        ambiguous_failure: The answer counts as a failure only after several repeats.
        silent: The target was asked nothing, so this tells nothing about its health.
        unwell: The target as a whole looks down; enough of these in a row open the breaker.
        detail: Text of the ERP, bounded, for the operator.
        credentials: With `paused`: the target does not accept our credentials.
        unreached: With `unwell`: nothing was sent, so no order is at fault.
        wait_s: Delay before the next try; None: by the retry settings.
        erp_id, erp_number: The ERP's names of the order.
    """

    meaning: Meaning
    reason: str
    http_status: int | None = None
    detail: str | None = None
    retry_after_s: float | None = None
    maybe_delivered: bool = False
    in_doubt: bool = False
    cleared: bool = False
    looked: bool = False
    ambiguous_failure: bool = False
    silent: bool = False
    unwell: bool = False
    unreached: bool = False
    credentials: bool = False
    wait_s: float | None = None
    erp_id: str | None = None
    erp_number: str | None = None


_DETAIL_CHARACTERS = 2000
_LONGEST_WAIT_S = 86400.0
_SINCE_1970 = 1_000_000_000
_MEANINGS: Mapping[Class, Meaning] = {
    "success": "delivered",
    "duplicate": "duplicate",
    "refused": "refused",
    "retry": "retry",
    "throttled": "throttled",
    "auth": "paused",
    "unknown": "unknown",
}


def classify(answer: Answer, now: datetime) -> Outcome:
    """Return the outcome of an answer from an ERP that recognises a repeated key."""
    status = answer.status
    detail = detail_of(answer)
    if 200 <= status < 300:
        return Outcome(meaning="delivered", reason="taken", http_status=status, detail=detail)
    if status == 409:
        return Outcome(meaning="duplicate", reason="the target has it already", http_status=status, detail=detail)
    if status == 429:
        return _throttled(status, detail, retry_after_s(answer.headers, now))
    if is_transient(status):
        return Outcome(
            meaning="retry",
            reason=f"the target answers {status}",
            http_status=status,
            detail=detail,
            retry_after_s=retry_after_s(answer.headers, now) if status == 503 else None,
            maybe_delivered=status != 425,
            unwell=status != 425,
        )
    if status in (401, 403, 404, 405) or status < 400:
        return _paused(status, detail)
    return Outcome(meaning="refused", reason=f"the target refuses the order ({status})", http_status=status, detail=detail)


def classify_unkeyed(answer: Answer, now: datetime, *, creates: bool, can_look: bool) -> Outcome | None:
    """Return the outcome of an answer from an ERP that makes two orders of two requests; None for 409, which has two meanings.

    Args:
        creates: The request makes the order; else it is one of the steps.
        can_look: The target has a preflight.
    """
    status = answer.status
    detail = detail_of(answer)
    plain = Outcome(meaning="refused", reason=f"the target refuses the order ({status})", http_status=status, detail=detail)
    if status == 202 and can_look and creates:
        return replace(plain, meaning="unknown", reason="the target has put it aside for later (202)")
    if 200 <= status < 300:
        return replace(plain, meaning="delivered", reason="taken")
    if status == 409:
        return None
    if status == 429:
        return _throttled(status, detail, _pause_s(answer, now))
    if status in (423, 425):
        return replace(plain, meaning="retry", reason=f"the target answers {status}")
    if status == 503 and can_look:
        return replace(plain, meaning="retry", reason="the target answers 503", retry_after_s=_pause_s(answer, now), unwell=True)
    if status == 500:
        return replace(plain, meaning="unknown", reason="the target answers 500", ambiguous_failure=True)
    if status == 408 or (status > 501 and status != 505):
        return replace(plain, meaning="unknown", reason=f"the target answers {status}", unwell=True)
    if status in (401, 403) or status < 400 or (status in (404, 405) and creates):
        return _paused(status, detail)
    return plain


def by_rule(rules: Sequence[Rule], answer: Answer, document: Mapping[str, Any], now: datetime) -> Outcome | None:
    """Return the outcome by the first rule that fits, or None.

    Raises:
        MappingError: A rule's expression cannot be evaluated over this answer.
    """
    for rule in rules:
        if not rule.has_status(answer.status) or not _has_headers(rule, document["headers"]):
            continue
        if rule.where is not None and rule.where.evaluate(document) is not True:
            continue
        said = rule.message and rule.message.evaluate(document)
        own_words = " ".join(said.split())[:300] if isinstance(said, str) else ""
        return Outcome(
            meaning=_MEANINGS[rule.class_],
            reason=f"the target answers {answer.status}: {rule.class_} by its classify rule",  # never its words, which may name people
            http_status=answer.status,
            detail=own_words or detail_of(answer),
            credentials=rule.class_ == "auth",
            retry_after_s=_pause_s(answer, now) if rule.class_ in ("retry", "throttled") else None,
        )
    return None


def detail_of(answer: Answer) -> str | None:
    """Return the body's text for the operator, bounded."""
    return answer.body[: 4 * _DETAIL_CHARACTERS].decode("utf-8", "replace")[:_DETAIL_CHARACTERS] or None


def has_error(document: Mapping[str, Any]) -> bool:
    """Return whether the body names an error, as a JSON-RPC answer with status 200 does."""
    body = document["body"]
    return isinstance(body, dict) and bool(body.get("error"))


def _has_headers(rule: Rule, headers: Mapping[str, str]) -> bool:
    return all(text.lower() in headers.get(name.lower(), "\n").lower() for name, text in rule.header.items())


def _throttled(status: int, detail: str | None, wait_s: float | None) -> Outcome:
    reason = f"the target asks for a slower pace ({status})"
    return Outcome(meaning="throttled", reason=reason, http_status=status, detail=detail, retry_after_s=wait_s)


def _paused(status: int, detail: str | None) -> Outcome:
    reason = f"the target answers {status}: {advice(status)}"
    return Outcome(meaning="paused", reason=reason, http_status=status, detail=detail, credentials=status in (401, 403))


def _pause_s(answer: Answer, now: datetime) -> float | None:
    """Return `Retry-After`, else `X-RateLimit-Reset` (seconds from now or, where it is that large, (milli)seconds since 1970)."""
    asked_s = retry_after_s(answer.headers, now)
    reset = answer.headers.get("x-ratelimit-reset", "").strip()
    if asked_s is not None or not (reset.isascii() and reset.isdigit()):
        return asked_s
    seconds = float(reset[:15])
    if seconds > _SINCE_1970 * 100:
        seconds /= 1000
    return min(max(0.0, seconds - now.timestamp() if seconds > _SINCE_1970 else seconds), _LONGEST_WAIT_S)


def advice(status: int) -> str:
    """Return what the operator should check after this status."""
    return {
        401: "check its credentials",
        403: "check what its credentials may do",
        404: "check its url",
        405: "check its url and its method",
    }.get(status, "check its url, redirects are not followed")
