"""The hooks. A connector is a module that implements `describe`, at least one door, and `normalize`.

A source may use fewer doors than its connector has; which doors there are follows from the hooks that are implemented:
`verify` with `ingest` opens the webhook, `poll` starts a poller, `subscribe` with both of `poll` and `ingest` a listener.
`submit` is the way back.

pluggy passes arguments by name, so an implementation takes only what it uses. Every hook has exactly one answer per source.
I/O is async, thinking is not: an implementation has the colour of its specification. The pure hooks (`verify`, `ingest`,
`subscribe`, `normalize`) may not look at a clock, the network, a file or a log; what they need is an argument.
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
    """Say what the connector is and which settings it has.

    Pure. Called once when a source is built, and by `gateway plugins`. Required.

    Returns:
        The `Description`; its callables are given the decoded settings and are pure as well.
    """


@hookspec(firstresult=True)
def verify(envelope: Envelope, settings: Any, now: datetime, keys: Mapping[str, Any]) -> bool:  # type: ignore[empty-body]
    """Decide whether a webhook really comes from the vendor.

    Pure. Called once per request, before anything is parsed or stored. Compare secrets in constant time. Not implemented:
    the connector has no webhook door.

    Args:
        envelope: Raw body and headers; `envelope.header(name)` is None for a missing and for a doubled header.
        settings: The source's decoded settings.
        now: UTC, for schemes that sign a timestamp.
        keys: The public keys by `kid` that the core keeps from the description's `jwks_url`; empty without one. `WebhookAuth`
            knows what to do with them.
    Returns:
        True accepts. Anything else, an awaitable and an exception included, is a 401 without detail.
    Raises:
        UnknownKey: Signed with a key that is not among `keys`: they are fetched anew, unless that was done just now, and it
            is called once more.
    """


@hookspec(firstresult=True)
def ingest(envelope: Envelope, settings: Any) -> Sequence[Event | Unreadable]:  # type: ignore[empty-body]
    """Read a verified webhook, or what a hub has sent.

    Pure. Called once per verified request or call of the hub, before the commit; called again when its dead letter is
    replayed, then without headers. `envelope.door` says which of the two it is.

    Returns:
        The events in it, with a `sequence` or `as_of` where the vendor says how new they are; none means that there is nothing
            for us in it, and the sender hears 200. Of several, one that cannot be read is an `Unreadable`: a dead letter of
            its own, and the others go on.
    Raises:
        Rejected: Refused with a reason that the sender should read: 422, nothing stored.
        PermanentError, ValueError, RecursionError: It cannot be read: kept as a dead letter, answered with the
            `unreadable_status` of the description.
    """


@hookspec(firstresult=True)
async def poll(  # type: ignore[empty-body]
    cursor: str | None, since: datetime, now: datetime, open_orders: Sequence[OpenOrder], client: VendorClient, settings: Any
) -> Page:
    """Ask the vendor what there is, from the cursor on.

    Called on the source's schedule, one call at a time per source; at once again while `Page.more`. The page and its
    cursor are committed together; a page that was not committed is asked for again with the old cursor. Not
    implemented: the connector has no poll door.

    Args:
        cursor: The last committed page's cursor; None before the first.
        since: When this source was first started, UTC; stays the same for ever.
        now: UTC.
        open_orders: Taken by name where the vendor is asked order by order: up to 50 of the orders that `is_open` of the
            description calls open, oldest first. The hook is then called once for each 50, and not where there is none.
        client: The source's API client.
        settings: The source's decoded settings.
    Raises:
        TransientError: Try later; `retry_after_s` is honoured, up to the larger of an hour and three poll intervals.
        AuthError: The door is down until the credentials change.
        PermanentError: The answer makes no sense; the door is down, and tried again with a growing delay.
    """


@hookspec(firstresult=True)
def subscribe(settings: Any) -> Subscription:  # type: ignore[empty-body]
    """Say where the vendor's hub is and how to listen there.

    Pure. Called when the configuration is read and before every connection. A hub replays nothing, so every connection is
    followed by a round of `poll`: needs `poll`, and `ingest` for what arrives. Not implemented: the connector has no
    realtime door.

    Returns:
        The `Subscription`; connecting, listening, pinging and reconnecting are the core's.
    """


@hookspec(firstresult=True)
async def fetch(event: Event, client: VendorClient, settings: Any) -> bytes:  # type: ignore[empty-body]
    """Get the vendor's full order that `event` speaks about.

    Called by the prepare step for events with `fetch` or without a document, outside any transaction, once per attempt, for a few
    orders at the same time; may run twice for one event. Not implemented: every event carries its order.

    Args:
        event: As `ingest` or `poll` returned it, its document included, without its content.
    Returns:
        The body as received, undecoded; it is stored beside the event's own document and shown to operators.
    Raises:
        TransientError: Not there yet; `retry_after_s` and the description's `fetch_retry` are honoured.
        PermanentError: Will never be there; the row becomes a dead letter.
    """


@hookspec(firstresult=True)
def normalize(event: Event, document: bytes, previous: Order | None, settings: Any) -> Order:  # type: ignore[empty-body]
    """Make the canonical order of the vendor's document.

    Pure. Called by the prepare step, outside any transaction; called again, with the same answer, after a crash or a
    replay. Required.

    Args:
        event: As `ingest` or `poll` returned it, without its content; its document is there where `fetch` was called.
        document: The vendor's full order, from the event or from `fetch`.
        previous: What was made of this order last; None where nothing was, or its body has been erased.
        settings: The source's decoded settings.
    Returns:
        The order; `order_ref` and `revision` are the core's to fill.
    Raises:
        Hold: A person decides; give the order along, so that a release can send it.
        Ignore: Nothing goes out for this event: what it says is known, or is not for the ERP.
        PermanentError, ValueError: It cannot be made; the row becomes a dead letter.
    """


@hookspec(firstresult=True)
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Any) -> Collection[int]:  # type: ignore[empty-body]
    """Tell the vendor which events have reached a stage.

    Called with up to 100 receipts of one stage, outside any transaction; may be called twice for the same one. Not
    implemented: nothing is ever acknowledged.

    Returns:
        The ids of the receipts that the vendor confirmed; the others are tried again.
    Raises:
        TransientError, AuthError: None of them was confirmed; all are tried again.
        PermanentError: None of them will ever be; they become dead letters.
    """


@hookspec(firstresult=True)
async def submit(submission: Submission, client: VendorClient, settings: Any) -> Submitted:  # type: ignore[empty-body]
    """Say to the vendor what a caller has handed in.

    Called by the submit step for one of the description's `commands`, outside any transaction, once per attempt; that an
    attempt begins is on disk before. An attempt whose end nobody knows is not repeated before the command's `look_up` has said
    that nothing was done, unless the command is `repeatable`. Not implemented: nothing can be said to this vendor.

    Args:
        submission: The command, its body as the command's own Struct.
        client: The source's API client.
        settings: The source's decoded settings.
    Returns:
        The vendor's answer, and what follows from it.
    Raises:
        TransientError: With `undone`, surely nothing happened: again later. Otherwise it may have been done.
        AuthError: Nothing happened; again, until the credentials change.
        Hold: A person decides.
        PermanentError: The vendor refuses it, and nothing happened: a dead letter, whose reason the caller reads.
    """
