"""The orders that every contestant gets: signed webhooks as Apicbase sends them (vendors/apicbase.md 5.1), each id once."""

from __future__ import annotations

import hmac
import json
from hashlib import blake2b

SECRET = "constructed-secret-do-not-use"
PLACE = "@" * 16
LINES = (1, 1, 2, 3, 6)  # of each five orders; 650 bytes to 1.8 KB


def order_id(prefix: str, n: int) -> str:
    """The id of order `n`: the same wherever it is worked out, and in no order, as the worst that an index can get."""
    return blake2b(f"{prefix}/{n}".encode(), digest_size=8).hexdigest()


def _template(lines: int) -> bytes:
    package = {
        "stock_item": {"name": "Crème fraîche 30% (6×500 g)"},
        "supplier_package": {"supplier_article_number": "000451-2", "theoretical_price_per_package": "12.3450"},
        "quantity_ordered": 4,
        "total_theoretical_price": "49.38",
    }
    order = {
        "id": PLACE,
        "order_number": "PO-2024-00317",
        "status": "ORDERED",
        "ordered_on": "2024-03-31T01:58:12.481920Z",
        "owned_by": {"username": "søren.o'brien@café-zoë.example"},
        "order_remarks": 'Laat bij achterdeur – bel 2× "Zoë"\nniet vóór 07:00',
        "packages": [package] * lines,
        "expected_delivery_date": None,
        "theoretical_price": f"{49.38 * lines:.2f}",
        "supplier_customer_number": "0010023",
    }
    return json.dumps(order).encode()


_TEMPLATES = tuple(_template(lines) for lines in LINES)


def body(prefix: str, n: int) -> bytes:
    """The body of order `n`."""
    return _TEMPLATES[n % len(_TEMPLATES)].replace(PLACE.encode(), order_id(prefix, n).encode(), 1)


def request(prefix: str, n: int, *, path: str, host: str, header: str) -> bytes:
    """The whole HTTP request with its signature, ready for a socket."""
    content = body(prefix, n)
    signature = hmac.new(SECRET.encode(), content, "sha256").hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n"
        f"{header}: {signature}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
