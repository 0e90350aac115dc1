"""Constructed purchase orders for the simulator and the tests: no real supplier, customer or person in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

# Article number, name, price for one package.
CATALOGUE = (
    ("000451-2", "Crème fraîche 30% (6×500 g)", "12.3450"),
    ("7781", "Jalapeños en rajas", "3.10"),
    ("00-0012", "Żurek, zakwas 1 l", "2.95"),
    ("88210", "Smørrebrød-brød", "4.20"),
    ("A-17/b", "Olive oil, 5 l", "31.00"),
)
CUSTOMERS = ("0010023", "10024", "10024-B")
SANDBOX = "TEST-OUTLET-1"


def line(article: int, quantity: int) -> dict[str, Any]:
    """Make an entry of `packages`, as in the vendor's "Receive Orders" page, 3; the total is rounded to cents."""
    number, name, price = CATALOGUE[article]
    return {
        "stock_item": {"name": name},
        "supplier_package": {"supplier_article_number": number, "theoretical_price_per_package": price},
        "quantity_ordered": quantity,
        "total_theoretical_price": str((Decimal(price) * quantity).quantize(Decimal("0.01"), ROUND_HALF_UP)),
    }


def purchase_order(
    id: str, *, number: str, ordered_on: datetime, lines: Sequence[tuple[int, int]] = ((0, 4),), customer: str = CUSTOMERS[0], **fields: Any
) -> dict[str, Any]:
    """Make a purchase order as the vendor's page shows it.

    Args:
        lines: Place in the catalogue and quantity.
        fields: In place of what would stand there.
    """
    packages = [line(article, quantity) for article, quantity in lines]
    return {
        "id": id,
        "order_number": number,
        "status": "ORDERED",
        "ordered_on": written(ordered_on),
        "owned_by": {"username": "søren.o'brien@café-zoë.example"},
        "order_remarks": None,
        "packages": packages,
        "expected_delivery_date": None,
        "theoretical_price": str(sum((Decimal(p["total_theoretical_price"]) for p in packages), Decimal("0.00"))),
        "supplier_customer_number": customer,
    } | fields


def written(instant: datetime) -> str:
    """Write an instant as the samples do: UTC with `Z`."""
    return instant.isoformat().replace("+00:00", "Z")
