"""A purchase order as Apicbase sends it, the same through the webhook and in the list (vendors/apicbase.md sections 1
and 2, from the vendor's "Receive Orders" page, 3).

Bounded, and read strictly where a guess would be wrong: one meaning per document. Unknown fields are ignored. Only `id` and
each line's quantity are indispensable; anything else may be null or missing, which means the same as empty.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway import PermanentError, decimal, without_input
from gateway_apicbase.signature import unique

# A text may be as long as the body lets it be: the core flags one that is longer than many an ERP takes. It holds no NUL and no half of
# a surrogate pair, which cannot be stored, sent on or shown everywhere: msgspec refuses the halves, `_sound` the NUL.

_REMEMBERED, _SHORT = 1024, 4096


class Owner(Struct, frozen=True, kw_only=True):
    username: str | None = None


class StockItem(Struct, frozen=True, kw_only=True):
    name: str | None = None


class SupplierPackage(Struct, frozen=True, kw_only=True):
    """The price is a string, and theoretical: what the customer expects, not what was agreed."""

    supplier_article_number: str | None = None
    theoretical_price_per_package: Any = None


class Package(Struct, frozen=True, kw_only=True):
    """Line of an order; Apicbase gives it neither a number nor an id."""

    quantity_ordered: Any
    stock_item: StockItem | None = None
    supplier_package: SupplierPackage | None = None
    total_theoretical_price: Any = None

    @property
    def name(self) -> str | None:
        return filled(self.stock_item.name) if self.stock_item else None

    @property
    def article_number(self) -> str | None:
        return filled(self.supplier_package.supplier_article_number) if self.supplier_package else None

    @property
    def price(self) -> Any:
        return self.supplier_package.theoretical_price_per_package if self.supplier_package else None

    @property
    def quantity(self) -> Decimal:
        """An integer by the vendor's page; a fraction would be taken as exactly as it came. Raises ValueError."""
        return amount(self.quantity_ordered)


class PurchaseOrder(Struct, frozen=True, kw_only=True):
    """Dates are kept as they were written; `instant` reads them."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    order_number: str | None = None
    status: str | None = None
    ordered_on: str | None = None
    owned_by: Owner | None = None
    order_remarks: str | None = None
    packages: Annotated[tuple[Package, ...], Meta(max_length=10_000)] | None = None
    expected_delivery_date: str | None = None
    theoretical_price: Any = None
    supplier_customer_number: str | None = None

    @property
    def lines(self) -> tuple[Package, ...]:
        return self.packages or ()

    @property
    def customer_number(self) -> str | None:
        return filled(self.supplier_customer_number)


def read(document: bytes) -> PurchaseOrder:
    """Read an order; the core checks whether its `id` is usable as a name.

    A short document is cached for a moment: the same bytes are read on arrival and again for the canonical order.

    Raises:
        PermanentError: Not UTF-8 (a BOM counts), not JSON, a key twice, NaN, a number or text beyond all bounds, too deeply
            nested, no `id`, a line without a usable quantity, or a field of another type.
    """
    return _remembered(document) if len(document) <= _SHORT else _read(document)


def _read(document: bytes) -> PurchaseOrder:
    try:
        _says_all_once(document)
        order = _decoder.decode(document)
        if b"\\u0000" in document:
            _sound(order)
        for n, package in enumerate(order.lines):
            _check_quantity(n, package)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else without_input(error)
        raise PermanentError(f"not an Apicbase order: {reason}") from error
    return order


def _check_quantity(n: int, package: Package) -> None:
    """Raise ValueError, which names the line, where its quantity is none."""
    try:
        _ = package.quantity
    except ValueError as error:
        raise ValueError(f"packages[{n}].quantity_ordered: {error}") from error


_remembered = lru_cache(maxsize=_REMEMBERED)(_read)


def _sound(part: Struct) -> None:
    """Raise ValueError where a name or text holds a NUL; prices and quantities are looked at where they are read."""
    for field in part.__struct_fields__:
        value = getattr(part, field)
        if isinstance(value, str) and field not in _AMOUNTS and "\0" in value:
            raise ValueError(f"{field} holds a NUL")
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Struct):
                _sound(inner)


def _says_all_once(document: bytes) -> None:
    """Raise ValueError where the JSON is none, or a key stands twice in one object.

    msgspec takes the last of two equal keys; written again, the document then has fewer quotation marks. Only where it spells
    some of them as escapes does the slow way have to look.
    """
    again = _encoder.encode(_any.decode(document))
    if b"\\u0022" in document or document.count(b'"') != again.count(b'"'):
        json.loads(document, object_pairs_hook=unique)


def amount(value: Any) -> Decimal:
    """Read an exact price or quantity. Raises ValueError for anything else: a bool, a list, nothing, `12,50`."""
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise ValueError("not a number")
    return decimal(value)


def filled(text: str | None) -> str | None:
    """Return the text without outer whitespace, or None if it is empty."""
    return (text or "").strip() or None


def instant(text: str | None, zone: tzinfo) -> datetime | None:
    """Read a date or time as UTC; without an offset it is in `zone`, a pure date its midnight; None for nothing.

    The vendor's page says "datetime" and no more.

    Raises:
        ValueError: It is neither.
    """
    written = filled(text)
    if written is None:
        return None
    read_as = datetime.fromisoformat(written)
    try:
        return (read_as if read_as.tzinfo else read_as.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("an instant outside the calendar") from error


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError("a number beyond all bounds") from error


_AMOUNTS = frozenset({"quantity_ordered", "theoretical_price", "theoretical_price_per_package", "total_theoretical_price"})
_decoder = msgspec.json.Decoder(PurchaseOrder, float_hook=_exact)
_any = msgspec.json.Decoder(float_hook=_exact)
_encoder = msgspec.json.Encoder(decimal_format="number")
