"""A connector whose vendor says everything itself: an event's key, the order's reference, its number and its sequence, each as it likes.

With `listed` it also has a list that is asked page by page, and serves what the vendor put there, however old.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gateway import Api, Description, Envelope, Event, Line, Order, Page, Secret, Url, VendorClient, decimal, hookimpl
from tests import acme


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secret: Secret
    base_url: Url = Url("http://127.0.0.1:1")
    listed: bool = False
    poll_interval_s: Annotated[float, Meta(gt=0)] = 0.2


class Wire(Struct, omit_defaults=True):
    key: str
    ref: str
    number: str = ""
    qty: int = 1
    sequence: int | None = None


class Listed(Struct):
    orders: list[Wire]
    next: int


def body(wire: Wire) -> bytes:
    return msgspec.json.encode(wire)


def headers(secret: str, sent: bytes) -> dict[str, str]:
    return {"X-Acme-Signature": acme.sign(secret, sent)}


@hookimpl
def describe() -> Description:
    return Description(
        title="Namesakes", settings=Settings, api=lambda s: Api(base_url=s.base_url), poll_interval_s=lambda s: s.poll_interval_s
    )


@hookimpl
def verify(envelope: Envelope, settings: Settings) -> bool:
    return hmac.compare_digest(acme.sign(settings.secret.reveal(), envelope.body), envelope.header("X-Acme-Signature") or "")


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    return [_event(msgspec.json.decode(envelope.body, type=Wire))]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    if not settings.listed:
        return Page(cursor=cursor)
    page = (await client.request("GET", "/list", params={"after": cursor or "0"})).decode(Listed)
    return Page(events=[_event(wire) for wire in page.orders], cursor=str(page.next), more=bool(page.orders))


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    wire = msgspec.json.decode(document, type=Wire)
    line = Line(line_number=1, article_number="A-1", quantity=decimal(wire.qty), unit_price=decimal("1.50"))
    return Order(order_number=wire.number or wire.ref, currency="EUR", lines=(line,))


def _event(wire: Wire) -> Event:
    return Event(key=wire.key, order_ref=wire.ref, document=body(wire), content=b"%d" % wire.qty, sequence=wire.sequence)
