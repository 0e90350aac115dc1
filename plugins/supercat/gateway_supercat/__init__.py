"""SuperCat eCat: orders by poll, marked as received. See README.md and vendors/supercat.md.

Each poll brings every order that has not been marked, for all time; so an order is stored before it is marked, and what comes
again is a repeat. The order's fields are not public: a mapping of the operator's makes the canonical order.
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
    """One door, the poll."""
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
    """A dead letter of a poll, replayed: one record."""
    return [to_event(read(envelope.body), envelope.body, settings)]


@hookimpl
async def poll(cursor: str | None, now: datetime, client: VendorClient, settings: Settings) -> Page:
    """Everything that is not marked, in one answer, without pages or a filter; the cursor says that there was a poll before."""
    if settings.is_quiet(now):
        return Page(cursor=cursor)
    answer = await call(client, "GET", settings.list_at(), settings)
    if len(answer.body) > _BIG_BYTES:  # the first one may hold years of orders
        events = await asyncio.to_thread(_events, answer.body, settings, cursor is None)
    else:
        events = _events(answer.body, settings, cursor is None)
    return Page(events=events, cursor=_POLLED)


@hookimpl
def normalize(event: Event, document: bytes, previous: Order | None, settings: Settings) -> Order:
    """The canonical order; Hold where a version cannot be placed (see `versions`)."""
    record = read(document)
    number = versions.taken_apart(record.number, settings)
    order = to_order(record, number, settings, versions.flags(number, previous))
    versions.hold_back(record, number, order, previous)
    return order


@hookimpl
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    """Mark as received."""
    return await marks.mark(receipts, client, settings)


def _events(body: bytes, settings: Settings, is_first: bool) -> list[Event | Unreadable]:
    """Oldest first, so that the versions of an order go one after the other (`id` is assigned in sequence, seed)."""
    by_id = sorted((found(document, settings, is_first=is_first) for document in records(body)), key=lambda one: one[0])
    return [one for _, one in by_id]


def _api(settings: Settings) -> Api:
    """HTTP Basic with an admin's account, in a header only: never in an address, which ends in logs."""
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
