"""The canonical order of a document. The numbers of the edge cases are those of vendors/apicbase.md, 4."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gateway_apicbase.constructed import line, purchase_order

from gateway import Hold, Order
from gateway.testing import load_samples

order: Callable[..., dict[str, Any]] = partial(
    purchase_order, "5f0c2b7e9d1a", number="PO-2024-00317", ordered_on=datetime(2024, 3, 31, 1, 58, tzinfo=UTC)
)


def test_case_9_nulls_and_missing_keys_are_no_obstacle(normalize: Callable[..., Order]) -> None:
    bare = normalize({"id": "x"})
    assert (bare.order_number, bare.ordered_at, bare.requested_for, bare.total, bare.notes) == (None,) * 5
    assert bare.flags == ("missing_customer_number", "empty_order", "unreadable_price")
    nulls = normalize(order(owned_by=None, order_remarks=None, expected_delivery_date=None, packages=None))
    assert (nulls.customer.contact, nulls.notes, nulls.requested_for, nulls.lines) == (None, None, None, ())
    half = [{"quantity_ordered": 2, "stock_item": {"name": " "}}, {"quantity_ordered": 1, "supplier_package": None, "stock_item": None}]
    lines = normalize(order(packages=half)).lines
    assert [(x.line_number, x.article_number, x.name, x.quantity) for x in lines] == [
        (1, None, None, Decimal(2)),
        (2, None, None, Decimal(1)),
    ]


def test_case_9_an_empty_order_is_taken_and_flagged_where_nothing_else_is_configured(ingest: Any, normalize: Callable[..., Order]) -> None:
    assert ingest(order(lines=[])).key == "5f0c2b7e9d1a"
    assert normalize(order(lines=[])).flags == ("empty_order",)


@pytest.mark.parametrize(
    ("text", "price", "flags"),
    [
        ("12.3450", Decimal("12.3450"), ()),
        ("0", Decimal(0), ("price_mismatch",)),
        ("1E+2", Decimal(100), ("price_mismatch",)),
        (" 12.3450 ", Decimal("12.3450"), ()),
        (12.345, Decimal("12.345"), ()),
        ("", None, ("unreadable_price",)),
        (None, None, ("unreadable_price",)),
        ("12,3450", None, ("unreadable_price",)),
        ("1_000", None, ("unreadable_price",)),
        ("٣", None, ("unreadable_price",)),
        ("NaN", None, ("unreadable_price",)),
        ("Infinity", None, ("unreadable_price",)),
        ("9" * 40, None, ("unreadable_price",)),
        (["12"], None, ("unreadable_price",)),
        ("9" * 200, None, ("unreadable_price",)),
        (True, None, ("unreadable_price",)),
    ],
)
def test_case_10_price_is_exact_or_null_with_a_flag(normalize: Callable[..., Order], text: Any, price: Decimal | None, flags: Any) -> None:
    package = line(0, 4)
    package["supplier_package"]["theoretical_price_per_package"] = text
    got = normalize(order(packages=[package]))
    assert got.lines[0].unit_price == price
    assert str(got.lines[0].unit_price) == str(price)
    assert got.flags == flags
    kept = {"packages[0].theoretical_price_per_package": str(text)[:100]} if price is None and text is not None else None
    assert got.extra.get("unreadable_prices") == kept


@pytest.mark.parametrize(
    ("quantity", "price", "line_total", "total", "fits"),
    [
        (4, "12.3450", "49.38", "49.38", True),
        (1, "12.3450", "12.35", "12.35", True),  # rounded up
        (1, "12.3450", "12.34", "12.34", True),  # rounded down
        (1, "12.3450", "12.36", "12.36", False),
        (4, "12.3450", "49.4", "49.4", False),
        (4, "12.3450", "49.38", "49.40", False),
        (4, "12.3450", "49.38", "", True),  # nothing to compare with
        (4, "", "49.38", "50.00", True),
        (0, "12.3450", "0", "0", True),
    ],
)
def test_case_10_price_mismatch_is_flagged_and_never_repaired(
    normalize: Callable[..., Order], quantity: int, price: str, line_total: str, total: str, fits: bool
) -> None:
    package = line(0, quantity) | {"total_theoretical_price": line_total}
    package["supplier_package"]["theoretical_price_per_package"] = price
    got = normalize(order(packages=[package], theoretical_price=total))
    assert ("price_mismatch" in got.flags) is not fits
    assert str(got.lines[0].line_total) == line_total
    assert got.total == (Decimal(total) if total else None)


def test_case_10_header_total_may_add_rounded_or_exact_lines(normalize: Callable[..., Order]) -> None:
    thrice = [line(0, 1) for _ in range(3)]  # 3 x 12.3450 rounded to 12.35
    assert normalize(order(packages=thrice, theoretical_price="37.05")).flags == ()
    assert normalize(order(packages=thrice, theoretical_price="37.04")).flags == ()
    assert normalize(order(packages=thrice, theoretical_price="37.06")).flags == ("price_mismatch",)


def test_case_10_prices_without_cents_are_compared_in_whole_units(normalize: Callable[..., Order]) -> None:
    package = line(0, 1) | {"total_theoretical_price": "12"}
    forints = order(packages=[package], theoretical_price="12")
    assert normalize(forints, currency="HUF", price_decimals=0).flags == ()
    assert normalize(forints).flags == ("price_mismatch",)


def test_case_11_same_article_on_two_lines_stays_two_lines(normalize: Callable[..., Order]) -> None:
    got = normalize(
        next(sample.body for sample in load_samples(Path(__file__).parent.parent / "samples") if sample.name == "04_sent_again_with_edits")
    )
    assert [(x.line_number, x.article_number, x.quantity) for x in got.lines] == [
        (1, "000451-2", Decimal(6)),
        (2, "000451-2", Decimal(1)),
        (3, "ZZ-UNKNOWN", Decimal(0)),
    ]


def test_case_12_article_numbers_lose_nothing_but_outer_whitespace(normalize: Callable[..., Order]) -> None:
    package = line(0, 1)
    package["supplier_package"]["supplier_article_number"] = " \t00-045 1-2/b\n"
    assert normalize(order(packages=[package], customer=" 0010023 ")).lines[0].article_number == "00-045 1-2/b"
    assert normalize(order(packages=[package], customer=" 0010023 ")).customer.number == "0010023"


def test_case_13_sandbox_customers_are_flagged_as_test(normalize: Callable[..., Order]) -> None:
    assert normalize(order(), sandbox_customers=("0010023",)).flags == ("test",)
    assert normalize(order(), sandbox_customers=("10024",)).flags == ()
    assert normalize(order(customer=None), sandbox_customers=()).flags == ("missing_customer_number",)


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2024-04-02T00:00:00+02:00", "UTC", datetime(2024, 4, 1, 22, tzinfo=UTC)),
        ("2024-04-02", "UTC", datetime(2024, 4, 2, tzinfo=UTC)),
        ("2024-04-02", "Europe/Brussels", datetime(2024, 4, 1, 22, tzinfo=UTC)),
        ("2024-03-31", "Europe/Brussels", datetime(2024, 3, 30, 23, tzinfo=UTC)),  # the day on which summer time begins
        ("2024-04-02T06:30:00", "Europe/Brussels", datetime(2024, 4, 2, 4, 30, tzinfo=UTC)),
    ],
)
def test_requested_for_is_utc_and_its_raw_text_is_kept(normalize: Callable[..., Order], text: str, zone: str, instant: datetime) -> None:
    got = normalize(order(expected_delivery_date=text), time_zone=zone)
    assert (got.requested_for, got.extra, got.flags) == (instant, {"expected_delivery_date": text}, ())


@pytest.mark.parametrize("text", ["soon", "2024-13-01", "0001-01-01T00:00:00+14:00", "2024-04-02T25:00:00Z"])
def test_unreadable_dates_are_flagged_and_refuse_no_order(ingest: Any, normalize: Callable[..., Order], text: str) -> None:
    odd = order(expected_delivery_date=text) | {"ordered_on": text}
    assert ingest(odd).occurred_at is None
    got = normalize(odd)
    assert (got.requested_for, got.ordered_at, got.flags) == (None, None, ("unreadable_date",))
    assert got.extra == {"ordered_on": text, "expected_delivery_date": text}


def test_delivered_at_first_sight_is_flagged(normalize: Callable[..., Order]) -> None:
    got = normalize(order(status="DELIVERED"))
    assert (got.status, got.flags, got.extra) == ("placed", ("delivered_unseen",), {"status": "DELIVERED"})


def test_unknown_status_waits_for_a_person_with_the_order_at_hand(normalize: Callable[..., Order]) -> None:
    with pytest.raises(Hold, match="a status that is not known here") as held:
        normalize(order(status="ON_ICE"))
    assert held.value.order is not None
    assert held.value.order.flags == ("unknown_status",)
