"""JSONata in a target's configuration: what it sees, and the functions it has beside those of every mapping."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from gateway.api.errors import MappingError
from gateway.mapping.checks import LARGEST
from gateway.mapping.engine import Bound, EvaluationError, Expression, ExpressionError
from gateway.mapping.functions import Exact, Refusal, is_nothing
from gateway.outbound.answer import Answer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# `req`, `table` and `lookup_id` are bound to one order and one configuration: see `gateway.targets.body.Scope`.
BOUND = ("req", "table", "lookup_id", "odata", "day", "epoch_s", "epoch_ms")


class Jsonata(str):
    """A text in JSONata, checked when the configuration is read: `id = "body.value[0].id"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Jsonata:
        """Compile it. Raises ValueError."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError('must be a text in JSONata, as in "body.id"')
        compiled(text)  # an ExpressionError is a ValueError
        return cls(text)

    def evaluate(self, document: Any, functions: Bound | None = None) -> Any:
        """What it makes of a document; None where it finds nothing.

        Raises:
            MappingError: It cannot be evaluated over this one.
        """
        return evaluate(self, document, functions)


def compiled(source: str) -> Expression:
    """The expression of a text, compiled once for this thread. Raises ExpressionError.

    An expression keeps what it is evaluated over in itself, and a changed file is tried with its examples in a thread of its own.
    """
    return _compiled(source, threading.get_ident())


@lru_cache(maxsize=512)
def _compiled(source: str, _: int) -> Expression:
    return Expression(source, BOUND, numbers_are_texts=False)


def evaluate(source: str, document: Any, functions: Bound | None = None) -> Any:
    """What a text makes of a document whose whole numbers are numbers; exact numbers come out as `Exact`.

    Raises:
        MappingError: It cannot be read, or not be evaluated over this document.
    """
    if isinstance(document, dict):  # what the builder keeps in a context for itself
        document = {name: value for name, value in document.items() if not name.startswith("_")}
    try:
        return compiled(source).evaluate(document, functions or (lambda where: UNBOUND), marked=True)
    except (ExpressionError, EvaluationError) as error:
        raise MappingError([str(error)]) from None


def read_whole(body: bytes | str) -> Any:
    """A JSON document with whole numbers as numbers and all others as exact texts. Raises ValueError."""
    try:
        return _decoder.decode(body if isinstance(body, str) else body.decode().removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def answer_document(answer: Answer) -> dict[str, Any]:
    """An answer as expressions see it: `status`, `headers` (lower case), `body` (null where it is not JSON) and `text`."""
    text = answer.body.decode("utf-8", "replace")
    try:
        body = read_whole(text)
    except ValueError:
        body = None
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        headers.setdefault(name.lower(), value)
    return {"status": answer.status, "headers": headers, "body": body, "text": text}


def _whole(text: str) -> int | Exact:
    number = int(text) if len(text) <= 17 else LARGEST + 1
    return number if abs(number) <= LARGEST else Exact(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text}, which is not JSON")


_decoder = json.JSONDecoder(parse_int=_whole, parse_float=Exact, parse_constant=_constant)


# --- functions


def odata(text: Any) -> str | None:
    """`$odata(x)`: a text as an OData literal, its apostrophes doubled: `'O''Neill'`."""
    if is_nothing(text):
        return None
    if not isinstance(text, (str, int)) or isinstance(text, bool):
        raise Refusal("$odata: takes a text")
    return "'" + str(text).replace("'", "''") + "'"


def day(instant: Any, zone: Any = "UTC") -> str | None:
    """`$day(instant, "Europe/Berlin")`: the calendar day that it was there, `2024-04-02`."""
    if is_nothing(instant):
        return None
    return _instant("$day", instant, zone).date().isoformat()


def epoch_s(instant: Any) -> int | None:
    """`$epoch_s(instant)`: whole seconds since 1970."""
    return None if is_nothing(instant) else (_instant("$epoch_s", instant) - _EPOCH) // timedelta(seconds=1)


def epoch_ms(instant: Any) -> int | None:
    """`$epoch_ms(instant)`: whole milliseconds since 1970."""
    return None if is_nothing(instant) else (_instant("$epoch_ms", instant) - _EPOCH) // timedelta(milliseconds=1)


def _instant(name: str, value: Any, zone: Any = "UTC") -> datetime:
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Refusal(f"{name}: takes an instant in ISO form, as in order.ordered_at") from None
    try:
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(_zone(zone))
    except OverflowError:
        raise Refusal(f"{name}: an instant beyond all calendars") from None


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        raise Refusal("$day: there is no such time zone; write it as in Europe/Berlin") from None


def _not_here(name: str) -> Callable[..., Any]:
    def refuse(*given: Any) -> Any:
        raise Refusal(f"${name} works in what makes a request, and not in what reads an answer")

    return refuse


PURE: Mapping[str, Callable[..., Any]] = {"odata": odata, "day": day, "epoch_s": epoch_s, "epoch_ms": epoch_ms}
UNBOUND: Mapping[str, Callable[..., Any]] = {**PURE, "table": _not_here("table"), "lookup_id": _not_here("lookup_id")}
