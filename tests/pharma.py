"""A small connector with commands, shaped as a pharmacy's: what it is told goes to `POST /orders` of its vendor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway import Api, Codes, Command, Description, Event, Order, Page, Submission, Submitted, Url, VendorClient, hookimpl

# Tests put functions here, to fail inside a hook. The name is the hook's.
faults: dict[str, Callable[..., Any]] = {}

_Text = Annotated[str, Meta(max_length=200)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: Url = Url("http://127.0.0.1:1")
    allow_plain_http: bool = False
    event_url: Url | None = None


class Person(Struct, frozen=True, kw_only=True):
    """Who collects it."""

    fullName: Annotated[str, Meta(min_length=1, max_length=100)]
    email: Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", max_length=100)] | None = None
    country: Literal["Deutschland", "Danmark"] | None = None


class Article(Struct, frozen=True, kw_only=True):
    scanCode: Annotated[str, Meta(min_length=1, max_length=40)]
    name: _Text = ""
    quantityOrdered: Annotated[int, Meta(ge=1, le=10_000)]


class RecurrentArticle(Article, frozen=True, kw_only=True):
    interval: Annotated[int, Meta(ge=1, le=99)]


class CreateOrder(Struct, frozen=True, kw_only=True):
    """An order that is collected once."""

    orderNumber: Annotated[str, Meta(min_length=1, max_length=50)]
    relatedNotes: _Text | None = None
    sendCustomerPickupMail: bool = False
    customerDetails: Person | None = None
    articles: Annotated[tuple[Article, ...], Meta(min_length=1, max_length=100)]


class CreateRecurrentOrder(CreateOrder, frozen=True, kw_only=True):
    """An order that is collected again and again."""

    articles: Annotated[tuple[RecurrentArticle, ...], Meta(min_length=1, max_length=100)]
    startDate: Annotated[datetime, Meta(tz=False)]
    endDate: Annotated[datetime, Meta(tz=False)]


class PublishEvent(Struct, frozen=True, kw_only=True):
    """Something that has happened to a claim."""

    event: str
    amount: float | None = None
    payload: dict[str, Any] = {}


def _dates(body: CreateRecurrentOrder, _: Settings, now: datetime) -> Iterator[tuple[str, str]]:
    if "check" in faults:
        faults["check"]()
    if body.startDate.date() < now.date():
        yield "$.startDate", "is before today"
    if body.endDate.date() <= max(now.date(), date(2000, 1, 1)):
        yield "$.endDate", "must be tomorrow at the earliest"


@hookimpl
def describe() -> Description:
    return Description(
        title="A pharmacy",
        settings=Settings,
        api=lambda s: Api(base_url=s.base_url),
        commands={
            "create_order": Command(title="Create an order", body=CreateOrder, subject=lambda body: str(body.orderNumber), unique=True),
            "create_recurrent_order": Command(
                title="Create a recurrent order",
                body=CreateRecurrentOrder,
                check=_dates,
                subject=lambda body: str(body.orderNumber),
                unique=True,
            ),
            "publish_event": Command(title="Publish an event", body=PublishEvent, needs=["event_url"], repeatable=lambda settings: True),
        },
    )


@hookimpl
async def poll(cursor: str | None) -> Page:
    return Page(cursor=cursor)


@hookimpl
def normalize(event: Event, document: bytes) -> Order:
    return Order(order_number=event.order_ref, currency="EUR", lines=())


@hookimpl
async def submit(submission: Submission, client: VendorClient) -> Submitted:
    if "submit" in faults:
        await faults["submit"](submission)
    answer = await client.request("POST", f"/{submission.command}", json=msgspec.to_builtins(submission.body))
    codes = None
    if submission.command != "publish_event":
        codes = Codes(number=submission.body.orderNumber, pickup="customer_" + 32 * "A", storage="pickup_" + 32 * "B")
    return Submitted(answer=answer.body, codes=codes)
