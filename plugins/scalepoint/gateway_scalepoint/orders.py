"""Answers of the Order Data API, whose address is published and whose fields are not (vendors/scalepoint.md section 2).

An answer may be a list, an object, or one of these in a wrapper. The operator's mapping defines the fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from gateway import Event, Hold, Order, missing_fields, read_json
from gateway_scalepoint.events import EventFields, read
from gateway_scalepoint.settings import Settings

KNOWN_MAJOR = 1
NEW_VERSION = "new_payload_version"

# Fields that come from the event, and not from the operator's mapping.
_REFERENCES = ("order_token", "case_number", "claim_id")
_EXTRA = ("case", "payload_version")

# Keys of a wrapper that hold the order, and keys that may be next to them.
_WRAPPERS = ("data", "value", "order", "orders", "result", "results")
_BESIDE = {"links", "meta", "metadata", "count", "total", "totalcount", "page", "pagesize", "next", "previous", "status", "success"}


def found(document: bytes, order_at: str = "") -> list[Any]:
    """Return the orders in an answer; none for an empty answer, list or object.

    Args:
        order_at: Their path, as in `data.orders`; by default the usual places.
    Raises:
        ValueError: The answer is no unambiguous JSON, or has nothing at `order_at`.
    """
    if not document.strip():
        return []
    said = read_json(document)
    for step in filter(None, order_at.split(".")):
        if not isinstance(said, Mapping) or step not in said:
            raise ValueError("it has nothing at order_at")
        said = said[step]
    return _listed(said if order_at else _inside(said))


def _inside(said: Any) -> Any:
    if not isinstance(said, Mapping):
        return said
    holds = [key for key in said if key.lower() in _WRAPPERS and isinstance(said[key], (list, dict, type(None)))]
    rest = [key for key in said if key not in holds and not (key.startswith(("@", "$")) or key.lower() in _BESIDE)]
    return said[holds[0]] if len(holds) == 1 and not rest else said


def _listed(said: Any) -> list[Any]:
    if isinstance(said, list):
        return [one for one in said if one not in (None, {})]
    return [said] if said else []


def canonical(event: Event, document: bytes, previous: Order | None, settings: Settings) -> Order:
    """Make the canonical order.

    Raises:
        Hold: There is no mapping yet, it leaves out a field that every ERP needs, or the number of orders is not one.
        ValueError: The document or the mapping cannot be used.
    """
    orders = found(document, settings.order_at)
    if len(orders) != 1:
        raise too_many(orders)
    if settings.mapping is None:
        raise Hold("there is no mapping: write one that fits this document (`gateway map` tries it), then release the order")
    order = settings.mapping.order(orders[0], currency=settings.currency, zone=settings.zone())
    order = _with_case(order, event, previous)
    missing = missing_fields(order)
    if missing:
        raise Hold(f"the mapping leaves out what is needed: {'; '.join(missing)}", order=order)
    return order


def too_many(orders: Sequence[Any]) -> Hold:
    """Make the error for a token with several orders or none."""
    return Hold(f"there are {len(orders)} orders for one token; ask Scalepoint which one it is, then release or drop it")


def _with_case(order: Order, event: Event, previous: Order | None) -> Order:
    """Add the claim, which only the event names, to an order.

    The claim of the first event stays. Another event of the order may spell it differently (other token prefix, null for an id:
    samples 5.1 and 5.2), which is no change of the order.
    """
    if previous is not None:
        ours = {key: text for key, text in previous.references.items() if key in _REFERENCES}
        extra = {key: value for key, value in previous.extra.items() if key in _EXTRA}
        flags = [NEW_VERSION] if NEW_VERSION in previous.flags else []
    elif event.document is None:
        return order
    else:
        fields = read(event.document, type="unsaid")
        ours, extra = _references(fields), {"case": dict(fields.case)} if fields.case else {}
        flags = [NEW_VERSION] if fields.major not in (None, KNOWN_MAJOR) else []
        if flags:
            extra["payload_version"] = fields.version
    return structs.replace(
        order,
        references={**_without(ours, order.references), **order.references},
        extra={**_without(extra, order.extra), **order.extra},
        flags=tuple(dict.fromkeys([*order.flags, *flags])),
    )


def _without(ours: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """Return our entries that the mapping does not make, in their order, which counts in comparisons."""
    return {key: value for key, value in ours.items() if key not in made}


def _references(fields: EventFields) -> dict[str, str]:
    named = {"order_token": fields.token, "case_number": fields.case.get("number"), "claim_id": fields.case.get("externalClaimId")}
    return {name: text for name, text in named.items() if text}
