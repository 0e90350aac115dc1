"""What a mapping may ask while it makes one body: `$req`, `$table`, `$lookup_id`. What is missing is collected, all of it.

A missing value gives nothing and the mapping goes on, so that one refusal names everything that a person has to put right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.did_you_mean import nearest
from gateway.mapping.engine import Where
from gateway.mapping.functions import Refusal, is_nothing
from gateway.targets.expressions import PURE, evaluate
from gateway.targets.request import Context

Rows = Mapping[str, Mapping[str, Any]]
_MOST_PROBLEMS = 50
_LONGEST_CODE = 80
_SHORTEST = 4
_PEOPLE = ("customer", "customer.address", "ship_to")
_OF_PEOPLE = frozenset({"contact", "email", "phone", "street", "street2", "notes"})


class Scope:
    """The functions of one evaluation, and what they missed.

    Args:
        tables: Code tables by name.
        rows: What each look-up found, by code.
        asked: The codes that each look-up was asked for; None where nothing was asked at all (`target map`).
    """

    def __init__(
        self, tables: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Rows], asked: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._tables = tables
        self._rows = rows
        self._asked = asked
        self.problems: list[str] = []
        self._order: object = None

    def evaluate(self, source: str, context: Context) -> Any:
        """What a text makes of the context; `problems` grows by what was missing. Raises MappingError for anything else."""
        self._order = context.get("order")
        return evaluate(source, context, self.functions)

    def functions(self, where: Where) -> Mapping[str, Callable[..., Any]]:
        """As `Expression.evaluate` binds them."""

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

        return {**PURE, "req": req, "table": table, "lookup_id": lookup_id}

    def _miss(self, where: Where, text: str) -> None:
        number = where.line_number
        said = text if number is None else f"line {number}: {text}"
        if said not in self.problems and len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(said)


def lines_with(order: Mapping[str, Any], code: str) -> str:
    """The lines of an order that name a code, as a reason begins: `line 2: `, `lines 2, 5: `; nothing where none does."""
    lines = order.get("lines")
    numbers = [
        str(line.get("line_number", n))
        for n, line in enumerate(lines if isinstance(lines, list) else (), 1)
        if isinstance(line, dict) and any(str(value) == code for key, value in line.items() if key != "line_number")
    ]
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}: " if numbers else ""


def shown(value: Any, order: object = None) -> str:
    """A code as a reason quotes it. One that speaks of a person is named by its place in the order: reasons are shown and kept."""
    for at, text in _personal(order, ""):
        if _repeats(str(value).casefold(), text.strip().casefold()):
            return f"{at} of this order"
    return '"' + "".join(c if c.isprintable() else "?" for c in str(value)[:_LONGEST_CODE]) + '"'


def _repeats(code: str, text: str) -> bool:
    """Whether a code is made of a person's text: all of it, or a word of it that no article number would be."""
    whole = len(text) >= _SHORTEST and text in code
    return bool(text) and (code == text or whole or (len(code) >= _SHORTEST and code.isalpha() and code in re.split(r"\W+", text)))


def _personal(value: object, at: str) -> Iterator[tuple[str, str]]:
    """What an order says of people, and in their own words: (path, text)."""
    if isinstance(value, list):
        for n, one in enumerate(value):
            yield from _personal(one, f"{at}[{n}]")
    for key, one in value.items() if isinstance(value, dict) else ():
        path = f"{at}.{key}" if at else key
        if isinstance(one, str) and (key in _OF_PEOPLE or (key == "name" and at in _PEOPLE)):
            yield path, one
        elif isinstance(one, (dict, list)) and key != "extra":
            yield from _personal(one, path)
