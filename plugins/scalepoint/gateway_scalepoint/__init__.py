"""Scalepoint ClaimShop: an event says that there is an order, the order is fetched. See README.md and vendors/scalepoint.md.

Events come by webhook, by long polling, or both; an event that comes twice is one, and another event of a known order fetches
the order again and compares. What the order's fields mean is in the operator's mapping, since the vendor publishes none.
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
    """Webhook and poll; an unreadable webhook is a 200, since a 4xx might end the subscription."""
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
    """As agreed with Scalepoint; bodies are not signed."""
    return settings.webhook_auth is not None and settings.webhook_auth.admits(envelope, now, keys)


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event | Unreadable]:
    """One event per request, as documented; the wrapper of long polling is understood as well."""
    found = list(unwrapped(envelope.body))
    if len(found) > 1:
        return [longpoll.read_element(element, settings, type=kind) for element, kind in found]
    return [to_event(document, settings, type=kind) for document, kind in found]


@hookimpl
async def poll(cursor: str | None, client: VendorClient, settings: Settings) -> Page:
    """One held call (see `longpoll`); no news is no failure."""
    return await longpoll.page(cursor, client, settings)


@hookimpl
async def fetch(event: Event, client: VendorClient, settings: Settings) -> bytes:
    """The order by the token that the event names, spelt as the event spells it."""
    if event.document is None:
        raise PermanentError("the event is no longer there, and with it the order's token")
    token = read(event.document, type="unsaid").token or event.order_ref
    url = settings.order_url.replace("{orderToken}", quote(token, safe=""))
    answer = await client.request("GET", url, accept=(404,))
    if answer.status == 404:
        raise TransientError("Scalepoint does not have the order yet (404)")
    try:
        found = orders.found(answer.body, settings.order_at)
    except ValueError as error:  # a maintenance page, an answer that breaks off
        raise TransientError(f"Scalepoint's answer holds no order: {without_input(error)}") from error
    if not found:
        raise TransientError("Scalepoint does not have the order yet (its answer is empty)")
    if len(found) > 1:
        raise orders.too_many(found)
    return answer.body


@hookimpl
def normalize(event: Event, document: bytes, previous: Order | None, settings: Settings) -> Order:
    """The canonical order, by the operator's mapping, with the claim that its event names."""
    return orders.canonical(event, document, previous, settings)


@hookimpl
async def submit(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    """Publish an event, in the form that the operator has agreed with Scalepoint."""
    return await publish.submit(submission, client, settings)
