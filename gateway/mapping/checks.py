"""Checks of a JSONata text when it is read, so that a mistake does not show with the first order of the night."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from gateway.did_you_mean import nearest
from gateway.mapping.functions import FUNCTIONS
from gateway.mapping.library import Symbol

LARGEST = 2**53 - 1  # JSONata counts in floats, which are exact up to here

# JSONata's own functions that are kept; FUNCTIONS come beside them or take their place.
KEPT = frozenset(
    "string substring substringBefore substringAfter lowercase uppercase length trim contains split boolean not map filter single"  # noqa: SIM905
    " reduce sift each keys lookup append exists spread merge reverse sort zip type error assert count floor ceil abs clone"
    " base64encode base64decode encodeUrlComponent encodeUrl decodeUrlComponent decodeUrl fromMillis".split()
)
_NO_REGEX = "use $contains, $split, $substringBefore, $substringAfter"
INSTEAD = {
    "match": _NO_REGEX,
    "average": "use $div($sum(x), $count(x), digits)",
    "toMillis": "use $date",
    "formatNumber": "use $round",
    **dict.fromkeys(("eval", "now", "millis", "random", "shuffle", "sqrt", "power", "formatBase", "formatInteger", "parseInteger"), ""),
}


def check_tree(tree: Any, more: Collection[str] = (), *, numbers_are_texts: bool = True) -> Iterator[tuple[int, str]]:
    """Yield position and text of each part that will not work. `more` names functions beside FUNCTIONS."""
    nodes = list(_nodes(tree))
    known = KEPT | set(FUNCTIONS) | set(more) | {"", "$"}
    for node in nodes:
        known |= {str(node.lhs.value)} if node.type == "bind" else set()
        known |= {str(one.value) for one in node.arguments or ()} if node.type == "lambda" else set()
        known |= {str(name) for name in (node.focus, node.index) if name is not None}
    for node in nodes:
        if node.type == "regex":
            yield node.position, f"regular expressions are left out, since nothing bounds their time; {_NO_REGEX}"
        elif node.type == "number" and (isinstance(node.value, float) or abs(node.value) > LARGEST):
            yield node.position, 'a number that is not exact here; write it in quotes, as in "0.25"'
        elif node.type == "variable" and str(node.value).startswith("__"):
            yield node.position, "names do not begin with __"
        elif numbers_are_texts and node.type == "binary" and node.value in ("=", "!=", "in") and _is_text_and_number(node.lhs, node.rhs):
            yield node.position, 'a number of the document is a text: compare it with "5", or write $compare(x, 5) = 0'
        elif node.type == "variable" and str(node.value) not in known:
            name = str(node.value)
            instead = INSTEAD.get(name)
            if instead is not None:
                yield node.position, f"${name} is left out" + (f"; {instead}" if instead else "")
            else:
                yield node.position, f"there is no ${name}" + nearest(name, known - {"", "$"})


def comparisons(tree: Any) -> dict[int, tuple[int, int]]:
    """Return the identity of each `<`, `<=`, `>` and `>=`, with those of its two sides, to check the values during evaluation."""
    return {
        id(node): (id(node.lhs), id(node.rhs)) for node in _nodes(tree) if node.type == "binary" and node.value in ("<", "<=", ">", ">=")
    }


def _is_text_and_number(*sides: Any) -> bool:
    """Return True if a field of the document is compared with a number, which it never equals."""
    return any(one.type == "number" and other.type == "path" and other.steps[0].type == "name" for one, other in (sides, sides[::-1]))


def _nodes(tree: Any) -> Iterator[Any]:
    """Yield every node of a compiled text once."""
    seen: set[int] = set()
    waiting: list[Any] = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, Symbol) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting.extend(value for name, value in vars(one).items() if name != "_outer_instance")
