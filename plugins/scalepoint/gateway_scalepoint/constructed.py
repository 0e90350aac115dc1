"""Constructed events and orders for the simulator and the tests, without real claims, customers or persons.

The events have the documented fields. The fields of orders are not published, and every name in them is made up
(vendors/scalepoint.md, sample 5.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

# Article number, text, price; a line without a number is a service.
CATALOGUE = (
    ("00417-1", 'Fjernsyn 55"', "4999.95"),
    ("0088-æ", "Køleskab, hvidt", "3249.00"),
    ("A/17", 'Børnecykel 20"', "1799.5"),
    ("7781", "Høretelefoner", "899.00"),
    (None, "Levering og opstilling", "0"),
)
_ADDRESS = {
    "name": "Åse Sørensen-Ærø",
    "street": "Nørrebrogade 1, 2. tv",
    "street2": "",
    "postalCode": "0999",
    "city": "København N",
    "country": "",
}


def event(token: str, *, claim: int, correlation: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """Make an `order_created` event as in the seed, with a timestamp whose offset has no colon."""
    return {
        "eventType": "order_created",
        "payloadVersion": "1.0.0",
        "correlationId": correlation,
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "case": {
            "uuid": f"0a1b2c3d-1111-4111-8111-{claim:012x}",
            "number": f"CH{99000000 + claim}",
            "externalClaimId": "",
            "token": f"c.{correlation}",
            "caseType": "contentClaim",
        },
        "orderToken": token,
    } | fields


def foreign(correlation: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """Make an event for insurers, which the same address receives (sample 5.3)."""
    return {
        "eventType": "claim_updated",
        "payloadVersion": "1.0.0",
        "correlationId": correlation,
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "case": {"number": "CH99000042", "token": f"b.{correlation}", "caseType": "PropertyClaim"},
        "changes": [{"property": "CaseClosed", "isTerminated": False}],
    } | fields


def order(token: str, *, at: datetime, lines: Sequence[tuple[int, int]] = ((0, 1), (4, 1)), **fields: Any) -> dict[str, Any]:
    """Make an order as in sample 5.5, with prices as JSON numbers.

    Args:
        lines: Index into the catalogue, and quantity.
    """
    made = [
        {
            "lineNo": n,
            "sku": CATALOGUE[place][0],
            "text": CATALOGUE[place][1],
            "quantity": quantity,
            "unitPrice": Decimal(CATALOGUE[place][2]),
        }
        for n, (place, quantity) in enumerate(lines, 1)
    ]
    return {
        "placeholder": True,
        "externalId": token,
        "createdAt": at.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "currency": "DKK",
        "deliverTo": _ADDRESS,
        "lines": made,
        "total": sum((Decimal(CATALOGUE[place][2]) * quantity for place, quantity in lines), Decimal(0)),
    } | fields
