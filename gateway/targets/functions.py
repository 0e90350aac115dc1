"""Functions of JSONata in a target's configuration, beside those of every mapping.

`$odata`, `$day`, `$epoch_s` and `$epoch_ms` work everywhere; `$req`, `$table` and `$lookup_id` where a request is made. A missing
value gives nothing and is noted, and the evaluation goes on, so that one refusal names everything that a person has to put right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.did_you_mean import nearest
from gateway.mapping.engine import CallSite
from gateway.mapping.functions import Refusal, is_nothing

Rows = Mapping[str, Mapping[str, Any]]
_MOST_PROBLEMS = 50
_LONGEST_CODE = 80
_SHORTEST = 4
_PEOPLE = ("customer", "customer.address", "ship_to")
_OF_PEOPLE = frozenset({"contact", "email", "phone", "street", "street2", "notes"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def odata(text: Any) -> str | None:
    """`$odata(x)`: an OData literal, its apostrophes doubled: `'O''Neill'`."""
    if is_nothing(text):
        return None
    if not isinstance(text, (str, int)) or isinstance(text, bool):
        raise Refusal("$odata: takes a text")
    return "'" + str(text).replace("'", "''") + "'"


def day(instant: Any, zone: Any = "UTC") -> str | None:
    """`$day(instant, "Europe/Berlin")`: the calendar day of that zone, `2024-04-02`."""
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


_PURE: Mapping[str, Callable[..., Any]] = {"odata": odata, "day": day, "epoch_s": epoch_s, "epoch_ms": epoch_ms}
OF_ANSWERS: Mapping[str, Callable[..., Any]] = {**_PURE, "table": _not_here("table"), "lookup_id": _not_here("lookup_id")}
NAMES = ("req", "table", "lookup_id", *_PURE)


class Scope:
    """Functions of one evaluation; `problems` collects what they missed.

    Args:
        tables: Code tables by name.
        rows: Rows that each look-up found, by code.
        asked: Codes that each look-up was asked for; None where nothing was asked at all (`target map`).
        order: Tells which codes speak of a person.
    """

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, Any]],
        rows: Mapping[str, Rows],
        asked: Mapping[str, Sequence[str]] | None,
        order: object,
    ) -> None:
        self._tables = tables
        self._rows = rows
        self._asked = asked
        self._order = order
        self.problems: list[str] = []

    def functions(self, where: CallSite) -> Mapping[str, Callable[..., Any]]:
        """Return the functions by name, as `Expression.evaluate` binds them."""

        def req(value: Any, name: Any = "") -> Any:
            if not is_nothing(value) and value != []:
                return value
            what = name if isinstance(name, str) and name else f"value at {where.place} of the mapping"
            return self._miss(where, f"there is no {what}")

        def table(name: Any, code: Any) -> Any:
            if not isinstance(name, str) or name not in self._tables:
                raise Refusal(f"$table: there is no table {shown(name)}{nearest(str(name), self._tables)}")
            if is_nothing(code):
                return self._miss(where, f"{name}: there is no code to look up")
            found = self._tables[name].get(str(code))
            return self._miss(where, f"{name}: {shown(code, self._order)} is not in this table") if found is None else found

        def lookup_id(name: Any, code: Any) -> Any:
            if not isinstance(name, str) or name not in self._rows:
                raise Refusal(f"$lookup_id: there is no look-up {shown(name)}{nearest(str(name), self._rows)}")
            if is_nothing(code):
                return self._miss(where, f"{name}: there is no code to look up")
            found = self._rows[name].get(str(code))
            if found is not None:
                return found
            if self._asked is None:
                return self._miss(where, f"{name}: {shown(code, self._order)} has not been looked up")
            if str(code) not in self._asked.get(name, ()):
                return self._miss(where, f"{name}: {shown(code, self._order)} is not among its codes; let `codes` give it")
            return self._miss(where, f"{name}: the ERP has no {shown(code, self._order)}")

        return {**_PURE, "req": req, "table": table, "lookup_id": lookup_id}

    def _miss(self, where: CallSite, text: str) -> None:
        number = where.line_number
        said = text if number is None else f"line {number}: {text}"
        if said not in self.problems and len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(said)


def lines_with(order: Mapping[str, Any], code: str) -> str:
    """Return the lines that name a code as a prefix for a reason: `line 2: `, `lines 2, 5: `, or nothing."""
    lines = order.get("lines")
    numbers = [
        str(line.get("line_number", n))
        for n, line in enumerate(lines if isinstance(lines, list) else (), 1)
        if isinstance(line, dict) and any(str(value) == code for key, value in line.items() if key != "line_number")
    ]
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}: " if numbers else ""


def shown(value: Any, order: object = None) -> str:
    """Quote a code for a reason. Reasons are shown and kept, so a code that speaks of a person is named by its place in the order."""
    for at, text in _personal(order, ""):
        if _repeats(str(value).casefold(), text.strip().casefold()):
            return f"{at} of this order"
    return '"' + "".join(c if c.isprintable() else "?" for c in str(value)[:_LONGEST_CODE]) + '"'


def _repeats(code: str, text: str) -> bool:
    """Return whether a code holds a person's text, or a word of it that no article number would be."""
    whole = len(text) >= _SHORTEST and text in code
    return bool(text) and (code == text or whole or (len(code) >= _SHORTEST and code.isalpha() and code in re.split(r"\W+", text)))


def _personal(value: object, at: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of everything personal in an order."""
    if isinstance(value, list):
        for n, one in enumerate(value):
            yield from _personal(one, f"{at}[{n}]")
    for key, one in value.items() if isinstance(value, dict) else ():
        path = f"{at}.{key}" if at else key
        if isinstance(one, str) and (key in _OF_PEOPLE or (key == "name" and at in _PEOPLE)):
            yield path, one
        elif isinstance(one, (dict, list)) and key != "extra":
            yield from _personal(one, path)
