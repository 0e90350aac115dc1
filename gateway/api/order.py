"""Canonical order and message, version 1, as targets receive them (CONTRACT section 5).

Amounts and quantities are `Decimal` and travel as strings, exactly as precise as they came. Instants are aware and travel in UTC with `Z`.
Identifiers are strings and keep leading zeros. An absent value is None and is sent as null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

Kind = Literal["order.placed", "order.revised", "order.cancelled", "order.status"]
Status = Literal["placed", "scheduled", "ready_for_input", "ready_for_pickup", "picked_up", "cancelled"]

_PLAIN = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?\Z")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
LONG_NAME, LONG_NOTES = 512, 20_000  # characters
_MAX_WRITTEN = 1000
_MAX_DIGITS = 34
_MAX_EXPONENT = 18


class Address(Struct, frozen=True, kw_only=True):
    """Postal address; each part as the vendor wrote it."""

    name: str | None = None
    street: str | None = None
    street2: str | None = None
    postal_code: str | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None
    phone: str | None = None
    email: str | None = None


class Customer(Struct, frozen=True, kw_only=True):
    """Customer of the supplier; `number` is the supplier's own customer number."""

    number: str | None = None
    name: str | None = None
    contact: str | None = None
    email: str | None = None
    phone: str | None = None
    address: Address | None = None


class Line(Struct, frozen=True, kw_only=True):
    """Line of an order; `line_number` counts from 1 if the vendor numbers no lines, `interval_days` says how often it repeats."""

    line_number: Annotated[int, Meta(ge=1)]
    article_number: str | None = None
    scan_code: str | None = None
    name: str | None = None
    quantity: Decimal | None = None
    unit: str | None = None
    unit_price: Decimal | None = None
    line_total: Decimal | None = None
    interval_days: int | None = None
    due_at: datetime | None = None
    status: Status | None = None
    notes: str | None = None


class Order(Struct, frozen=True, kw_only=True):
    """Version of an order. The core fills in `order_ref` and `revision` from the event."""

    order_ref: str = ""
    order_number: str | None = None
    revision: Annotated[int, Meta(ge=1)] = 1
    status: Status = "placed"
    ordered_at: datetime | None = None
    requested_for: datetime | None = None
    currency: str | None = None
    total: Decimal | None = None
    customer: Customer = Customer()
    ship_to: Address | None = None
    notes: str | None = None
    lines: tuple[Line, ...] = ()
    references: dict[str, str] = {}
    flags: tuple[str, ...] = ()
    extra: dict[str, Any] = {}


class Message(Struct, frozen=True, kw_only=True):
    """Body of a delivery to a target."""

    schema: Literal["order-gateway/1"] = "order-gateway/1"
    key: str
    kind: Kind
    source: str
    vendor: str
    occurred_at: datetime | None
    received_at: datetime
    order: Order


_TINY = re.compile(rb'"-?[0-9.]+E-[0-9]+"')
_encoder = msgspec.json.Encoder(decimal_format="string")
_message = msgspec.json.Decoder(Message)

# The fields that orders had when the first digests of them were stored. Never edited: they are in every digest, set or not.
_FIRST_FIELDS = {
    "Order": "order_ref order_number revision status ordered_at requested_for currency total customer ship_to notes lines references"
    " flags extra",
    "Line": "line_number article_number scan_code name quantity unit unit_price line_total interval_days due_at status notes",
    "Customer": "number name contact email phone address",
    "Address": "name street street2 postal_code city region country phone email",
}


def encode(whole: Message | Order) -> bytes:
    """Encode a message or an order as JSON: the bytes that are stored, hashed, sent and sent again.

    Python writes an amount below 0.000001 as 1E-7, which few ERPs read: such amounts are written out, at some cost.
    """
    written = _encoder.encode(whole)
    if b"E-" in written and _TINY.search(written):
        return _encoder.encode(_written_out(msgspec.to_builtins(whole, builtin_types=(Decimal,))))
    return written


def content(order: Order) -> bytes:
    """Encode an order for the digest that tells its versions apart.

    A field that was added to the order later is in it only with a value, so a release with a new field makes no revision of a known order.
    """
    return encode(_with_value(order))


