"""Documents: reading them, and what makes a version. The numbers of the edge cases are those of vendors/apicbase.md, 4."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import gateway_apicbase
import msgspec
import pytest
from gateway_apicbase.constructed import line, purchase_order

from gateway import Envelope, Event
from gateway.plugin.connector import Connector
from gateway.plugin.validation import Misread
from gateway.testing import check_connector, load_samples

SAMPLES = Path(__file__).parent.parent / "samples"
AT = datetime(2024, 3, 31, 12, tzinfo=UTC)
ASCII, COMPACT = (sample.body for sample in load_samples(SAMPLES)[:2])

order: Callable[..., dict[str, Any]] = partial(
    purchase_order, "5f0c2b7e9d1a", number="PO-2024-00317", ordered_on=datetime(2024, 3, 31, 1, 58, tzinfo=UTC)
)


def sign(body: bytes) -> str:
    return hmac.new(b"constructed-secret-do-not-use", body, "sha256").hexdigest()


def envelope(body: bytes, signature: str = "") -> Envelope:
    return Envelope(source="apicbase", body=body, headers=[(b"X-APIC-WEBHOOK-SIGNATURE", signature.encode())], received_at=AT)


def test_every_sample_passes_the_conformance_suite(settings: Callable[..., Any]) -> None:
    strict = settings(time_zone="Europe/Brussels", known_customers=("0010023", "10024"))
    samples = load_samples(SAMPLES)
    assert len(samples) == 6
    assert check_connector(gateway_apicbase, strict, samples) == []


# --- reading


def test_document_is_kept_exactly_as_it_came(ingest: Callable[..., Event]) -> None:
    event = ingest(b" \n" + ASCII + b"\r\n")
    assert event.document == b" \n" + ASCII + b"\r\n"
    assert (event.key, event.order_ref, event.reference) == ("5f0c2b7e9d1a",) * 3
    assert event.occurred_at == datetime(2024, 3, 31, 1, 58, 12, 481920, UTC)


def test_seed_document_structure_goes_through_every_hook(connector: Callable[..., Any], settings: Callable[..., Any]) -> None:
    """The structure of "Receive Orders", section 3, every field with a value of the type given there."""
    body = json.dumps(
        {
            "id": "64b7f0",
            "order_number": "PO-1",
            "status": "ORDERED",
            "ordered_on": "2026-05-04T09:30:00.000000Z",
            "owned_by": {"username": "ana"},
            "order_remarks": "á, é",
            "packages": [
                {
                    "stock_item": {"name": "Tomatoes"},
                    "supplier_package": {"supplier_article_number": "T-1", "theoretical_price_per_package": "2.50"},
                    "quantity_ordered": 3,
                    "total_theoretical_price": "7.50",
                }
            ],
            "expected_delivery_date": "2026-05-05T00:00:00Z",
            "theoretical_price": "7.50",
            "supplier_customer_number": "C-1",
        }
    ).encode()
    made: Connector = connector(settings())
    (event,) = made.admit(envelope(body, sign(body)), AT)
    assert isinstance(event, Event)
    got = made.normalize(msgspec.structs.replace(event, document=None, content=None), body)
    assert (got.order_number, got.customer.number, got.customer.contact, got.notes) == ("PO-1", "C-1", "ana", "á, é")
    assert (got.total, got.requested_for, got.flags) == (Decimal("7.50"), datetime(2026, 5, 5, tzinfo=UTC), ())
    assert [(x.article_number, x.name, x.quantity, x.unit_price, x.line_total) for x in got.lines] == [
        ("T-1", "Tomatoes", Decimal(3), Decimal("2.50"), Decimal("7.50"))
    ]


POISON = {
    "a BOM": b"\xef\xbb\xbf" + ASCII,
    "invalid UTF-8": ASCII.replace(b"bij", b"b\xff\xfe"),
    "UTF-16": ASCII.decode().encode("utf-16"),
    "a key twice": ASCII.replace(b'{"id":', b'{"id": "another", "id":', 1),
    "a key twice, inside": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": 4, "quantity_ordered": 40'),
    "a key twice, in what nobody reads": ASCII.replace(b"{", b'{"new": {"a": 1, "a": 2}, ', 1),
    "NaN": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": NaN'),
    "Infinity": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": Infinity'),
    "a number beyond 10^18": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": 10000000000000000000000'),
    "a number of 5000 digits": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": ' + b"4" * 5000),
    "an exponent beyond bounds": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": 1e99999999999999999999'),
    "a quantity that is a truth": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": true'),
    "no quantity": ASCII.replace(b'"quantity_ordered": 4', b'"quantity_ordered": null'),
    "NUL in the id": ASCII.replace(b"5f0c2b7e9d1a", b"5f0c\\u00002b7e"),
    "NUL in an article number": ASCII.replace(b"000451-2", b"000451\\u0000"),
    "half a surrogate pair in the id": ASCII.replace(b"5f0c2b7e9d1a", b"5f0c\\ud83d"),
    "half a surrogate pair in the remarks": ASCII.replace(b"Laat", b"\\ud83d"),
    "half a surrogate pair in a price": ASCII.replace(b"12.3450", b"\\ud83d"),
    "no id": ASCII.replace(b'"id": "5f0c2b7e9d1a", ', b""),
    "an empty id": ASCII.replace(b"5f0c2b7e9d1a", b""),
    "an id of 201 characters": ASCII.replace(b"5f0c2b7e9d1a", b"a" * 201),
    "an id that is a number": ASCII.replace(b'"5f0c2b7e9d1a"', b"5"),
    "nested too deeply": b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": b"[" + ASCII + b"]",
    "cut off": ASCII[:-1],
    "nothing": b"",
    "more than one order": ASCII + ASCII,
}


@pytest.mark.parametrize("body", POISON.values(), ids=POISON.keys())
def test_case_15_a_body_without_one_meaning_is_genuine_and_unreadable(
    connector: Callable[..., Any], settings: Callable[..., Any], body: bytes
) -> None:
    made: Connector = connector(settings())
    assert made.description.unreadable_status == 400
    with pytest.raises(Misread):
        made.admit(envelope(body, sign(body)), AT)


# --- what makes a version


def test_content_is_the_same_for_null_missing_and_empty(ingest: Callable[..., Event]) -> None:
    fields = ("owned_by", "order_remarks", "expected_delivery_date", "theoretical_price")
    nulls = order(**dict.fromkeys(fields))
    empty = order(**dict.fromkeys(fields, "") | {"owned_by": {"username": ""}})
    missing = {name: value for name, value in nulls.items() if name not in fields}
    assert ingest(nulls).content == ingest(empty).content == ingest(missing).content


def test_content_leaves_out_what_is_not_the_customers_doing(ingest: Callable[..., Event]) -> None:
    plain = ingest(order()).content
    marks = {"fetched_by_supplier": True, "fetched_by_supplier_at": "2024-03-31T05:00:00Z", "viewed_by_supplier": False}
    assert ingest(order(status="DELIVERED", **marks)).content == plain
    assert ingest(order() | {"ordered_on": "2024-03-31T01:59:00Z"}).content == plain
    assert ingest(COMPACT).content == ingest(ASCII).content


def test_content_does_not_depend_on_how_an_instant_or_a_number_is_spelt(ingest: Callable[..., Event]) -> None:
    one = order(expected_delivery_date="2024-04-02T00:00:00+02:00", theoretical_price="86.40")
    assert ingest(one | {"expected_delivery_date": "2024-04-01T22:00:00.000Z", "theoretical_price": "86.4"}).content == ingest(one).content
    assert ingest(one | {"expected_delivery_date": "2024-04-02"}, time_zone="Europe/Brussels").content == ingest(one).content


@pytest.mark.parametrize(
    "edit",
    [
        {"order_remarks": "at the back door"},
        {"owned_by": {"username": "ana"}},
        {"expected_delivery_date": "2024-04-03"},
        {"supplier_customer_number": "10024"},
        {"theoretical_price": "1.00"},
        {"theoretical_price": "about 50"},
        {"packages": [line(0, 5)]},
        {"packages": [line(0, 4), line(0, 4)]},
        {"packages": []},
        {"order_number": "PO-2"},
    ],
    ids=str,
)
def test_content_changes_with_everything_that_the_customer_decides(ingest: Callable[..., Event], edit: dict[str, Any]) -> None:
    assert ingest(order(**edit)).content != ingest(order()).content
    assert ingest(order(**edit)).key == ingest(order()).key
