"""Connector for Scalepoint ClaimShop: an event announces an order, which is then fetched. See README.md and vendors/scalepoint.md.

Events come by webhook, by long polling, or both; a repeated event counts once. Another event of a known order fetches the order again
and compares it. The vendor does not publish the order's fields: the operator's mapping makes the canonical order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from gateway import (
    Description,
    Envelope,
    Event,
    Order,
    Page,
    PermanentError,
    Submission,
    Submitted,
    TransientError,
    Unreadable,
    VendorClient,
    hookimpl,
    without_input,
)
from gateway_scalepoint import longpoll, orders, publish
from gateway_scalepoint.events import event as to_event
from gateway_scalepoint.events import read, unwrapped
from gateway_scalepoint.settings import Settings


@hookimpl
def describe() -> Description:
    """Describe webhook and poll. An unreadable webhook gets a 200, because a 4xx might end the subscription."""
    signs_in = ["token_url", "client_id"]
    return Description(
        title="Scalepoint ClaimShop",
        settings=Settings,
        needs={"webhook": ["webhook_auth", *signs_in], "poll": ["receive_url", "start", *signs_in]},
        opened_by={"poll": "receive_url"},
        api=lambda settings: settings.api(),
        poll_interval_s=lambda settings: float(settings.poll_interval_s),
        unreadable_status=200,
        max_body_bytes=lambda settings: int(settings.max_body_bytes),
        jwks_url=lambda settings: settings.webhook_auth.jwks if settings.webhook_auth else None,
        fetch_retry=lambda settings: settings.fetch_retry(),
        compares_fetched=True,
        commands={"publish_event": publish.COMMAND},
    )


@hookimpl
def verify(envelope: Envelope, settings: Settings, now: datetime, keys: Mapping[str, Any]) -> bool:
    """Verify a webhook in the way agreed with Scalepoint, which does not sign bodies."""
    return settings.webhook_auth is not None and settings.webhook_auth.admits(envelope, now, keys)


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event | Unreadable]:
    """Read the documented single event, or the wrapper of a long-poll answer."""
    found = list(unwrapped(envelope.body))
    if len(found) > 1:
        return [longpoll.read_element(element, settings, type=kind) for element, kind in found]
    return [to_event(document, settings, type=kind) for document, kind in found]


@hookimpl
async def poll(cursor: str | None, client: VendorClient, settings: Settings) -> Page:
    """Make one long-poll call (see `longpoll`). A call without news is no failure."""
    return await longpoll.page(cursor, client, settings)


@hookimpl
async def fetch(event: Event, client: VendorClient, settings: Settings) -> bytes:
    """Fetch the order by the event's token, in the event's spelling."""
    if event.document is None:
        raise PermanentError("the event was deleted, and with it the order's token")
    token = read(event.document, type="unsaid").token or event.order_ref
    url = settings.order_url.replace("{orderToken}", quote(token, safe=""))
    answer = await client.request("GET", url, accept=(404,))
    if answer.status == 404:
        raise TransientError("Scalepoint does not have the order yet (404)")
    try:
        found = orders.found(answer.body, settings.order_at)
    except ValueError as error:  # a maintenance page, or a truncated answer
        raise TransientError(f"Scalepoint's answer holds no order: {without_input(error)}") from error
    if not found:
        raise TransientError("Scalepoint does not have the order yet (its answer is empty)")
    if len(found) > 1:
        raise orders.too_many(found)
    return answer.body


@hookimpl
def normalize(event: Event, document: bytes, previous: Order | None, settings: Settings) -> Order:
    """Make the canonical order by the operator's mapping, with the claim that the event names."""
    return orders.canonical(event, document, previous, settings)


@hookimpl
async def submit(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    """Publish an event in the form that the operator agreed with Scalepoint."""
    return await publish.submit(submission, client, settings)
