"""Connector for SuperCat eCat: polls orders and marks them as received. See README.md and vendors/supercat.md.

Each poll returns every order that was never marked. So an order is stored before it is marked, and a second copy is a repeat. The
vendor does not publish the order's fields: the operator's mapping makes the canonical order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime

from gateway import Api, BasicAuth, Description, Envelope, Event, Order, Page, Receipt, Unreadable, VendorClient, hookimpl
from gateway_supercat import marks, versions
from gateway_supercat.answer import call, records
from gateway_supercat.order import to_order
from gateway_supercat.record import event as to_event
from gateway_supercat.record import found, read
from gateway_supercat.settings import Settings

_BIG_BYTES = 256 * 1024
_POLLED = "polled"


@hookimpl
def describe() -> Description:
    """Describe a connector with one door, the poll."""
    return Description(
        title="SuperCat eCat",
        settings=Settings,
        needs={"poll": ["org", "username", "password", "start", "mapping"]},
        api=_api,
        acknowledge=marks.stages,
        poll_interval_s=lambda settings: float(settings.poll_interval_s),
    )


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    """Read one record: a replayed dead letter of a poll."""
    return [to_event(read(envelope.body), envelope.body, settings)]


@hookimpl
async def poll(cursor: str | None, now: datetime, client: VendorClient, settings: Settings) -> Page:
    """Get every unmarked order: the API has no pages and no filter. The cursor tells later polls from the first one."""
    if settings.is_quiet(now):
        return Page(cursor=cursor)
    answer = await call(client, "GET", settings.list_at(), settings)
    if len(answer.body) > _BIG_BYTES:  # the first answer may hold years of orders
        events = await asyncio.to_thread(_events, answer.body, settings, cursor is None)
    else:
        events = _events(answer.body, settings, cursor is None)
    return Page(events=events, cursor=_POLLED)


@hookimpl
def normalize(event: Event, document: bytes, previous: Order | None, settings: Settings) -> Order:
    """Make the canonical order. Raises Hold if its earlier version is not known (see `versions`)."""
    record = read(document)
    number = versions.split_number(record.number, settings)
    order = to_order(record, number, settings, versions.flags(number, previous))
    versions.hold_back(record, number, order, previous)
    return order


@hookimpl
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    """Mark orders as received."""
    return await marks.mark(receipts, client, settings)


def _events(body: bytes, settings: Settings, is_first: bool) -> list[Event | Unreadable]:
    """Return events, oldest first, so that the versions of an order keep their sequence (`id` counts up, seed)."""
    by_id = sorted((found(document, settings, is_first=is_first) for document in records(body)), key=lambda one: one[0])
    return [one for _, one in by_id]


def _api(settings: Settings) -> Api:
    """Return the API with HTTP Basic sign-in in a header. An address with credentials would end in logs."""
    auth = None
    if settings.username and settings.password:
        auth = BasicAuth(username=settings.username, password=settings.password)
    return Api(
        base_url=settings.base_url,
        auth=auth,
        timeout_s=settings.read_timeout_s,
        max_response_bytes=settings.max_response_bytes,
        stop_after_auth_failures=settings.stop_after_auth_failures,
    )
