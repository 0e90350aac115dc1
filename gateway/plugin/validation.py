"""Checks of what hooks return and raise. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from gateway.api.errors import GatewayError, Hold, Ignore, PluginError, Rejected, TransientError, bounded, without_input
from gateway.api.messages import Event, is_identity
from gateway.api.order import AMOUNTS, INSTANTS, Order, contradictions, has_long_text, parts

_NAME_LIMIT = 200
_LONG = "long_text"
_LONGEST_WAIT_S = 86400.0
_decoder = msgspec.json.Decoder(Order)
_encoder = msgspec.json.Encoder(decimal_format="string")

# An encoded order that matches one of these may have a wrong instant or amount; a match inside `extra` is harmless.
_LOCAL = re.compile(rb'"(?:%b)":"[^"]*[^Z"]"' % "|".join(INSTANTS).encode())
_ODD = re.compile(rb'"(?:%b)":(?!null|"-?[0-9]+(?:\.[0-9]+)?")' % "|".join(AMOUNTS).encode())

_EVENT_FIELDS: tuple[tuple[str, type], ...] = (
    ("document", bytes),
    ("content", bytes),
    ("occurred_at", datetime),
    ("reference", str),
    ("ignored", str),
    ("flagged", bool),
)


class Misread(Exception):
    """Verified envelope that `ingest` cannot read; it is kept as a dead letter."""


def checked_order(order: object) -> Order:
    """Return an order whose values have the types of its fields: a Struct does not check that itself. Raises PluginError."""
    if not isinstance(order, Order):
        raise PluginError(f"normalize returned {type(order).__name__}, not an Order")
    try:
        written = _encoder.encode(order)
        read = _decoder.decode(written)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError) as error:
        where = f": {without_input(error)}" if isinstance(error, msgspec.ValidationError) else ""
        raise PluginError(f"normalize returned an order that the message has no place for{where}") from error
    if _LOCAL.search(written) and any(at.utcoffset() != timedelta(0) for at in _values(read, INSTANTS)):
        raise PluginError("normalize returned an order with an instant that is not in UTC; make it with gateway.utc")
    for problem in contradictions(read):
        raise PluginError(f"normalize returned an order that contradicts itself: {problem}")
    if has_long_text(read) and _LONG not in read.flags:
        read = msgspec.structs.replace(read, flags=(*read.flags, _LONG))
    if not _ODD.search(written):
        return read
    if not all(_is_plain(amount) for amount in _values(order, AMOUNTS)):
        raise PluginError("normalize returned an order with a number that is no plain decimal; make it with gateway.decimal")
    return read


def checked_event(hook: str, event: object, *, fetches: bool) -> Event:
    """Return the event if it is valid. Raises Misread, PluginError."""
    if not isinstance(event, Event):
        raise PluginError(f"{hook} returned {type(event).__name__}, not an Event")
    for name in (event.key, event.order_ref):
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_LIMIT or not name.isprintable():
            raise Misread("an order without a usable identifier (empty, longer than 200 characters, or not printable)")
        if not is_identity(name):
            raise Misread("an order whose identifier is a word for nothing (null, none, 0, white space ...): many orders could have it")
    for field, kind in _EVENT_FIELDS:
        if (value := getattr(event, field)) is not None and not isinstance(value, kind):
            raise PluginError(f"{hook} returned an event whose {field} is {type(value).__name__}, not {kind.__name__}")
    if event.occurred_at is not None and event.occurred_at.tzinfo is None:
        raise PluginError(f"{hook} returned an event whose occurred_at has no time zone")
    if event.as_of is not None or event.sequence is not None:
        _check_newness(hook, event)
    if event.reference is not None and not is_storable(event.reference):
        raise Misread("an order whose reference is no text")
    if (event.document is None or event.fetch) and event.ignored is None and not fetches:
        raise PluginError(f"{hook} returned an event without its order, and there is no fetch")
    return event


def _check_newness(hook: str, event: Event) -> None:
    as_of, sequence = event.as_of, event.sequence
    if as_of is not None and not (isinstance(as_of, datetime) and as_of.tzinfo is not None):
        raise PluginError(f"{hook} returned an event whose as_of is no instant with a time zone")
    if sequence is not None and type(sequence) is not int:
        raise PluginError(f"{hook} returned an event whose sequence is no whole number")
    if sequence is not None and abs(sequence) >= 2**63:  # the vendor's mistake, which must not cost the other orders of its page
        raise Misread("an order whose number in the vendor's count has more than 63 bits")


def tidy(error: GatewayError) -> None:
    """Bound the texts and waits of an error that a hook raised, so that they can be stored."""
    error.args = tuple(bounded(argument) for argument in error.args)
    if isinstance(error, (Rejected, Hold, Ignore)):
        error.reason = bounded(error.reason)
    if isinstance(error, TransientError):
        wait_s: object = error.retry_after_s
        error.retry_after_s = min(float(wait_s), _LONGEST_WAIT_S) if isinstance(wait_s, (int, float)) and wait_s >= 0 else None


def _values(order: Order, names: Collection[str]) -> Iterator[Any]:
    """Yield the values of the fields of these names, in the order and in its parts."""
    values = (getattr(part, name, None) for part in parts(order) for name in names)
    return (value for value in values if value is not None)


def _is_plain(amount: object) -> bool:
    return isinstance(amount, Decimal) and amount.is_finite() and int(amount.as_tuple().exponent) <= 0


def is_storable(text: str) -> bool:
    """Tell whether UTF-8 can encode a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
