"""Constructed orders for the simulator and the tests: no real pharmacy, product or person in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

# Code, name. The first two begin with zeros, as a code may.
CATALOGUE = (
    ("04260000000011", "Augentropfen 10 ml"),
    ("00012345", "Kühl-Gel 50 g"),
    ("5948900000017", "Tabletten 500mg x 8"),
    ("5948900000024", "Spray"),
)
CUSTOMER = {
    "fullName": "Łucja Müller-Öztürk \u202bלוצ׳יה\u202c",
    "address": "Straße des 17. Juni 135, Hinterhof",
    "postalCode": "01067",
    "city": "Dresden",
    "country": "Deutschland",
    "phoneNumber": "+49 0351 000 00 00",
    "email": "lucja@example.org",
}
SELF_REGISTERED = dict.fromkeys(CUSTOMER, "") | {"email": "juergen@example.org"}


def article(place: int, quantity: int = 1, *, interval: int | None = None) -> dict[str, Any]:
    """Make an entry of an order's `articles` (vendors/pickup_cloud.md 5.1, 5.2)."""
    code, name = CATALOGUE[place]
    made: dict[str, Any] = {"scanCode": code, "name": name, "quantityOrdered": quantity}
    return made if interval is None else made | {"interval": interval}


def response(
    number: str, *, state: str, created: datetime, articles: Sequence[dict[str, Any]] = (), code: int = 0xA42, **fields: Any
) -> dict[str, Any]:
    """Make an order as creation and status answer it (5.3), for recurrent orders without articles.

    Args:
        fields: In place of what would stand there.
    """
    return {
        "articles": list(articles),
        "orderNumber": number,
        "requestCustomerToFillData": False,
        "relatedNotes": "Kühl lagern",
        "dosageInformation": "1-0-1",
        "state": state,
        "creationDate": ticks(created),
        "lastUpdateDate": None,
        "pickedUpDate": None,
        "canceledDate": None,
        "firstInputDate": None,
        "isOverdue": False,
        "pickupCode": f"customer_{code:032X}",
        "storageCode": f"pickup_{code + 0x100:032X}",
        "cancellationReason": "",
    } | fields


def ticks(instant: datetime, tenths: int = 7) -> str:
    """Write an instant as .NET does: seven digits of a second, and an offset."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{instant.microsecond:06}{tenths}+00:00"


def midnight(day: datetime, after_days: int = 0) -> str:
    """Write a due date: a day without a time and an offset."""
    return f"{day + timedelta(days=after_days):%Y-%m-%d}T00:00:00"
