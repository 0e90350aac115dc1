"""An Apicbase order as a canonical one. Nothing is corrected: what looks wrong is flagged, and its raw text kept in `extra`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway import Customer, Line, Order
from gateway_apicbase.rules import broken
from gateway_apicbase.settings import Settings
from gateway_apicbase.wire import Package, PurchaseOrder, amount, filled, instant

_RAW_LIMIT = 100


class _Notes:
    """Flags and raw texts, as they come up."""

    def __init__(self) -> None:
        self.flags: dict[str, None] = {}
        self.extra: dict[str, Any] = {}

    def flag(self, name: str) -> None:
        self.flags[name] = None

    def price(self, field: str, value: Any) -> Decimal | None:
        """Read a price, or return None and flag it; its raw text, if any, goes into `extra.unreadable_prices`."""
        try:
            return amount(value)
        except ValueError:
            self.flag("unreadable_price")
            if value is not None:
                self.extra.setdefault("unreadable_prices", {})[field] = _raw(value)
            return None

    def instant(self, field: str, text: str | None, settings: Settings) -> datetime | None:
        """Read an instant, or return None; an unreadable one is flagged, and its raw text kept."""
        try:
            return instant(text, settings.zone())
        except ValueError:
            self.flag("unreadable_date")
            self.extra[field] = text
            return None


def to_order(order: PurchaseOrder, settings: Settings) -> Order:
    """Make the canonical order.

    Flags: `test`, `delivered_unseen`, `unknown_status`, `unknown_customer`, `unknown_article`, `empty_order`,
    `zero_quantity`, `missing_customer_number`, `missing_article_number`, `unreadable_price`, `price_mismatch`,
    `unreadable_date`.
    """
    notes = _Notes()
    _flag_state(order, settings, notes)
    ordered_at = notes.instant("ordered_on", order.ordered_on, settings)
    requested_for = notes.instant("expected_delivery_date", order.expected_delivery_date, settings)
    if filled(order.expected_delivery_date):
        # Typed "datetime" by the vendor and maybe a pure date: in UTC the day that the customer meant can no longer be seen.
        notes.extra["expected_delivery_date"] = order.expected_delivery_date
    lines = tuple(_line(n, package, notes) for n, package in enumerate(order.lines, 1))
    total = notes.price("theoretical_price", order.theoretical_price)
    if not _adds_up(lines, total, settings.price_decimals):
        notes.flag("price_mismatch")
    return Order(
        order_number=filled(order.order_number),
        status="placed",
        ordered_at=ordered_at,
        requested_for=requested_for,
        currency=settings.currency,
        total=total,
        customer=Customer(number=order.customer_number, contact=filled(order.owned_by.username) if order.owned_by else None),
        notes=order.order_remarks or None,
        lines=lines,
        references={"apicbase_id": order.id},
        flags=tuple(notes.flags),
        extra=notes.extra,
    )


def is_unknown_state(order: PurchaseOrder) -> bool:
    """Neither sent nor delivered: a cart, or a state that Apicbase did not have when this was written."""
    return filled(order.status) not in (None, "ORDERED", "DELIVERED")


def _flag_state(order: PurchaseOrder, settings: Settings, notes: _Notes) -> None:
    if settings.sandbox_customers and order.customer_number in settings.sandbox_customers.words:
        notes.flag("test")
    if order.status == "DELIVERED":
        # A repeat makes no message, so whoever gets here was never seen as ORDERED (vendors/apicbase.md 4.6).
        notes.flag("delivered_unseen")
    if is_unknown_state(order):
        notes.flag("unknown_status")
    if order.status not in (None, "ORDERED"):
        notes.extra["status"] = order.status
    if order.customer_number is None:
        notes.flag("missing_customer_number")
    for rule in broken(order, settings):
        notes.flag(rule)


def _line(n: int, package: Package, notes: _Notes) -> Line:
    if package.article_number is None:
        notes.flag("missing_article_number")
    return Line(
        line_number=n,
        article_number=package.article_number,
        name=package.name,
        quantity=package.quantity,
        unit_price=notes.price(f"packages[{n - 1}].theoretical_price_per_package", package.price),
        line_total=notes.price(f"packages[{n - 1}].total_theoretical_price", package.total_theoretical_price),
    )


def _adds_up(lines: tuple[Line, ...], total: Decimal | None, decimals: int) -> bool:
    """Return True if each line is quantity times price and the order the sum of its lines, to half of the smallest coin.

    The vendor does not say whether it adds rounded or exact lines, so either will do. What is absent is not compared.
    """
    half = Decimal(5).scaleb(-decimals - 1)
    exact, written = Decimal(0), Decimal(0)
    whole = True
    for line in lines:
        product = None if line.unit_price is None or line.quantity is None else line.quantity * line.unit_price
        if product is not None and line.line_total is not None and abs(product - line.line_total) > half:
            return False
        whole = whole and product is not None and line.line_total is not None
        exact += product or 0
        written += line.line_total or 0
    return total is None or not whole or min(abs(exact - total), abs(written - total)) <= half


def _raw(value: Any) -> str:
    """Return a value as short text without NUL, which not every system can store."""
    return str(value)[:_RAW_LIMIT].replace("\x00", "\ufffd")
