"""Strict reading of a mapping's result as a canonical order, by the types of `gateway.api.order`, with every problem at once.

Problems name paths and keys, never a value: logs and pages show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from gateway.api.errors import MappingError
from gateway.api.order import Address, Customer, Line, Order, contradictions, decimal
from gateway.did_you_mean import nearest

MOST_PROBLEMS = 50
_UNSOUND = re.compile("[\x00\ud800-\udfff]")
_WHOLE = re.compile(r"[0-9]{1,9}\Z")
_SPACED = re.compile(r"\s+")
# The core fills them in from the event.
_CORES = ("order_ref", "revision")


def to_order(made: Any, *, currency: str | None = None, zone: tzinfo | None = None) -> Order:
    """Make an order of a mapping's fields.

    A blank text is absent. One object is a list of one, where a list belongs. Lines without a number are numbered.

    Args:
        currency: The currency if the mapping gives none.
        zone: Time zone of instants without an offset, and of dates, which are their midnight; default UTC.
    Raises:
        MappingError: With every problem.
    """
    reading = _Reading(zone or UTC)
    values = reading.struct(Order, made, "")
    if reading.problems:
        raise MappingError(reading.problems)
    if values.get("currency") is None:
        values["currency"] = currency
    order = Order(**values)
    if problems := list(islice(contradictions(order), MOST_PROBLEMS)):
        raise MappingError(problems)
    return order


def missing_fields(order: Order) -> list[str]:
    """Return the paths of missing fields that every ERP needs; empty for a complete order.

    An order needs an order number or a reference, and, unless it is cancelled, a line. A line needs an article number, a scan code or a
    name, and a quantity. A line of notes alone, a promotion for instance, needs neither.
    """
    found = []
    if not order.order_number and not order.references:
        found.append("order_number: missing, and there are no references")
    if not order.lines and order.status != "cancelled":
        found.append("lines: missing")
    for n, line in enumerate(order.lines):
        if line.notes and (line.article_number, line.scan_code, line.quantity, line.unit_price, line.line_total) == (None,) * 5:
            continue
        if not (line.article_number or line.scan_code or line.name):
            found.append(f"lines[{n}].article_number: missing, and so are scan_code and name")
        if line.quantity is None:
            found.append(f"lines[{n}].quantity: missing")
    return found


class _Reading:
    def __init__(self, zone: tzinfo) -> None:
        self.problems: list[str] = []
        self._zone = zone

    def problem(self, at: str, text: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{at or 'the result'}: {text}")

    def struct(self, kind: type[Struct], value: Any, at: str) -> dict[str, Any]:
        """Read the arguments of a Struct."""
        if not isinstance(value, dict):
            self.problem(at, f"must be an object, as in {{ ... }}, and is {_kind(value)}")
            return {}
        readers = _READERS[kind]
        values: dict[str, Any] = {}
        for key, one in value.items():
            path = f"{at}.{_key(key)}" if at else _key(key)
            if kind is Order and key in _CORES:
                self.problem(path, "is filled in by the gateway; leave it out")
            elif key not in readers:
                self.problem(path, "unknown key" + nearest(key, readers))
            elif not _is_nothing(one):
                values[key] = readers[key](self, one, path)
        return values

    def nested(self, kind: type[Struct], value: Any, at: str) -> Struct | None:
        before = len(self.problems)
        values = self.struct(kind, value, at)
        return kind(**values) if len(self.problems) == before else None

    def lines(self, value: Any, at: str) -> Any:
        lines = []
        for n, one in enumerate(value if isinstance(value, list) else [value]):
            values = self.struct(Line, one, f"{at}[{n}]")
            values.setdefault("line_number", n + 1)
            lines.append(values)
        return () if self.problems else tuple(Line(**values) for values in lines)

    def text(self, value: Any, at: str) -> str | None:
        if not isinstance(value, str):
            self.problem(at, f"must be a text, and is {_kind(value)}")
        elif _UNSOUND.search(value):
            self.problem(at, "has a NUL or half of a surrogate pair in it")
        else:
            return value
        return None

    def texts(self, value: Any, at: str) -> Any:
        items = value if isinstance(value, list) else [value]
        return tuple(self.text(one, f"{at}[{n}]") for n, one in enumerate(items) if not _is_nothing(one))

    def references(self, value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            self.problem(at, f"must be an object of texts, and is {_kind(value)}")
            return {}
        return {self.text(key, at): self.text(one, f"{at}.{_key(key)}") for key, one in value.items() if not _is_nothing(one)}

    def extra(self, value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            self.problem(at, f"must be an object, as in {{ ... }}, and is {_kind(value)}")
            return {}
        self._sound(value, at)
        return value

    def _sound(self, value: Any, at: str) -> None:
        if isinstance(value, str):
            self.text(value, at)
        for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
            path = f"{at}[{key}]" if isinstance(key, int) else f"{at}.{_key(key)}"
            if isinstance(key, str):
                self.text(key, path)
            self._sound(one, path)

    def amount(self, value: Any, at: str) -> Decimal | None:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            try:
                return decimal(value)
            except ValueError:
                pass
        self.problem(at, f"must be a decimal number, as in 12.50, and is {_kind(value)} that is no number; $dec reads a decimal comma")
        return None

    def whole(self, value: Any, at: str) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
            return value
        if isinstance(value, str) and _WHOLE.match(value.strip()) and int(value) > 0:
            return int(value)
        self.problem(at, f"must be a whole number from 1 on, and is {_kind(value)} that is not one")
        return None

    def instant(self, value: Any, at: str) -> datetime | None:
        try:
            read_as = datetime.fromisoformat(value.strip())
            return (read_as if read_as.tzinfo else read_as.replace(tzinfo=self._zone)).astimezone(UTC)
        except (ValueError, AttributeError, OverflowError):
            self.problem(at, f"must be an ISO 8601 date or time, and is {_kind(value)} that is not one; see $date")
        return None

    def choice(self, words: tuple[str, ...], value: Any, at: str) -> str | None:
        if value in words:
            return str(value)
        self.problem(at, f"must be one of {', '.join(words)}")
        return None


_Reader = Callable[[_Reading, Any, str], Any]
_BY_TYPE: dict[Any, _Reader] = {
    str: _Reading.text,
    int: _Reading.whole,
    Decimal: _Reading.amount,
    datetime: _Reading.instant,
    Address: lambda reading, value, at: reading.nested(Address, value, at),
    Customer: lambda reading, value, at: reading.nested(Customer, value, at),
    tuple[Line, ...]: _Reading.lines,
    tuple[str, ...]: _Reading.texts,
    dict[str, str]: _Reading.references,
    dict[str, Any]: _Reading.extra,
}


def _reader(hint: Any) -> _Reader:
    if get_origin(hint) is Annotated:
        return _reader(get_args(hint)[0])
    if get_origin(hint) is Literal:
        words = get_args(hint)
        return lambda reading, value, at: reading.choice(words, value, at)
    if hint not in _BY_TYPE:
        (hint,) = (one for one in get_args(hint) if one is not type(None))
        return _reader(hint)
    return _BY_TYPE[hint]


_READERS: dict[type[Struct], dict[str, _Reader]] = {
    kind: {
        field.name: _reader(get_type_hints(kind, include_extras=True)[field.name])
        for field in msgspec.structs.fields(kind)
        if not (kind is Order and field.name in _CORES)
    }
    for kind in (Order, Line, Customer, Address)
}


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return f"a list of {len(value)}; x[0] takes the first"
    names: dict[type, str] = {str: "a text", bool: "true or false", int: "a number", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _key(key: str) -> str:
    """Return a key as problems name it: cut, and in ASCII."""
    return ascii(_SPACED.sub(" ", key)[:60])[1:-1]