def _with_value(part: Any) -> Any:
    if isinstance(part, Struct):
        defaults = _later_fields(type(part))
        values = ((name, getattr(part, name)) for name in part.__struct_fields__)
        return {name: _with_value(value) for name, value in values if name not in defaults or value != defaults[name]}
    return [_with_value(one) for one in part] if isinstance(part, tuple) else part


@cache
def _later_fields(kind: type[Struct]) -> Mapping[str, Any]:
    """Return the default of each field that is not among the first ones."""
    first = _FIRST_FIELDS.get(kind.__name__, "").split()
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
        if field.name not in first
    }


def _written_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _written_out(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written_out(one) for one in value]
    return format(value, "f") if isinstance(value, Decimal) else value


def read_order(body: bytes | None) -> Order | None:
    """Decode the order of a stored message; None if the message was erased or cannot be read."""
    try:
        return None if body is None else _message.decode(body).order
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `Message`."""
    schema = msgspec.json.schema(Message)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "order-gateway message", **schema}


def decimal(text: str | int | Decimal) -> Decimal:
    """Read an exact decimal from a vendor's text; `1E+2` becomes 100, trailing zeros stay.

    Raises:
        ValueError: The text is no finite number, has more than 34 digits, or is beyond 10^18. The error does not quote it.
    """
    if (isinstance(text, str) and _PLAIN.match(text)) or (isinstance(text, int) and -(10**15) < text < 10**15):
        return Decimal(text)  # nearly all of them; no further check is needed
    if isinstance(text, str) and (not text.isascii() or "_" in text):  # Decimal reads 1_000 and other alphabets' digits
        raise ValueError("not a number")
    if isinstance(text, str) and len(text) > _MAX_WRITTEN:
        raise ValueError("too long or too large a number")
    try:
        value = Decimal(text.strip() if isinstance(text, str) else text)
    except InvalidOperation as error:
        raise ValueError("not a number") from error
    if not value.is_finite():
        raise ValueError("not a finite number")
    exponent = int(value.as_tuple().exponent)
    if len(value.as_tuple().digits) > _MAX_DIGITS or abs(exponent) > _MAX_EXPONENT or value.adjusted() > _MAX_EXPONENT:
        raise ValueError("too long or too large a number")
    return Decimal(format(value, "f")) if exponent > 0 else value


def contradictions(order: Order) -> Iterator[str]:
    """Yield contradictions by path, without values: a line number that occurs twice, a currency that is no code."""
    if order.currency is not None and not _CURRENCY.match(order.currency):
        yield "currency: must be three capital letters, as in EUR"
    first: dict[int, int] = {}
    for n, line in enumerate(order.lines):
        before = first.setdefault(line.line_number, n)
        if before != n:
            yield f"lines[{n}].line_number: is that of lines[{before}] too; leave line_number out to have the lines numbered"


def parts(order: Order) -> list[Struct]:
    """Return the order, its customer, its addresses and its lines."""
    address = getattr(order.customer, "address", None)
    return [part for part in (order, order.customer, address, order.ship_to, *order.lines) if part is not None]


def _names(kind: type[Struct], of: type) -> tuple[str, ...]:
    return tuple(name for name, hint in get_type_hints(kind).items() if of in (hint, *get_args(hint)))


_KINDS: tuple[type[Struct], ...] = (Order, Customer, Address, Line)
AMOUNTS = frozenset(name for kind in _KINDS for name in _names(kind, Decimal))
INSTANTS = frozenset(name for kind in _KINDS for name in _names(kind, datetime))
_TEXTS = {kind: attrgetter(*(name for name in _names(kind, str) if name != "notes")) for kind in _KINDS}


def has_long_text(order: Order) -> bool:
    """Return True if a text is too long for many ERPs; the order is sent whole and flagged `long_text`."""
    texts = [*order.references.values(), *chain.from_iterable(_TEXTS[type(part)](part) for part in parts(order))]
    notes = (order.notes, *(line.notes for line in order.lines))
    return any(max(map(len, filter(None, some)), default=0) > limit for some, limit in ((texts, LONG_NAME), (notes, LONG_NOTES)))


def utc(instant: datetime) -> datetime:
    """Convert an instant to UTC. Raises ValueError if it has no offset; the caller must know the zone."""
    if instant.tzinfo is None:
        raise ValueError("an instant without an offset")
    return instant.astimezone(UTC)
