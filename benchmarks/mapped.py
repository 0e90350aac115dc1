"""What a mapping costs: from a canonical order to the bytes that a real ERP wants, beside what an order costs end to end."""

from __future__ import annotations

import time
import tomllib
from datetime import UTC, datetime
from decimal import Decimal

from benchmarks.child import ROOT
from benchmarks.measures import spread
from benchmarks.report import Entry, Section, Verdict
from gateway import Customer, Line, Order
from gateway.api.order import Message, encode
from gateway.clock import SystemClock
from gateway.config.decode import decode
from gateway.config.report import Report
from gateway.targets.builder import Builder
from gateway.targets.settings import TargetSettings

LINES = (5, 50)
_AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
_TOML = """
url = "http://127.0.0.1:9/salesOrders"
vars = { time_zone = "Europe/Berlin" }
[body]
mapping = "business-central.jsonata"
schema = "business-central.schema.json"
"""


def measure(seconds: float, rounds: int, end_to_end_us: float) -> Section:
    """Orders a second in each round, by this process; the look-ups of an ERP that wants ids come on top.

    Args:
        seconds: Of one round.
        end_to_end_us: What the gateway's loop spends on an order that is forwarded as it is.
    """
    builder = _builder()
    entries, cost_us = [], {}
    for lines in LINES:
        body = _message(lines)
        rates = [_rate(builder, body, seconds) for _ in range(rounds)]
        cost_us[lines] = 1e6 / spread(rates).median
        entries.append(Entry(name=f"{lines} lines", figures={"orders/s": spread(rates), "us an order": cost_us[lines]}))
    share = cost_us[LINES[0]] / (cost_us[LINES[0]] + end_to_end_us)
    return Section(
        name="mapping",
        what="etc/targets/business-central: mapping, schema, exact bytes, in one process by itself",
        entries=entries,
        verdicts=[Verdict(name=f"share of the end-to-end cost, {LINES[0]} lines", value=spread([share]))],
    )


def _builder() -> Builder:
    report = Report({}, ROOT / "etc" / "targets" / "bench.toml")
    settings = decode(TargetSettings, tomllib.loads(_TOML), ("targets", "bench"), report)
    if settings is None:
        raise RuntimeError("\n".join(report.problems))
    return Builder(settings, None, SystemClock())


def _message(count: int) -> bytes:
    lines = tuple(
        Line(line_number=n, article_number=f"000451-{n}", name="Crème fraîche", quantity=Decimal(4), unit_price=Decimal("12.3450"))
        for n in range(1, count + 1)
    )
    order = Order(order_ref="5f0c", order_number="PO-1", ordered_at=_AT, currency="EUR", customer=Customer(number="0010023"), lines=lines)
    return encode(
        Message(key="bench/5f0c/1", kind="order.placed", source="bench", vendor="v", occurred_at=_AT, received_at=_AT, order=order)
    )


def _rate(builder: Builder, body: bytes, seconds: float) -> float:
    began = time.monotonic()
    count = 0
    while (spent := time.monotonic() - began) < seconds:
        builder.create(builder.context(body))
        count += 1
    return count / spent
