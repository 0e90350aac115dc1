"""Fields of a record that the operator's mapping does not use: they go into `extra` unchanged.

The vendor publishes no field list, and every organisation adds fields of its own. The mapping uses a field if its name begins a path
in the mapping's text, outside comments: `placeholder_lines.{ "quantity": qty }` uses `placeholder_lines`, and `qty` is a name inside
it. In doubt, a field counts as unused: a field in two places is better than one that is lost.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from gateway_supercat.record import NAMES

_TOKEN = re.compile(
    r"""(?P<skip>\s+|/\*.*?\*/)|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`(?P<quoted>[^`]*)`"""
    r"""|(?P<variable>\$\$|\$\w*)|(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>.)""",
    re.DOTALL,
)
_WORDS = frozenset({"and", "or", "in", "function", "true", "false", "null"})


def unknown_fields(fields: dict[str, Any], mapping: str) -> dict[str, Any]:
    """Return the filled fields that the mapping does not use."""
    known = used_fields(mapping)
    return {name: value for name, value in fields.items() if name not in known and name not in NAMES and value is not None}


@lru_cache(maxsize=32)
def used_fields(mapping: str) -> frozenset[str]:
    """Return the names that begin a path at the top of the document."""
    found: set[str] = set()
    inside = [False]  # for each open bracket: True if names in it belong to a nested value
    before, last = "", ""
    for token in _TOKEN.finditer(mapping):
        kind, text = token.lastgroup or "", token[0]
        if kind == "skip":
            continue
        if text in ("(", "[", "{"):
            inside.append(inside[-1] or _belongs(text, last))
        elif text in (")", "]", "}") and len(inside) > 1:
            inside.pop()
        if kind in ("name", "quoted"):
            at_root = last == "." and (before == "$$" or (before == "$" and not inside[-1]))
            if at_root or (last != "." and not inside[-1] and text not in _WORDS):
                found.add(token["quoted"] if kind == "quoted" else text)
        before, last = last, ("name" if kind in ("name", "quoted") and text not in _WORDS else text)
    return frozenset(found)


def _belongs(bracket: str, last: str) -> bool:
    """Tell whether a bracket is applied to the path before it: `lines.{`, `lines.(`, `lines[`, `lines{`, `lines^(`."""
    if last in (".", "^"):
        return True
    return bracket != "(" and (last in ("name", ")", "]", "}", "*") or last.startswith("$"))
