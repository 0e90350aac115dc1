"""Validation of a command's JSON body. It reports all problems, each with its JSON path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.order import decimal
from gateway.api.strict_json import parsed
from gateway.config.decode import decode
from gateway.config.report import BodyReport, KeyPath, TooManyProblems, json_path


class InvalidBody(Exception):
    """Invalid body of a command. `problems` are all of them, or the first hundred, as path and text."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


class _Twice(dict[str, Any]):
    """Object with a duplicate key."""

    key = ""


class _NoNumber:
    """Number that JSON does not have, or that is too large."""

    def __init__(self, text: str) -> None:
        self.problem = text


def check_body(kind: type[Struct], body: bytes) -> Any:
    """Decode a body to the command's Struct. Raises InvalidBody with every problem."""
    try:
        tree = parsed(body, _decoder)
    except ValueError as error:
        raise InvalidBody([("$", str(error))]) from None
    report = BodyReport()
    with suppress(TooManyProblems):
        for at, text in _poison(tree, ()):
            report.add(at, text)
        if not report.count:
            decode(kind, tree, (), report)
    if report.count:
        raise InvalidBody([(json_path(at), text) for at, text in report.found])
    try:  # the submit step reads the body this way
        return msgspec.json.decode(body.removeprefix(_BOM), type=kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        raise InvalidBody([("$" + place.removesuffix("`"), text.replace("`", ""))]) from None


def meaning(body: bytes) -> bytes:
    """Return a checked body in canonical form: equal JSON values give equal bytes."""
    return _encoder.encode(_exact.decode(body.removeprefix(_BOM)))


def _poison(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield what no body may hold, because two readers could read it differently."""
    if isinstance(value, _NoNumber):
        yield at, value.problem
    elif isinstance(value, str):
        if (problem := _bad_text(value)) is not None:
            yield at, f"is a text with {problem}"
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from _poison(item, (*at, n))
    elif isinstance(value, dict):
        if isinstance(value, _Twice):
            yield (*at, value.key), "appears twice in its object; keep one of them"
        for key, item in value.items():
            if (problem := _bad_text(key)) is not None:
                yield (*at, key), f"is a key with {problem}"
            yield from _poison(item, (*at, key))


def _bad_text(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    twice, seen = _Twice(made), set()
    for key, _ in pairs:
        if key in seen:
            twice.key = key
            break
        seen.add(key)
    return twice


def _whole(text: str) -> int | _NoNumber:
    return int(text) if len(text) <= 20 else _NoNumber("is a number with more than 20 digits")


def _fraction(text: str) -> float | _NoNumber:
    try:
        decimal(text)
    except ValueError:
        return _NoNumber("is a number that is too long or too large")
    return float(text)


def _constant(text: str) -> _NoNumber:
    return _NoNumber(f"is {text}, which is not JSON")


def _plain_number(text: str) -> Decimal | int:
    value = decimal(text)
    return int(value) if value == value.to_integral_value() else value.normalize()


_BOM = b"\xef\xbb\xbf"
_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_fraction, parse_constant=_constant)
_exact = msgspec.json.Decoder(float_hook=_plain_number)
_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number")
