"""Hook specifications. A connector is a module that implements `describe`, `normalize`, and the hooks of at least one door.

The implemented hooks decide which doors there are: `verify` with `ingest` opens the webhook, `poll` starts a poller, `subscribe` with
`poll` and `ingest` starts a listener. A source may use fewer. `submit` sends commands to the vendor.

pluggy passes arguments by name, so an implementation names only those that it uses. Each hook has one implementation per source. Implement
a hook as `async def` exactly where its specification is `async def`. The pure hooks (`verify`, `ingest`, `subscribe`, `normalize`) use no
clock, network, file or log; what they need comes as an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import pluggy

from gateway.api.commands import Submission, Submitted
from gateway.api.description import Description
from gateway.api.messages import Envelope, Event, OpenOrder, Page, Receipt, Unreadable
from gateway.api.order import Order
from gateway.api.subscription import Subscription
from gateway.api.vendor_client import VendorClient

PROJECT = "order-gateway"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def describe() -> Description:  # type: ignore[empty-body]
    """Describe the connector: its title, settings, API and commands.

    Pure. Called once when a source is built, and by `gateway plugins`. Required.

    Returns:
        The `Description`; its callables are pure as well.
    """


@hookspec(firstresult=True)
def verify(envelope: Envelope, settings: Any, now: datetime, keys: Mapping[str, Any]) -> bool:  # type: ignore[empty-body]
    """Check that a webhook comes from the vendor.

    Pure. Called once per request, before anything is parsed or stored. Compare secrets in constant time. Not implemented:
    the connector has no webhook door.

    Args:
        envelope: Raw body and headers; `envelope.header(name)` is None for a header that is missing or came twice.
        settings: The source's decoded settings.
        now: UTC, for schemes that sign a timestamp.
        keys: The public keys by `kid` from the description's `jwks_url`; empty without one. `WebhookAuth` uses them.
    Returns:
        True accepts. Anything else, including an awaitable or an exception, is a 401 without detail.
    Raises:
        UnknownKey: The signing key is not among `keys`: the core fetches them again, unless it has just done so, and calls once more.
    """


@hookspec(firstresult=True)
def ingest(envelope: Envelope, settings: Any) -> Sequence[Event | Unreadable]:  # type: ignore[empty-body]
    """Read the events of a verified webhook or of a hub's call.

    Pure. Called once per verified request or call of the hub, before the commit; called again, without headers, when its dead letter
    is replayed. `envelope.door` says which of the two it is.

    Returns:
        The events, with a `sequence` or `as_of` if the vendor says how new they are. None at all: nothing is stored, and the sender gets
            a 200. One of several that cannot be read is an `Unreadable`: it becomes a dead letter, and the others go on.
    Raises:
        Rejected: Refused with a reason for the sender: 422, nothing stored.
        PermanentError, ValueError, RecursionError: It cannot be read: kept as a dead letter, answered with the
            `unreadable_status` of the description.
    """


@hookspec(firstresult=True)
async def poll(  # type: ignore[empty-body]
    cursor: str | None, since: datetime, now: datetime, open_orders: Sequence[OpenOrder], client: VendorClient, settings: Any
) -> Page:
    """Get the next page of events from the vendor.

    Called on the source's schedule, one call at a time per source; again at once while `Page.more`. The page and its cursor are
    committed together; if the commit fails, the next call has the old cursor. Not implemented: the connector has no poll door.

    Args:
        cursor: The last committed page's cursor; None before the first.
        since: Time of this source's first start, UTC; it never changes.
        now: UTC.
        open_orders: For vendors that are polled order by order: up to 50 of the orders that the description's `is_open` accepts,
            oldest first. A hook that names it is called once for each 50, and not at all if there is none.
        client: The source's API client.
        settings: The source's decoded settings.
    Raises:
        TransientError: Polled later; `retry_after_s` is honoured, up to the larger of an hour and three poll intervals.
        AuthError: The door is down until the credentials change.
        PermanentError: The answer is unusable; the door is down, and is tried again with a growing delay.
    """


@hookspec(firstresult=True)
def subscribe(settings: Any) -> Subscription:  # type: ignore[empty-body]
    """Return the address of the vendor's hub, and how to listen there.

    Pure. Called when the configuration is read and before every connection. Needs `ingest` for the hub's calls, and `poll`: a hub
    replays nothing, so a round of `poll` follows every connection. Not implemented: the connector has no realtime door.

    Returns:
        The `Subscription`; the core connects, listens, pings and reconnects.
    """


@hookspec(firstresult=True)
async def fetch(event: Event, client: VendorClient, settings: Any) -> bytes:  # type: ignore[empty-body]
    """Get the vendor's full order for an event.

    Called by the prepare step for events with `fetch` or without a document, outside any transaction, once per attempt, for a few
    orders at the same time; may run twice for one event. Not implemented: every event carries its order.

    Args:
        event: As `ingest` or `poll` returned it, its document included, without its content.
    Returns:
        The body as received, undecoded; it is stored beside the event's own document and shown to operators.
    Raises:
        TransientError: The vendor does not have it yet; `retry_after_s` and the description's `fetch_retry` are honoured.
        PermanentError: The vendor will never have it; the row becomes a dead letter.
    """


@hookspec(firstresult=True)
def normalize(event: Event, document: bytes, previous: Order | None, settings: Any) -> Order:  # type: ignore[empty-body]
    """Make the canonical order from the vendor's document.

    Pure. Called by the prepare step, outside any transaction; called again after a crash or a replay, and must then return the same.
    Required.

    Args:
        event: As `ingest` or `poll` returned it, without its content, and with its document only if `fetch` was called.
        document: The vendor's full order, from the event or from `fetch`.
        previous: The order's newest version so far; None if there is none, or its body has been erased.
        settings: The source's decoded settings.
    Returns:
        The order; the core fills in `order_ref` and `revision`.
    Raises:
        Hold: A person must decide; pass the order, so that a release can send it.
        Ignore: Nothing is sent for this event: it brings nothing new, or nothing for the ERP.
        PermanentError, ValueError: The document makes no order; the row becomes a dead letter.
    """


@hookspec(firstresult=True)
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Any) -> Collection[int]:  # type: ignore[empty-body]
    """Tell the vendor which events have reached a stage.

    Called with up to 100 receipts of one stage, outside any transaction; may be called twice for one receipt. Not implemented:
    nothing is acknowledged.

    Returns:
        The ids of the receipts that the vendor confirmed; the others are tried again.
    Raises:
        TransientError, AuthError: The vendor confirmed none; all are tried again.
        PermanentError: The vendor will never confirm any; they become dead letters.
    """


@hookspec(firstresult=True)
async def submit(submission: Submission, client: VendorClient, settings: Any) -> Submitted:  # type: ignore[empty-body]
    """Send a caller's command to the vendor.

    Called by the submit step for one of the description's `commands`, outside any transaction, once per attempt, after the start of
    the attempt is on disk. After an attempt in doubt it is called again only if the command's `look_up` finds that nothing was done,
    or the command is `repeatable`. Not implemented: the vendor takes no commands.

    Args:
        submission: The command; its body is the command's own Struct.
        client: The source's API client.
        settings: The source's decoded settings.
    Returns:
        The vendor's answer, with its codes and events.
    Raises:
        TransientError: With `undone`, the vendor certainly did nothing: tried again later. Without, the attempt is in doubt.
        AuthError: The vendor did nothing; tried again later, until the credentials work.
        Hold: A person must decide.
        PermanentError: The vendor refuses it and did nothing: a dead letter, whose reason the caller reads.
    """
