"""A small connector for the tests of the core: every hook, and faults on demand."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway import Api, Description, Envelope, Event, Line, Order, Page, Receipt, Rejected, Secret, Url, VendorClient, decimal, hookimpl

# Tests put functions here, to fail inside a hook. The name is the hook's.
faults: dict[str, Callable[..., Any]] = {}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secret: Secret | None = None
    base_url: Url = Url("http://127.0.0.1:1")
    allow_plain_http: bool = False
    poll_interval_s: Annotated[float, Meta(gt=0)] = 300.0
    acknowledge: tuple[str, ...] = ()
    polls: bool = False


class Wire(Struct):
    id: str
    qty: int = 1
    price: str = "1.50"


class Waiting(Struct):
    orders: list[str]
    next: int


@hookimpl
def describe() -> Description:
    return Description(
        title="Acme test vendor",
        settings=Settings,
        needs={"webhook": ["secret"]},
        api=lambda s: Api(base_url=s.base_url),
        acknowledge=lambda s: s.acknowledge,
        poll_interval_s=lambda s: s.poll_interval_s,
    )


@hookimpl
def verify(envelope: Envelope, settings: Settings) -> bool:
    if "verify" in faults:
        return faults["verify"]()
    assert settings.secret is not None
    return hmac.compare_digest(sign(settings.secret.reveal(), envelope.body), envelope.header("X-Acme-Signature") or "")


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    if "ingest" in faults:
        faults["ingest"]()
    return [event(envelope.body)]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    if "poll" in faults:
        return await faults["poll"](cursor=cursor, since=since, now=now, client=client)
    if not settings.polls:
        return Page(cursor=cursor)
    answer = await client.request("GET", "/orders", params={"after": cursor or "0"})
    page = answer.decode(Waiting)
    return Page(events=[event(body(ref)) for ref in page.orders], cursor=str(page.next), more=bool(page.orders))


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    if "normalize" in faults:
        faults["normalize"]()
    wire = msgspec.json.decode(document, type=Wire)
    line = Line(line_number=1, article_number="A-1", quantity=decimal(wire.qty), unit_price=decimal(wire.price))
    return Order(order_number=wire.id, currency="EUR", total=decimal(wire.price) * wire.qty, lines=(line,))


@hookimpl
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    if "acknowledge" in faults:
        return await faults["acknowledge"](receipts)
    answer = await client.request("POST", "/marks", json=[[r.reference, r.stage] for r in receipts])
    confirmed = answer.decode(list[str])
    return [r.id for r in receipts if r.reference in confirmed]


def event(document: bytes) -> Event:
    wire = msgspec.json.decode(document, type=Wire)
    if wire.qty == 0:
        raise Rejected("an order of nothing")
    return Event(
        key=wire.id,
        order_ref=wire.id,
        document=document,
        content=msgspec.json.encode(wire),
        occurred_at=datetime(2024, 3, 31, 12, tzinfo=UTC),
    )


def sign(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


def body(id: str, qty: int = 1, price: str = "1.50") -> bytes:
    return msgspec.json.encode({"id": id, "qty": qty, "price": price})
