"""Comparison of the vendors' orders with the ERP's, for `gateway demo --once`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from gateway.testing.erp import ErpSimulator
from gateway.testing.simulator import Sent

_WIDEST = 52


class Row(Struct, frozen=True, kw_only=True):
    """Line of the comparison; `verdict` is `ok`, or says what is wrong."""

    source: str
    sent: Sent
    arrived: str
    verdict: str


def torn_keys(erp: ErpSimulator) -> set[str]:
    """Return the keys that came with different bodies; there must be none."""
    seen: dict[str, set[bytes]] = {}
    for heard in erp.heard:
        seen.setdefault(heard.key, set()).add(heard.body)
    return {key for key, bodies in seen.items() if len(bodies) > 1}


def compare(sent: Sequence[tuple[str, Sent]], messages: Sequence[dict[str, Any]], torn: set[str]) -> list[Row]:
    """Compare the vendors' orders with those of the ERP; every difference is a verdict.

    Args:
        sent: Source and order, in the order in which they were sent.
        messages: The canonical messages that the ERP holds.
        torn: Keys that came with different bodies.
    """
    left: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for message in messages:
        left.setdefault((message["source"], message["order"]["order_ref"]), []).append(message)
    rows = []
    for source, order in sent:
        waiting = left.get((source, order.order_ref), [])
        many = len(waiting) if order.status is not None else 1
        got, waiting[:] = (waiting[:many], waiting[many:]) if order.expected == "placed" else ([], waiting)
        rows.append(_row(source, order, got, torn))
    for (source, order_ref), extra in left.items():
        for message in extra:
            unsent = Sent(order_ref=order_ref, order_number="-", door="webhook", answer="failed", expected="nothing", lines=0, total=None)
            rows.append(Row(source=source, sent=unsent, arrived=message["key"], verdict="nobody sent this"))
    return rows


def _row(source: str, sent: Sent, got: Sequence[dict[str, Any]], torn: set[str]) -> Row:
    """Compare one order with its messages, which are in the order of arrival."""
    if not got:
        verdict = "did not arrive" if sent.expected == "placed" else "ok"
        return Row(source=source, sent=sent, arrived="-", verdict=verdict)
    order = got[-1]["order"]
    facts = {
        "order number": (order["order_number"], sent.order_number),
        "lines": (len(order["lines"]), sent.lines),
        "total": (order["total"], sent.total),
        "kind": (got[0]["kind"], "order.placed"),
    }
    if sent.status is not None:
        facts["status"] = (order["status"], sent.status)
    wrong = [f"{name} is {found!r}, sent {expected!r}" for name, (found, expected) in facts.items() if found != expected]
    wrong += [f"{later['key']} is a {later['kind']}" for later in got[1:] if later["kind"] not in ("order.status", "order.cancelled")]
    wrong += [f"{later['key']} says nothing new" for before, later in pairwise(got) if before["order"] == later["order"]]
    if torn & {message["key"] for message in got}:
        wrong.append("came with different bodies under one key")
    return Row(source=source, sent=sent, arrived=got[-1]["key"], verdict="; ".join(wrong) or "ok")


def print_table(rows: Sequence[Row]) -> None:
    """Print the comparison as a table."""
    cells = [("source", "door", "order", "vendor heard", "expected", "in the ERP", "verdict", "")]
    for row in rows:
        sent = row.sent
        number, arrived = (text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…" for text in (sent.order_number, row.arrived))
        cells.append((row.source, sent.door, number, sent.answer, sent.expected, arrived, row.verdict, sent.note))
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    print()
    for cell in cells:
        print("  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip())
