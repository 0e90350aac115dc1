"""Constructed order records for the simulator and the tests, without real organisations, customers or persons.

Only `order_number`, `uuid` and `id` are SuperCat's names (vendors/supercat.md section 5); each `placeholder` stands for an
undocumented field, and exercises the mapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parent / "examples" / "supercat.jsonata"

# Item number, price for one; a number may itself end in a dash and a digit.
CATALOGUE = (("20BRAD-1", "625.00"), ("9KAYABLD71CL", "280.00"), ("LAMP_7", "49.5"), ("A-1001", "1249.00"), ("RUG-08x10", "399.99"))
CUSTOMERS = (("0042", 'Señor Ñandú & Søn "Décor"'), ("0977", "Other Store"), ("1203", "Möbel Łódź 🛋"))
PROMOTION = {"item": "PROMO26", "qty": 1, "price": None, "note": "10% off over $3,500"}


def line(article: int, quantity: int, **fields: Any) -> dict[str, Any]:
    """Make one of `placeholder_lines` from an index into the catalogue and a quantity."""
    item, price = CATALOGUE[article]
    return {"item": item, "qty": quantity, "price": price, "note": None} | fields


def record(
    id: int, *, number: str | None, uuid: str, lines: Sequence[dict[str, Any]] = (), customer: int = 0, **fields: Any
) -> dict[str, Any]:
    """Make an order record.

    Args:
        customer: Index of the customer.
        fields: Values that replace or extend the record's.
    """
    of, name = CUSTOMERS[customer]
    lines = list(lines) or [line(0, 2)]
    priced = [Decimal(one["price"]) * one["qty"] for one in lines if one["price"] is not None]
    return {
        "order_number": number,
        "uuid": uuid,
        "id": id,
        "placeholder_customer": {"number": of, "name": name},
        "placeholder_po": None,
        "placeholder_ship_date": None,
        "placeholder_total": str(sum(priced, Decimal("0.00"))),
        "placeholder_custom": {},
        "placeholder_lines": lines,
    } | fields
