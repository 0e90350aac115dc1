"""A Pickup Cloud order, and how it stands, as a canonical order. Pure.

The vendor has no prices, currency or unit. Its answers may come without articles (those of recurrent orders do) or without the
customer: what was known before stays, and what article notifications name is added. Who the patient is, what is to be taken when,
notes and the codes that open the machine leave the gateway only where the settings say so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway import Address, Customer, Order
from gateway_pickup_cloud.lines import Lines
from gateway_pickup_cloud.settings import Settings
from gateway_pickup_cloud.state import Standing, remember
from gateway_pickup_cloud.wire import CustomerDetails, OrderResponse, filled, instant, status


def to_order(order: OrderResponse, previous: Order | None, before: Standing, now: Standing, settings: Settings) -> Order:
    """Make the canonical order. Flags: `unmatched_article`, `unknown_state`.

    Args:
        previous: What was made of it last.
        before: How it stood then.
        now: How it stands now; without a state where only an article's is known, which is then the one the answer shows.
    Raises:
        ValueError: A date or a number that is none.
    """
    zone, private = settings.zone(), settings.forward_personal_data
    shown = status(order.state)
    gone = {one.line_number for one in before.articles} - {one.line_number for one in now.articles}
    lines = Lines(previous.lines if previous else (), gone, order.articles or ())
    now = msgspec.structs.replace(
        now,
        status=now.status or shown or "placed",
        changed_at=now.changed_at if now.status else order.changed_at(zone),
        recurrent=not now.one_time and (now.recurrent or is_recurrent(order)),
        articles=lines.placed(now.articles),
    )
    assert now.status is not None
    flags = {
        "unmatched_article": any(one.line_number is None for one in now.articles),
        "unknown_state": filled(order.state) is not None and shown is None,
    }
    customer = Customer() if order.customer_details is None else _customer(order.customer_details)
    if customer == Customer() and previous is not None:
        customer = previous.customer
    return Order(
        order_number=order.order_number,
        status=now.status,
        ordered_at=instant(order.creation_date, zone),
        customer=customer if private else Customer(),
        notes=filled(order.related_notes) if private else None,
        lines=lines.all,
        references=_filled(pickup_code=order.pickup_code, storage_code=order.storage_code) if private else {},
        flags=tuple(flag for flag, is_set in flags.items() if is_set),
        extra=remember(now) | _extra(order, private=private),
    )


def is_recurrent(order: OrderResponse) -> bool:
    """Return True if the answer shows a recurrent order; only these are ever scheduled (seed 001)."""
    dated = filled(order.start_date) or filled(order.end_date)
    return status(order.state) == "scheduled" or bool(dated) or any(article.interval for article in order.articles or ())


def _customer(details: CustomerDetails) -> Customer:
    """Name and street are single strings, the country is as people write it, all of them empty where he registers himself."""
    address = Address(
        street=filled(details.address),
        postal_code=filled(details.postal_code),
        city=filled(details.city),
        country=filled(details.country),
    )
    return Customer(
        name=filled(details.full_name),
        email=filled(details.email),
        phone=filled(details.phone_number),
        address=None if address == Address() else address,
    )


def _extra(order: OrderResponse, *, private: bool) -> dict[str, Any]:
    extra: dict[str, Any] = {} if order.is_overdue is None else {"is_overdue": order.is_overdue}
    if private:
        extra |= _filled(dosage_information=order.dosage_information, cancellation_reason=order.cancellation_reason)
    return extra


def _filled(**texts: str | None) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text is not None and filled(text)}
