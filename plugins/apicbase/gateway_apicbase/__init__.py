"""Apicbase: signed webhooks, the supplier's order list, and marks. See README.md and vendors/apicbase.md.

An order is posted at the moment a customer presses send, once; any answer but a 2xx is an error to the customer. The list
has the same orders, so a slow poll sweeps up what the webhook lost, and one order that comes through both doors is one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from gateway import (
    Api,
    Description,
    Envelope,
    Event,
    Hold,
    OAuth2,
    Order,
    Page,
    Receipt,
    Rejected,
    VendorClient,
    hookimpl,
)
from gateway_apicbase import mapping, marks, paging
from gateway_apicbase.event import event as to_event
from gateway_apicbase.listing import NOTHING, read_listing
from gateway_apicbase.rules import refusal
from gateway_apicbase.settings import Settings
from gateway_apicbase.signature import is_genuine
from gateway_apicbase.wire import read


@hookimpl
def describe() -> Description:
    """Webhook and poll; an unreadable webhook is a 400, since the customer must know that the order was not taken."""
    return Description(
        title="Apicbase",
        settings=Settings,
        needs={"webhook": ["webhook_secrets"], "poll": ["client_id", "client_secret"]},
        api=_api,
        acknowledge=marks.stages,
        poll_interval_s=lambda settings: float(settings.poll_interval_s),
        unreadable_status=400,
    )


@hookimpl
def verify(envelope: Envelope, settings: Settings) -> bool:
    """Check the signature header, which must occur once, over the raw body or its ASCII form."""
    secrets = [secret.reveal() for secret in settings.webhook_secrets]
    given = envelope.header(settings.signature_header)
    return is_genuine(envelope.body, given, secrets, ascii_fallback=settings.ascii_fallback)


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    """Read the order of a request."""
    order = read(envelope.body)
    if (why := refusal(order, settings)) is not None:
        raise Rejected(why.said)
    return [to_event(order, envelope.body, settings.zone())]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    """Fetch one page of the list (see `paging`). A 404 for a page number above 1 is the end of the list."""
    watermark, round_ = paging.resume(cursor, since, now, settings)
    sweep = round_.sweep
    gone = (404,) if sweep.page > 1 else ()
    answer = await client.request("GET", settings.list_path, params=paging.parameters(sweep, settings), accept=gone)
    listing = NOTHING if answer.status in gone else read_listing(answer.body, settings.zone())
    then = paging.after_page(watermark, round_, listing, settings)
    wanted = [row.found for row in listing.rows if row.ordered_at is None or row.ordered_at >= sweep.lower]
    return Page(events=wanted, cursor=then.text(), more=then.round is not None)


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    """Make the canonical order. Hold one that the webhook would refuse: it came by poll, so a person must tell the customer."""
    wire = read(document)
    order = mapping.to_order(wire, settings)
    if mapping.is_unknown_state(wire):
        raise Hold("Apicbase gives it a status that is not known here; read it, and release it if it is an order", order=order)
    if (why := refusal(wire, settings)) is not None:
        advice = "at Apicbase it counts as ordered and cannot be sent back: tell the customer, then release or drop it"
        raise Hold(f"{why.kept}; {advice}", order=order)
    return order


@hookimpl
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    """Mark `stored` as `fetched_by_supplier` and `delivered` as `viewed_by_supplier`, as the settings say."""
    return await marks.mark(receipts, client, settings)


def _api(settings: Settings) -> Api:
    """OAuth2 client credentials, a token for a week, 100 calls a minute for everybody (vendors/apicbase.md section 2)."""
    auth = None
    if settings.client_id and settings.client_secret:
        auth = OAuth2(
            token_url=settings.token_url,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            scope=settings.scope,
            encoding=settings.token_encoding,
        )
    return Api(base_url=settings.base_url, auth=auth, calls_per_minute=settings.calls_per_minute)
