"""Pickup Cloud's JSON as Structs (vendors/pickup_cloud.md sections 1 and 5).

The answer to `GET .../orders/by-ordernumber/{orderNumber}` is the same object as the answer to a creation; its last part was
not seen, so only the number is required. .NET writes keys in camelCase or in PascalCase as it is told to, so their letter
case does not count. Null and "" are the same: nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway import Status, decimal, read_json

# As long as the answer lets it be: BD states no length, and an order that was created must not seem unknown for a long text in it. NUL
# cannot be stored and shown everywhere; halves of surrogate pairs are refused with the whole document.
Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]

STATES: dict[str, Status] = {
    "SCHEDULED": "scheduled",
    "READYFORINPUT": "ready_for_input",
    "READYFORPICKUP": "ready_for_pickup",
    "PICKEDUP": "picked_up",
    "CANCELED": "cancelled",
}


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


class CustomerDetails(Struct, frozen=True, kw_only=True, rename=_folded):
    """Single strings for name and street; the country is a free text. All empty where the customer registers himself."""

    full_name: Text | None = None
    address: Text | None = None
    postal_code: Text | None = None
    city: Text | None = None
    country: Text | None = None
    phone_number: Text | None = None
    email: Text | None = None


class Article(Struct, frozen=True, kw_only=True, rename=_folded):
    """Entry of `articles`; only recurrent orders have `interval`.

    The vendor says that article states are "values you also get via the API endpoint" (realtime page) and not under which
    names; the last three are those of the article event.
    """

    scan_code: Text | None = None
    name: Text | None = None
    quantity_ordered: str | None = None
    interval: str | None = None
    due_date: Text | None = None
    order_article_state: Text | None = None
    order_article_state_changed_date: Text | None = None

    @property
    def quantity(self) -> Decimal | None:
        """Raises ValueError."""
        return number(self.quantity_ordered)


class ArticleStatus(Struct, frozen=True, kw_only=True, rename=_folded):
    """`ArticleStatusChangedDto` of the article event."""

    article_id: Text
    order_article_state: Text
    required_quantity: str | None = None
    order_article_state_changed_date: Text | None = None
    due_date: Text | None = None


class OrderResponse(Struct, frozen=True, kw_only=True, rename=_folded):
    """An order as the REST API shows it. Dates stay as they were written; `instant` reads them."""

    order_number: Text
    state: Text | None = None
    creation_date: Text | None = None
    last_update_date: Text | None = None
    picked_up_date: Text | None = None
    canceled_date: Text | None = None
    is_overdue: bool | None = None
    articles: Annotated[tuple[Article, ...], Meta(max_length=10_000)] | None = None
    start_date: Text | None = None
    end_date: Text | None = None
    related_notes: Text | None = None
    dosage_information: Text | None = None
    customer_details: CustomerDetails | None = None
    pickup_code: Text | None = None
    storage_code: Text | None = None
    cancellation_reason: Text | None = None

    def changed_at(self, zone: tzinfo) -> datetime | None:
        """Since when the order has its state, at the latest; None where no date says so. Raises ValueError."""
        own = {"PICKEDUP": self.picked_up_date, "CANCELED": self.canceled_date}.get((self.state or "").upper())
        return max(filter(None, (instant(own, zone), instant(self.last_update_date, zone))), default=None)


def read_order(document: bytes) -> OrderResponse:
    """Read an order. Raises ValueError."""
    return msgspec.convert(fold(read_json(document)), OrderResponse)


def fold(value: Any) -> Any:
    """Return a copy with every key in lower case. Raises ValueError if two keys of an object differ only in letter case."""
    if isinstance(value, list):
        return [fold(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key.lower(): fold(item) for key, item in value.items()}
    if len(made) != len(value):
        raise ValueError("a key twice in one object, in different letter case")
    return made


def status(state: str | None) -> Status | None:
    """Return our word for a state, or None if it is unknown."""
    return STATES.get((state or "").strip().upper())


def filled(text: str | None) -> str | None:
    """Return the text, or None if it is empty."""
    return text if text and text.strip() else None


def number(text: str | None) -> Decimal | None:
    """Read an exact number, or None. Raises ValueError."""
    return None if filled(text) is None else decimal(text or "")


def instant(text: str | None, zone: tzinfo) -> datetime | None:
    """Read a date as UTC, to the microsecond (.NET writes a tenth of that as well); without an offset it is in `zone`.

    Year 1 is .NET's way of writing that there is none.

    Raises:
        ValueError: It is no date.
    """
    written = filled(text)
    if written is None:
        return None
    read_as = datetime.fromisoformat(written.strip())
    if read_as.year == 1:
        return None
    try:
        return (read_as if read_as.tzinfo else read_as.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("an instant outside the calendar") from error
