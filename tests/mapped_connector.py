"""A connector for tests whose vendor publishes no fields: an envelope around one order, and a mapping for what is inside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from gateway import Description, Hold, Ignore, Mapping, Order, Page, PermanentError, hookimpl, read_json


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mapping: Mapping
    currency: str = "EUR"


@hookimpl
def describe() -> Description:
    return Description(title="A vendor without fields", settings=Settings)


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: Any, settings: Settings) -> Page:
    return Page(cursor=cursor)


@hookimpl
def normalize(document: bytes, settings: Settings) -> Order:
    inside = read_json(document)["data"]
    order = settings.mapping.order(inside, currency=settings.currency)
    if order.status == "picked_up":
        raise Ignore("picked up long ago")
    if "older" in order.flags:
        raise Hold("older than what was sent", order=order)
    if "unknown" in order.flags:
        raise Hold("nobody knows this customer")
    if "wrapped" in order.flags:
        try:
            settings.mapping.order({"total": 1.5})
        except ValueError as error:
            raise PermanentError("the second order cannot be read") from error
    return order
