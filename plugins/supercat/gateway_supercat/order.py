"""Conversion of a record to a canonical order: the operator's mapping, and fields that are known without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway import Line, Order
from gateway_supercat.record import Record
from gateway_supercat.settings import Settings
from gateway_supercat.unknown import unknown_fields
from gateway_supercat.versions import Number


def to_order(record: Record, number: Number, settings: Settings, seen: Sequence[str] = ()) -> Order:
    """Make the canonical order.

    It adds the flags `text_lines`, `zero_price`, `empty_order` and `missing_customer_number` to the mapping's own.

    Args:
        seen: Flags of `versions`.
    Raises:
        MappingError: The mapping does not fit the record.
    """
    assert settings.mapping is not None
    made = settings.mapping.order(record.fields, currency=settings.currency, zone=settings.zone())
    lines, texts = _texts_apart(made.lines, settings)
    unknown = unknown_fields(record.fields, settings.mapping.reveal())
    flags = [*made.flags, *seen, *(["text_lines"] if texts else [])]
    if any(line.unit_price == 0 for line in lines):
        flags.append("zero_price")
    if len(lines) == len(texts):
        flags.append("empty_order")
    if made.customer.number is None:
        flags.append("missing_customer_number")
    return replace(
        made,
        order_number=made.order_number or record.number,
        lines=lines,
        references=made.references | {"supercat_id": str(record.id), "supercat_uuid": record.uuid, "supercat_base": number.base},
        flags=tuple(dict.fromkeys(flags)),
        extra=unknown | made.extra | ({"text_lines": texts} if texts else {}),
    )


def _texts_apart(lines: tuple[Line, ...], settings: Settings) -> tuple[tuple[Line, ...], list[dict[str, Any]]]:
    """Turn lines without a price or a quantity, such as promotions, into lines of notes (vendors/supercat.md 2 and 4.16).

    They keep their place, and the ERP cannot take them for goods. Return the lines, and the original fields of these.
    """
    kept, texts = [], []
    for line in lines:
        if settings.text_lines == "goods" or (line.unit_price is not None and line.quantity):
            kept.append(line)
            continue
        notes = line.notes or ("without a price" if line.quantity else "without a quantity")
        kept.append(Line(line_number=line.line_number, name=line.name or line.article_number, notes=notes))
        texts.append({name: _plain(value) for name in line.__struct_fields__ if (value := getattr(line, name)) is not None})
    return tuple(kept), texts


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else str(value)
