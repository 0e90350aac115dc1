"""Marks at Apicbase: `fetched_by_supplier`, which only the supplier sees, and `viewed_by_supplier`, which the customer
reads as "will be processed". Both are one-way (vendors/apicbase.md section 2, from
https://developers.apicbase.com/reference/mark-purchase-order-as-fetched-or-viewed-1).

The URL and the two fields are the vendor's; the shape of the body was not seen, so it is a setting, and the marks are off
until Apicbase has confirmed one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from gateway import Receipt, Response, Stage, VendorClient
from gateway_apicbase.settings import Settings

FIELD: Mapping[Stage, str] = {"stored": "fetched_by_supplier", "delivered": "viewed_by_supplier"}
# Answers about one order, not about us: it is not known there, or no longer ours to mark.
_REFUSED = (400, 404, 409, 410, 422)


def stages(settings: Settings) -> Collection[Stage]:
    """Which stages Apicbase is to hear of."""
    wanted: dict[Stage, str] = {"stored": settings.mark_fetched, "delivered": settings.mark_viewed}
    return [stage for stage, mark in wanted.items() if mark != "off"]


async def mark(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    """Mark orders; the ids of the receipts that Apicbase confirmed.

    What is refused is left out and comes again: by webhook an order is `ORDERED` there only after our answer, so its mark may
    be a moment too early. A refused list is tried one by one, so that one order does not keep the others.
    """
    if settings.mark_body == "list" and len(receipts) > 1:
        confirmed = await _send(receipts, client, settings)
        if confirmed is not None:
            return confirmed
    marked: list[int] = []
    # No more than a minute's budget at once: what is left over comes again, and does not wait inside this call.
    for receipt in receipts[: settings.calls_per_minute]:
        marked += await _send([receipt], client, settings) or ()
    return marked


async def _send(batch: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int] | None:
    """Send a PATCH; return None if Apicbase refuses it."""
    path = (settings.mark_path or settings.list_path).replace("{id}", quote(batch[0].reference, safe=""))
    body = [_body(receipt) for receipt in batch]
    answer = await client.request("PATCH", path, json=body if settings.mark_body == "list" else body[0], accept=_REFUSED)
    if answer.status in _REFUSED:
        return None
    named = _named(answer, FIELD[batch[0].stage])
    return [receipt.id for receipt in batch if named is None or receipt.reference in named]


def _body(receipt: Receipt) -> dict[str, Any]:
    return {"id": receipt.reference, FIELD[receipt.stage]: True}


def _named(answer: Response, field: str) -> frozenset[str] | None:
    """Return the orders that an answer names as marked; None if it names none, so that its 2xx is for all."""
    try:
        rows = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    rows = rows.get("results") if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        return None
    return frozenset(row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str) and row.get(field) is not False)
