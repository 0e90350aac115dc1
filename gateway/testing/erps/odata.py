"""Subset of OData for the simulators: `$filter` with `eq` and `and`; an apostrophe in a quoted text is doubled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TERM = re.compile(r"\s*(\w+) eq ('(?:[^']|'')*'|[\w.-]+)\s*(?:and\b|\Z)")


class BadFilter(ValueError):
    """The filter cannot be read, as when an apostrophe of a value ended its text."""


def conditions(written: str) -> list[tuple[str, str]]:
    """Field and value of each condition. Raises BadFilter."""
    found, at = [], 0
    while at < len(written):
        term = _TERM.match(written, at)
        if term is None:
            raise BadFilter(f"Syntax error at position {at} in '{written}'.")
        value = term[2]
        found.append((term[1], value[1:-1].replace("''", "'") if value.startswith("'") else value))
        at = term.end()
    return found


def matches(row: Mapping[str, Any], wanted: list[tuple[str, str]]) -> bool:
    """Return True if the row meets all conditions. Raises BadFilter for a field that the row does not have."""
    for field, _ in wanted:
        if field not in row:
            raise BadFilter(f"Could not find a property named '{field}'.")
    return all(str(row[field]) == value for field, value in wanted)
