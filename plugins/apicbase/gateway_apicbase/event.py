"""An order as an event: what names it, and what makes one version of it (vendors/apicbase.md section 4, cases 1 to 3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from gateway import Event
from gateway_apicbase.wire import Package, PurchaseOrder, amount, filled, instant

_SIMPLE = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,9})?\Z")
_encoder = msgspec.json.Encoder()


class _Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str | None = None
    supplier_article_number: str | None = None
    theoretical_price_per_package: object = None
    quantity_ordered: object = None
    total_theoretical_price: object = None


class _Content(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of an order without its empty fields: null, missing and empty are the same."""

    order_number: str | None = None
    owned_by: str | None = None
    order_remarks: str | None = None
    packages: tuple[_Line, ...] = ()
    expected_delivery_date: object = None
    theoretical_price: object = None
    supplier_customer_number: str | None = None


def event(order: PurchaseOrder, document: bytes, zone: tzinfo) -> Event:
    """Make the event, with the same key for both doors. `document` is kept exactly as it came.

    `ordered_on` says how new a version is, in whole seconds, since the list may show it less exactly than the webhook, and only
    with a zone: without one, two versions may change places where the clocks go back.
    """
    at = ordered_at(order, zone)
    return Event(
        key=order.id,
        order_ref=order.id,
        reference=order.id,
        document=document,
        content=content(order, zone),
        as_of=at.replace(microsecond=0) if at is not None and _says_its_zone(order.ordered_on) else None,
        occurred_at=at,
    )


def ordered_at(order: PurchaseOrder, zone: tzinfo) -> datetime | None:
    """Return the time of ordering, or None if it is unreadable; no order is refused for that."""
    try:
        return instant(order.ordered_on, zone)
    except ValueError:
        return None


def _says_its_zone(text: str | None) -> bool:
    return datetime.fromisoformat(filled(text) or "0001-01-01").tzinfo is not None


def content(order: PurchaseOrder, zone: tzinfo) -> bytes:
    """Encode the customer's decisions in one spelling: null, missing and empty are the same, as are `12.50` and `12.5`, and
    one instant in two zones.

    Left out: `status` and the marks, which are not the customer's doing, and `ordered_on`, the moment of pressing send,
    which may be another one when an order whose answer got lost is sent again unchanged. A change to this function makes
    every order that comes again a revision.
    """
    return _encoder.encode(
        _Content(
            order_number=filled(order.order_number),
            owned_by=filled(order.owned_by.username) if order.owned_by else None,
            order_remarks=filled(order.order_remarks),
            packages=tuple([_line(package) for package in order.lines]),
            expected_delivery_date=_spelt(order.expected_delivery_date, lambda text: instant(text, zone)),
            theoretical_price=_spelt(order.theoretical_price, _plain),
            supplier_customer_number=order.customer_number,
        )
    )


def _line(package: Package) -> _Line:
    return _Line(
        name=package.name,
        supplier_article_number=package.article_number,
        theoretical_price_per_package=_spelt(package.price, _plain),
        quantity_ordered=_plain(package.quantity_ordered),
        total_theoretical_price=_spelt(package.total_theoretical_price, _plain),
    )


def _spelt(value: Any, read: Callable[[Any], object]) -> object:
    """Normalize a value; return it unchanged if it is unreadable."""
    if value is None or value == "":
        return None
    try:
        return read(value)
    except ValueError:
        return str(value)


def _plain(value: Any) -> str:
    if isinstance(value, str) and _SIMPLE.match(value):  # what nearly all of them are
        return value.rstrip("0").rstrip(".") if "." in value else value
    if type(value) is int and -(10**15) < value < 10**15:
        return str(value)
    number: Decimal = amount(value)
    return format(number.normalize() if number else Decimal(0), "f")
