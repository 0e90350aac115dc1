"""Differences between two versions of an order, line by line, for the clerk who decides about them. Pure.

Lines belong together by their article number, in order where an article stands on several lines; lines without one by their position.
Pages show the differences, and the store keeps them: of people and free texts they say only that they changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from gateway.api.order import Line, Order

# Fields that no clerk compares, or that name what is compared. A field that is not named here is compared.
_LEFT_OUT = {"order_ref", "revision", "ordered_at", "customer", "lines", "references", "flags", "extra"} | {
    "line_number", "article_number", "scan_code", "name"
}  # fmt: skip
_PUBLIC_TEXTS = {"order_number", "status", "currency", "unit"}


def differences(before: Order, after: Order) -> list[str]:
    """Return one text for each difference that a clerk would look at."""
    return [*_customer(before, after), *_changes(before, after, ":"), *_lines(before, after)]


def is_likely_new(before: Order, after: Order) -> bool:
    """Return True for another order under an old name: another customer, or not one article in common."""
    if before.customer.number != after.customer.number:
        return True
    old, new = ({line.article_number or line.scan_code for line in order.lines} - {None} for order in (before, after))
    return bool(old and new) and not old & new


def _customer(before: Order, after: Order) -> Iterator[str]:
    if before.customer.number != after.customer.number:
        yield f"customer: {_text(before.customer.number)} -> {_text(after.customer.number)}"
    elif before.customer != after.customer:
        yield "customer: other details"


def _changes(before: Order | Line, after: Order | Line, colon: str = "") -> Iterator[str]:
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old != new and name not in _LEFT_OUT:
            yield f"{name}{colon} {_change(name, old, new)}"


def _change(name: str, old: object, new: object) -> str:
    if name in _PUBLIC_TEXTS or all(isinstance(value, Decimal | int | datetime | None) for value in (old, new)):
        return f"{_text(old)} -> {_text(new)}"
    return "changed"


def _lines(before: Order, after: Order) -> Iterator[str]:
    waiting: dict[str, list[Line]] = defaultdict(list)
    for line in before.lines:
        waiting[_name(line)].append(line)
    for line in after.lines:
        old = waiting[_name(line)]
        if not old:
            yield f"+ line {line.line_number}: {_name(line)}, quantity {_text(line.quantity)}, price {_text(line.unit_price)}"
            continue
        changed = list(_changes(old.pop(0), line))
        if changed:
            yield f"  line {line.line_number}: {_name(line)}, {', '.join(changed)}"
    for line in (line for lines in waiting.values() for line in lines):
        yield f"- line {line.line_number}: {_name(line)}, quantity {_text(line.quantity)}, price {_text(line.unit_price)}"


def _name(line: Line) -> str:
    return line.article_number or line.scan_code or f"without a number ({line.line_number})"


def _text(value: object) -> str:
    return "none" if value is None else str(value)
