"""A connector whose documents are canonical orders already: what a test posts is what the target gets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from gateway import Description, Envelope, Event, Order, hookimpl


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


@hookimpl
def describe() -> Description:
    return Description(title="Canonical orders", settings=Settings)


@hookimpl
def verify(envelope: Envelope, settings: Settings) -> bool:
    return envelope.header("X-Test") == "yes"


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    order = msgspec.json.decode(envelope.body, type=Order)
    return [Event(key=f"{order.order_ref}-{order.revision}", order_ref=order.order_ref, document=envelope.body, content=envelope.body)]


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    return msgspec.structs.replace(msgspec.json.decode(document, type=Order), order_ref="", revision=1)
