"""A small connector with a hub, for the tests of the realtime door. The vendor pushes `OrderChanged(id, quantity)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from gateway import (
    Api,
    BearerAuth,
    Description,
    Envelope,
    Event,
    HeaderAuth,
    Line,
    Order,
    Page,
    QueryAuth,
    Reconnect,
    Rejected,
    Secret,
    Subscription,
    Url,
    VendorClient,
    decimal,
    hookimpl,
)

# Tests put functions here, to fail inside a hook. The name is the hook's.
faults: dict[str, Callable[..., Any]] = {}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hub_url: Url | None = None
    allow_plain_http: bool = False
    key: Secret | None = None
    key_in: str = "header:x-api-key"
    reconnect: Reconnect = Reconnect(base_s=0.05, factor=2, cap_s=0.2)
    keep_alive_s: float = 0.2
    server_timeout_s: float = 1.0
    connect_timeout_s: float = 1.0
    max_message_bytes: int = 1024 * 1024
    negotiate: bool = True
    poll_interval_s: float = 300.0


class Call(Struct):
    target: str
    arguments: tuple[str, int]


@hookimpl
def describe() -> Description:
    return Description(
        title="Hubby test vendor",
        settings=Settings,
        needs={"realtime": ["hub_url"]},
        api=lambda s: Api(base_url="http://127.0.0.1:1"),
        poll_interval_s=lambda s: s.poll_interval_s,
    )


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    if "ingest" in faults:
        return faults["ingest"](envelope)
    call = msgspec.json.decode(envelope.body, type=Call)
    if call.target != "OrderChanged":
        raise ValueError("another target")
    id, quantity = call.arguments
    if quantity == 0:
        raise Rejected("an order of nothing")
    return [event(id, quantity)]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    if "poll" in faults:
        return await faults["poll"](cursor)
    return Page(cursor=cursor)


@hookimpl
def subscribe(settings: Settings) -> Subscription:
    if "subscribe" in faults:
        return faults["subscribe"](settings)
    assert settings.hub_url is not None
    return Subscription(
        url=settings.hub_url,
        auth=_auth(settings),
        targets={"OrderChange": "OrderChanged", "OrderChanged": "OrderChanged"},
        reconnect=settings.reconnect,
        keep_alive_s=settings.keep_alive_s,
        server_timeout_s=settings.server_timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        max_message_bytes=settings.max_message_bytes,
        negotiate=settings.negotiate,
    )


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    id, quantity = msgspec.json.decode(document, type=tuple[str, int])
    return Order(order_number=id, currency="EUR", lines=(Line(line_number=1, article_number="A-1", quantity=decimal(quantity)),))


def event(id: str, quantity: int = 1) -> Event:
    """The same event, whichever door it comes through."""
    return Event(key=f"{id}-{quantity}", order_ref=id, document=msgspec.json.encode((id, quantity)))


def _auth(settings: Settings) -> HeaderAuth | QueryAuth | BearerAuth | None:
    where, _, name = settings.key_in.partition(":")
    if settings.key is None:
        return None
    if where == "bearer":
        return BearerAuth(token=settings.key)
    return HeaderAuth(name=name, value=settings.key) if where == "header" else QueryAuth(name=name, value=settings.key)
