"""A connector with every door and every call, for the network's faults: thin webhooks, a poll, pushes, a fetch, marks.

An order is `acme`'s. Every event says which version it is about, and the order itself is fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gateway import Api, Description, Envelope, Event, Order, Page, Receipt, Reconnect, Secret, Subscription, Url, VendorClient, hookimpl
from tests import acme

_TIMEOUT_S = 1.0


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: Url
    secret: Secret | None = None
    hub_url: Url | None = None
    poll_interval_s: Annotated[float, Meta(gt=0)] = 0.2


class Feed(Struct):
    orders: list[str]
    next: int


class Push(Struct):
    target: str
    arguments: tuple[str]


@hookimpl
def describe() -> Description:
    return Description(
        title="Every way",
        settings=Settings,
        needs={"webhook": ["secret"], "realtime": ["hub_url"]},
        api=lambda s: Api(base_url=s.base_url, timeout_s=_TIMEOUT_S),
        acknowledge=lambda s: ["delivered"],
        poll_interval_s=lambda s: s.poll_interval_s,
    )


@hookimpl
def verify(envelope: Envelope, settings: Settings) -> bool:
    assert settings.secret is not None
    return acme.sign(settings.secret.reveal(), envelope.body) == envelope.header("X-Acme-Signature")


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    if envelope.door == "realtime":
        (ref,) = msgspec.json.decode(envelope.body, type=Push).arguments
        return [thin(acme.body(ref))]
    return [thin(envelope.body)]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    answer = await client.request("GET", "/feed", params={"after": cursor or "0", "hub": "1" if settings.hub_url else "0"})
    feed = answer.decode(Feed)
    return Page(events=[thin(acme.body(ref)) for ref in feed.orders], cursor=str(feed.next), more=bool(feed.orders))


@hookimpl
def subscribe(settings: Settings) -> Subscription:
    assert settings.hub_url is not None
    return Subscription(
        url=settings.hub_url,
        targets={"Order": "Order"},
        reconnect=Reconnect(base_s=0.05, cap_s=0.2),
        keep_alive_s=0.2,
        server_timeout_s=1.5,
        connect_timeout_s=2.0,
    )


@hookimpl
async def fetch(event: Event, client: VendorClient, settings: Settings) -> bytes:
    assert event.document is not None
    wire = msgspec.json.decode(event.document, type=acme.Wire)
    return (await client.request("GET", f"/documents/{wire.id}/{wire.qty}")).body


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    return acme.normalize(event, document, acme.Settings())


@hookimpl
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    confirmed = (await client.request("POST", "/marks", json=[one.reference for one in receipts])).decode(list[str])
    return [one.id for one in receipts if one.reference in confirmed]


def thin(document: bytes) -> Event:
    event = acme.event(document)
    wire = msgspec.json.decode(document, type=acme.Wire)
    return msgspec.structs.replace(event, fetch=True, reference=f"{wire.id}@{wire.qty}")
