"""Canonical messages of an order version, one for each target that takes it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec

from gateway.api.errors import PluginError, without_input
from gateway.api.order import Kind, Message, Order, encode
from gateway.engine.difference import differences, is_likely_new
from gateway.plugin.source import Source
from gateway.store.rows import Delivery, InboxRow


def numbered(row: InboxRow, order: Order, previous: Order | None) -> Order:
    """Return the order with its reference, its version, and the flags that a version has."""
    flags = list(order.flags)
    if row.version > 1 and not row.after_rejection:
        flags.append("resubmitted")
        if previous is not None and is_likely_new(previous, order):
            flags.append("likely_new_order")
    return msgspec.structs.replace(order, order_ref=row.order_ref, revision=row.version, flags=tuple(dict.fromkeys(flags)))


def deliveries(source: Source, row: InboxRow, key: str, order: Order, sent: Collection[str]) -> tuple[Delivery, ...]:
    """Return a delivery for each target that takes the order's kind, and wants the order or has it already.

    Args:
        sent: Targets that have got an earlier version; they hear of every change.
    """
    made, bodies = [], dict[Kind, bytes]()
    for destination in source.destinations:
        is_first = destination.target not in sent
        kind = _kind(order, row.version, first=is_first)
        if kind not in destination.accepts:
            continue
        if kind not in bodies:
            bodies[kind] = _body(source, row, key, kind, order)
        body = bodies[kind]
        if not is_first or destination.wants(body):
            made.append(Delivery(target=destination.target, kind=kind, body=body, sha256=hashlib.sha256(body).digest()))
    return tuple(made)


def difference(previous: Order | None, order: Order) -> str:
    """Return what differs between two versions, a line for each field, for the operator who decides."""
    if previous is None:
        return "the earlier version is not stored any more"
    return "\n".join(differences(previous, order)) or "no visible field is different"


def _kind(order: Order, version: int, *, first: bool) -> Kind:
    if first:
        return "order.placed"
    if order.status == "cancelled":
        return "order.cancelled"
    return "order.revised" if version > 1 else "order.status"


def _body(source: Source, row: InboxRow, key: str, kind: Kind, order: Order) -> bytes:
    message = Message(
        key=key,
        kind=kind,
        source=row.source,
        vendor=source.vendor,
        occurred_at=row.occurred_at,
        received_at=row.received_at,
        order=order,
    )
    try:
        return encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise PluginError(f"normalize returned an order that cannot be written as JSON: {without_input(error)}") from error
