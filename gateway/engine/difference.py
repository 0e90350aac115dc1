"""What changed between two versions of an order, line by line, for the person who has to decide about it. Pure.

Lines belong together by their article number, in order where an article stands on several lines; lines without one by
their position. Of people and free texts it is only said that they changed: this is shown on pages and kept for long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from gateway.api.order import Line, Order

_HEAD = ("order_number", "status", "requested_for", "currency", "total")
_PRIVATE = ("ship_to", "notes")
_FIELDS = ("quantity", "unit", "unit_price", "line_total", "interval_days", "due_at", "status")


def differences(before: Order, after: Order) -> list[str]:
    """One text for each thing that is not the same; none where everything that a clerk would look at is."""
    return [*_head(before, after), *_lines(before, after)]


def is_likely_new(before: Order, after: Order) -> bool:
    """Whether this is another order under an old name: another customer, or not one article in common."""
    if before.customer.number != after.customer.number:
        return True
    old, new = ({line.article_number or line.scan_code for line in order.lines} - {None} for order in (before, after))
    return bool(old and new) and not old & new


def _head(before: Order, after: Order) -> Iterator[str]:
    if before.customer.number != after.customer.number:
        yield f"customer: {_said(before.customer.number)} -> {_said(after.customer.number)}"
    elif before.customer != after.customer:
        yield "customer: other details"
    for name in _HEAD:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name}: {_said(old)} -> {_said(new)}"
    for name in _PRIVATE:
        if getattr(before, name) != getattr(after, name):
            yield f"{name}: changed"


def _lines(before: Order, after: Order) -> Iterator[str]:
    waiting: dict[str, list[Line]] = defaultdict(list)
    for line in before.lines:
        waiting[_name(line)].append(line)
    for line in after.lines:
        old = waiting[_name(line)]
        if not old:
            yield f"+ line {line.line_number}: {_name(line)}, quantity {_said(line.quantity)}, price {_said(line.unit_price)}"
            continue
        changed = list(_changed(old.pop(0), line))
        if changed:
            yield f"  line {line.line_number}: {_name(line)}, {', '.join(changed)}"
    for line in (line for lines in waiting.values() for line in lines):
        yield f"- line {line.line_number}: {_name(line)}, quantity {_said(line.quantity)}, price {_said(line.unit_price)}"


def _changed(old: Line, new: Line) -> Iterator[str]:
    for name in _FIELDS:
        if getattr(old, name) != getattr(new, name):
            yield f"{name} {_said(getattr(old, name))} -> {_said(getattr(new, name))}"
    if old.notes != new.notes:
        yield "notes changed"


def _name(line: Line) -> str:
    return line.article_number or line.scan_code or f"without a number ({line.line_number})"


def _said(value: object) -> str:
    return "none" if value is None else str(value)
