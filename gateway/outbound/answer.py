"""Answers to requests of ours: what their status and their headers ask of the next try."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct

from gateway.api.errors import RateLimited, TransientError

_LONGEST_WAIT_S = 86400.0


class Answer(Struct, frozen=True, kw_only=True):
    """HTTP answer with a bounded body; `headers` find a name in any letter case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_transient(status: int) -> bool:
    """Return whether the same request may succeed later. 429 is not among them: it is a rate limit."""
    return status in (408, 425) or status >= 500


def raise_if_busy(subject: str, answer: Answer, now: datetime, *, also: int | None = None, pause_s: float | None = 60.0) -> None:
    """Raise for an answer that only asks to try again later; return for every other.

    Args:
        subject: The other side, as the error names it: "the vendor".
        also: One more status that is transient here.
        pause_s: The wait after a 429 without `Retry-After`; None leaves it to the caller's backoff.
    Raises:
        RateLimited: 429.
        TransientError: 408, 425, 5xx, `also`.
    """
    wait_s = retry_after_s(answer.headers, now)
    if answer.status == 429:
        raise RateLimited(f"{subject} says that we call too often (429)", retry_after_s=wait_s or pause_s)
    if is_transient(answer.status) or answer.status == also:
        raise TransientError(f"{subject} answers {answer.status}", retry_after_s=wait_s)


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """Return the time of the other side's clock (UTC, whole seconds), or None where `Date` is missing or unreadable."""
    return _instant(headers.get("date", ""))


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds of `Retry-After`, given as a number or a date; at most a day, None without the header."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value.lstrip("0")[:12] or 0), _LONGEST_WAIT_S)
    at = _instant(value)
    return None if at is None else min(max(0.0, (at - now).total_seconds()), _LONGEST_WAIT_S)


def _instant(text: str) -> datetime | None:
    """Parse an HTTP date. Some wrong ones raise OverflowError (zone `+99999999999999`) or ValueError (year 0)."""
    try:
        at = parsedate_to_datetime(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
