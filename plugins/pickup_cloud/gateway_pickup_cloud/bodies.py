"""Bodies of the commands for Pickup Cloud: the vendor's own fields, with the rules of its pages (seed 001, vendors/pickup_cloud.md).

Which fields are required is not documented. Required here are the order's number and its articles, with code and quantity, for without
them nothing can be put into a machine, and what makes an order recurrent. Everything else may be absent, null or empty, and reaches the
vendor as the caller wrote it: customer details are often empty where the customer registers himself (section 4, case 16).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway_pickup_cloud.settings import Settings

# Dates are local: what the pharmacy's calendar says, without an offset.
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,7})?", re.ASCII)
_OFFSET = re.compile(r".*T.*(Z|[+-]\d{2}:?\d{2})", re.ASCII | re.IGNORECASE)

_NO_NUL = r"^[^\x00]*$"
_NUMBER = "Your own number: unique, printable, and neither '.' nor '..'."
_DATE = "A date in the pharmacy's time zone, without an offset."

OrderNumber = Annotated[str, Meta(min_length=1, max_length=200, description=_NUMBER, examples=["A-1042"])]
Name = Annotated[str, Meta(max_length=500, pattern=_NO_NUL)]
Code = Annotated[str, Meta(min_length=1, max_length=200, pattern=_NO_NUL)]
Text = Annotated[str, Meta(max_length=10_000, pattern=_NO_NUL)]
Quantity = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Interval = Annotated[int, Meta(ge=1, le=99, description="Days between two pick-ups of the article.")]
LocalDate = Annotated[str, Meta(min_length=1, max_length=40, description=_DATE, examples=["2022-01-23T00:00:00"])]


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class CustomerDetails(_Body, frozen=True, kw_only=True):
    """Customer who collects. Name and street are single texts, the country is its name."""

    full_name: Name | UnsetType | None = UNSET
    address: Name | UnsetType | None = UNSET
    postal_code: Name | UnsetType | None = UNSET
    city: Name | UnsetType | None = UNSET
    country: Name | UnsetType | None = UNSET
    phone_number: Name | UnsetType | None = UNSET
    email: Name | UnsetType | None = UNSET


class Article(_Body, frozen=True, kw_only=True):
    """Article of an order."""

    scan_code: Code
    name: Name | UnsetType | None = UNSET
    quantity_ordered: Quantity


class RecurrentArticle(_Body, frozen=True, kw_only=True):
    """Article of a recurrent order."""

    scan_code: Code
    name: Name | UnsetType | None = UNSET
    quantity_ordered: Quantity
    interval: Interval


class _Common(_Body, frozen=True, kw_only=True):
    order_number: OrderNumber
    related_notes: Text | UnsetType | None = UNSET
    dosage_information: Text | UnsetType | None = UNSET
    send_customer_pickup_mail: bool | UnsetType = UNSET
    customer_self_registration: bool | UnsetType = UNSET
    customer_details: CustomerDetails | UnsetType | None = UNSET


class NewOrder(_Common, frozen=True, kw_only=True):
    """A one-time pickup order; it is paid for already."""

    articles: Annotated[tuple[Article, ...], Meta(min_length=1, max_length=1000)]


class NewRecurrentOrder(_Common, frozen=True, kw_only=True):
    """A pickup order whose articles are collected again and again, each at its interval."""

    articles: Annotated[tuple[RecurrentArticle, ...], Meta(min_length=1, max_length=1000)]
    start_date: LocalDate
    end_date: LocalDate


class NewOrderOnBehalfOf(NewOrder, frozen=True, kw_only=True):
    """A one-time pickup order for another API client, which can ask after it by its own number."""

    origin: Code
    origin_order_number: OrderNumber


class GetOrder(_Body, frozen=True, kw_only=True):
    """Which order."""

    order_number: OrderNumber


def check_number(body: Any, settings: Settings, now: datetime) -> Iterator[tuple[str, str]]:
    """Check an order's number for use in an address and as the order's name in the gateway."""
    number = body.order_number
    if number in (".", ".."):
        yield "$.orderNumber", "means a folder in an address; give the order another number"
    elif not number.isprintable() or not number.strip():
        yield "$.orderNumber", "must be printable text"


def check_recurrent(body: NewRecurrentOrder, settings: Settings, now: datetime) -> Iterator[tuple[str, str]]:
    """Today is the pharmacy's: the vendor names no zone."""
    yield from check_number(body, settings, now)
    today, days = now.astimezone(settings.zone()).date(), {}
    for name, text in (("startDate", body.start_date), ("endDate", body.end_date)):
        found = local_day(text)
        if isinstance(found, date):
            days[name] = found
        else:
            yield f"$.{name}", f"{found}; the pharmacy's zone is {settings.time_zone}"
    start, end = days.get("startDate"), days.get("endDate")
    if start is not None and start < today:
        yield "$.startDate", f"must not be before today, which is {today} in {settings.time_zone}"
    if end is not None and end <= today:
        yield "$.endDate", f"must be tomorrow at the earliest; today is {today} in {settings.time_zone}"
    elif start is not None and end is not None and end < start:
        yield "$.endDate", "must not be before startDate"


def local_day(text: str) -> date | str:
    """Return the day of a local date, or what is wrong with it."""
    if _OFFSET.fullmatch(text):
        return "must be a local date and time, without Z or an offset, as in 2022-01-23T00:00:00"
    if _LOCAL.fullmatch(text):
        try:
            return datetime.fromisoformat(text[:19]).date()
        except ValueError:
            return "is a date that is not in the calendar"
    return "must be a local date and time, as in 2022-01-23T00:00:00"


def articles(body: Any) -> list[tuple[str, int]]:
    """Code and quantity of each, sorted: the same for the same articles in another order."""
    return sorted((one.scan_code, one.quantity_ordered) for one in body.articles)
