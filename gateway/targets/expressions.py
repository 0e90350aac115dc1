"""JSONata in a target's configuration, and the documents that it reads and makes."""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from typing import Any, Literal

import msgspec

from gateway.api.errors import MappingError
from gateway.mapping.checks import LARGEST
from gateway.mapping.engine import Bound, EvaluationError, Expression, ExpressionError
from gateway.mapping.functions import Exact
from gateway.outbound.answer import Answer
from gateway.targets.functions import NAMES, OF_ANSWERS

Decimals = Literal["number", "string", "tagged"]


class Jsonata(str):
    """Text in JSONata, checked when the configuration is read: `id = "body.value[0].id"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Jsonata:
        """Compile the text. Raises ValueError."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError('must be a text in JSONata, as in "body.id"')
        compiled(text)  # an ExpressionError is a ValueError
        return cls(text)

    def evaluate(self, document: Any) -> Any:
        """Return the result for a document, None where it finds nothing. Raises MappingError."""
        return evaluate(self, document)


def compiled(source: str) -> Expression:
    """Compile a text once for this thread. Raises ExpressionError.

    An expression holds the document while it is evaluated, and the examples are tried in another thread.
    """
    return _compiled(source, threading.get_ident())


@lru_cache(maxsize=512)
def _compiled(source: str, _: int) -> Expression:
    return Expression(source, NAMES, numbers_are_texts=False)


def evaluate(source: str, document: Any, functions: Bound = lambda where: OF_ANSWERS) -> Any:
    """Evaluate a text over a document of `read_whole`; exact numbers come out as `Exact`.

    Raises:
        MappingError: The text cannot be read, or not be evaluated over this document.
    """
    if isinstance(document, dict):  # the builder keeps private entries in a context
        document = {name: value for name, value in document.items() if not name.startswith("_")}
    try:
        return compiled(source).evaluate(document, functions, marked=True)
    except (ExpressionError, EvaluationError) as error:
        raise MappingError([str(error)]) from None


def read_whole(body: bytes | str) -> Any:
    """Parse JSON: whole numbers as numbers, all others as exact texts. Raises ValueError."""
    try:
        return _decoder.decode(body if isinstance(body, str) else body.decode().removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def answer_document(answer: Answer) -> dict[str, Any]:
    """Return an answer as expressions see it: `status`, `headers` (lower case), `body` (null where it is not JSON), `text`."""
    text = answer.body.decode("utf-8", "replace")
    try:
        body = read_whole(text)
    except ValueError:
        body = None
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        headers.setdefault(name.lower(), value)
    return {"status": answer.status, "headers": headers, "body": body, "text": text}


def encode_body(value: Any, decimals: Decimals, *, omit_null: bool = False) -> bytes:
    """Encode a result as JSON; `Exact` becomes a number, a text or Tryton's tagged object, to the digit."""
    return msgspec.json.encode(_written(value, decimals, omit_null))


def _written(value: Any, decimals: Decimals, omit_null: bool) -> Any:
    if isinstance(value, Exact):
        if decimals == "number":
            return msgspec.Raw(value.encode())
        return str(value) if decimals == "string" else {"__class__": "Decimal", "decimal": str(value)}
    if isinstance(value, dict):
        return {key: _written(one, decimals, omit_null) for key, one in value.items() if not (omit_null and one is None)}
    if isinstance(value, list):
        return [_written(one, decimals, omit_null) for one in value]
    return value


def _whole(text: str) -> int | Exact:
    number = int(text) if len(text) <= 17 else LARGEST + 1
    return number if abs(number) <= LARGEST else Exact(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text}, which is not JSON")


_decoder = json.JSONDecoder(parse_int=_whole, parse_float=Exact, parse_constant=_constant)
