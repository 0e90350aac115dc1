"""BD Rowa Pickup Cloud: states pushed over SignalR, orders fetched over REST. See README.md and vendors/pickup_cloud.md.

The hub tells of orders that were created with the same API key, names no lines and replays nothing. So every notification
brings a fetch of its order, and every connection, like every quarter of an hour, a question after each order that may still
change.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway import (
    BearerAuth,
    Description,
    Envelope,
    Event,
    FetchRetry,
    HeaderAuth,
    Ignore,
    OpenOrder,
    Order,
    Page,
    QueryAuth,
    Submission,
    Submitted,
    Subscription,
    VendorClient,
    hookimpl,
)
from gateway_pickup_cloud import commands, rest
from gateway_pickup_cloud.created import read_created, to_created_order
from gateway_pickup_cloud.events import answered_changes, pushed, pushed_change
from gateway_pickup_cloud.mapping import to_order
from gateway_pickup_cloud.push import Push, read_push
from gateway_pickup_cloud.settings import KeyIn, Settings
from gateway_pickup_cloud.state import Change, advance, is_open, recall
from gateway_pickup_cloud.wire import read_order, status


@hookimpl
def describe() -> Description:
    """Realtime and, for what it hid, poll."""
    return Description(
        title="BD Rowa Pickup Cloud",
        settings=Settings,
        needs={"realtime": ["hub_url"]},
        api=rest.api,
        poll_interval_s=lambda settings: float(settings.resync_interval_s),
        fetch_retry=lambda settings: FetchRetry(schedule_s=settings.fetch_retry_s, give_up_s=settings.fetch_give_up_s),
        is_open=is_open,
        commands=commands.commands(),
    )


@hookimpl
def subscribe(settings: Settings) -> Subscription:
    """Describe the hub; its address and its place for the key are not published, so both are settings."""
    assert settings.hub_url is not None
    return Subscription(
        url=settings.hub_url,
        auth=_hub_auth(settings),
        targets=settings.targets.names(),
        reconnect=settings.reconnect,
        keep_alive_s=settings.keep_alive_s,
        server_timeout_s=settings.server_timeout_s,
        negotiate=settings.negotiate,
    )


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    """Read a notification."""
    return [pushed(envelope.body, envelope.received_at, settings.zone())]


@hookimpl
async def poll(open_orders: Sequence[OpenOrder], client: VendorClient, settings: Settings) -> Page:
    """Ask after each order that may still change; what it says that we did not know is an event."""
    return Page(events=[event async for event in rest.resync(open_orders, client, settings)])


@hookimpl
async def fetch(event: Event, client: VendorClient, settings: Settings) -> bytes:
    """Fetch the order by its number."""
    return await rest.order(event.order_ref, client, settings)


@hookimpl
def normalize(event: Event, document: bytes, previous: Order | None, settings: Settings) -> Order:
    """Make the order from a notification and the fetched order, or from the answer of a resync or a creation."""
    if (created := read_created(document)) is not None:
        return to_created_order(*created, previous, settings)
    zone, order, before = settings.zone(), read_order(document), recall(previous)
    changes = list(answered_changes(order, zone)) if event.document is None else [_said(event.document, settings)]
    now, news, against = advance(before, changes, shown=status(order.state))
    if not news:
        raise Ignore("; ".join(dict.fromkeys(against)) or "it says nothing of a state")
    return to_order(order, previous, before, now, settings)


@hookimpl
async def submit(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    """Create an order, or ask for one."""
    return await commands.submit(submission, client, settings)


def _said(body: bytes, settings: Settings) -> Change:
    push = read_push(body)
    change = pushed_change(push, settings.zone()) if isinstance(push, Push) else None
    if change is None:
        raise ValueError("a notification that is none any more: the settings or the connector have changed")
    return change


def _hub_auth(settings: Settings) -> HeaderAuth | QueryAuth | BearerAuth:
    where = settings.api_key_in
    if isinstance(where, KeyIn) and where.header is not None:
        return HeaderAuth(name=where.header, value=settings.api_key)
    if isinstance(where, KeyIn) and where.query is not None:
        return QueryAuth(name=where.query, value=settings.api_key)
    return BearerAuth(token=settings.api_key)
