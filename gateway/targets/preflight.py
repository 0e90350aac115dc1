"""Preflight: asks the ERP whether it has an order, and reads the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.errors import AuthError, MappingError, PermanentError, TransientError
from gateway.outbound.answer import Answer, is_transient, retry_after_s
from gateway.outbound.session import TooLong, Unreached, Untrusted
from gateway.targets.classify import Outcome, advice, detail_of, has_error
from gateway.targets.delivery_settings import FromHeader, Preflight
from gateway.targets.expressions import answer_document
from gateway.targets.request import Context, Request, Sender


class Ended(Exception):
    """The attempt is over, with this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Seen(Struct, frozen=True, kw_only=True):
    """Result of a preflight.

    Attributes:
        ids: Ids of all orders that the ERP has under this name; empty where `id` is not configured.
        complete: None where the target cannot tell.
        document: The answer and its context, for further expressions.
    """

    found: bool
    ids: tuple[str, ...] = ()
    number: str | None = None
    complete: bool | None = None
    document: dict[str, Any] = {}

    @property
    def id(self) -> str | None:
        return self.ids[0] if self.ids else None

    @property
    def name(self) -> str:
        """Name of the order for a person."""
        return self.number or self.id or "an order of the same name"


async def look(preflight: Preflight, request: Request, context: Context, sender: Sender, now: datetime) -> Seen:
    """Ask the ERP. Raises Ended: it cannot be asked now, or its answer is not as configured."""
    try:
        answer = await sender.send(request)
    except (Untrusted, AuthError) as error:
        refused = isinstance(error, AuthError) and error.refused
        raise Ended(Outcome(meaning="paused", reason=f"preflight: {error}", credentials=refused)) from error
    except TransientError as error:
        unreached = isinstance(error, Unreached)
        said = Outcome(meaning="retry", reason=f"preflight: {error}", unwell=True, unreached=unreached, retry_after_s=error.retry_after_s)
        raise Ended(said) from error
    except TooLong as error:
        raise Ended(_paused(error.answer, "its answer is too long; ask for fewer fields")) from error
    except PermanentError as error:
        raise Ended(Outcome(meaning="held", reason=f"preflight: {error}")) from error
    if answer.status in preflight.absent:
        return Seen(found=False)
    if not 200 <= answer.status < 300:
        raise Ended(_failed(answer, now))
    document = {**context, **answer_document(answer)}
    if has_error(document):
        raise Ended(
            Outcome(meaning="held", reason="preflight: the answer holds an error", detail=detail_of(answer), http_status=answer.status)
        )
    try:
        return read(preflight, document, answer)
    except MappingError as error:
        raise Ended(_paused(answer, f"its answer is not as configured: {error}")) from error


def read(preflight: Preflight, document: dict[str, Any], answer: Answer) -> Seen:
    """Read an answer. Raises MappingError, and Ended where `found` or `complete` gives neither true nor false."""
    found = preflight.found.evaluate(document)
    if not isinstance(found, bool):
        raise Ended(_paused(answer, "`found` gives neither true nor false for its answer"))
    if not found:
        return Seen(found=False, document=document)
    complete = None if preflight.complete is None else preflight.complete.evaluate(document)
    if preflight.complete is not None and not isinstance(complete, bool):
        raise Ended(_paused(answer, "`complete` gives neither true nor false for its answer"))
    ids = preflight.id and preflight.id.evaluate(document)
    number = preflight.number and as_text(preflight.number.evaluate(document))
    every = [as_text(one) for one in (ids if isinstance(ids, list) else [ids])]
    return Seen(
        found=True,
        ids=tuple(dict.fromkeys(one for one in every if one)),
        number=number,
        complete=complete,
        document=document,
    )


def captured(source: Any, document: Mapping[str, Any]) -> str | None:
    """Return a configured value of an answer. Raises MappingError."""
    if source is None:
        return None
    if isinstance(source, FromHeader):
        text = str(document["headers"].get(source.header.lower(), ""))
        if source.after not in text:
            return None
        text = text.split(source.after, 1)[1] if source.after else text
        return as_text(text.split(source.before, 1)[0] if source.before else text)
    if source == "bare":
        return as_text(document["body"] if document["body"] is not None else document["text"])
    return as_text(source.evaluate(document))


def as_text(value: Any) -> str | None:
    """Return an id or number of the ERP as a short text; of a list the first."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return " ".join(str(value).split())[:200] or None


def _failed(answer: Answer, now: datetime) -> Outcome:
    status = answer.status
    said = Outcome(meaning="held", reason=f"preflight: the target answers {status}", http_status=status, detail=detail_of(answer))
    if status == 429:
        return msgspec.structs.replace(said, meaning="throttled", retry_after_s=retry_after_s(answer.headers, now))
    if is_transient(status) or status == 423:
        return msgspec.structs.replace(said, meaning="retry", unwell=True, retry_after_s=retry_after_s(answer.headers, now))
    if status in (401, 403, 404, 405) or status < 400:
        held = _paused(answer, f"it answers {status}: {advice(status).replace('its url', 'preflight.url')}")
        return msgspec.structs.replace(held, credentials=status in (401, 403))
    return said


def _paused(answer: Answer, reason: str) -> Outcome:
    return Outcome(meaning="paused", reason=f"preflight: {reason}", http_status=answer.status, detail=detail_of(answer))
