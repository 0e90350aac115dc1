"""What is pure: reading, mapping, rules. The numbers of the edge cases are those of vendors/apicbase.md, 4."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import gateway_apicbase
import msgspec
import pytest
from gateway_apicbase.constructed import line, purchase_order

from gateway import Envelope, Event, Hold, Order, Rejected
from gateway.plugin.connector import Connector
from gateway.plugin.validation import Misread
from gateway.testing import check_connector, load_samples

SAMPLES = Path(__file__).parent.parent / "samples"
AT = datetime(2024, 3, 31, 12, tzinfo=UTC)


def sample(name: str) -> bytes:
    return next(s.body for s in load_samples(SAMPLES) if s.name == name)


ASCII, COMPACT = sample("01_ascii_as_signed"), sample("02_utf8_signed_over_ascii")


def sign(body: bytes) -> str:
    return hmac.new(b"constructed-secret-do-not-use", body, "sha256").hexdigest()


def envelope(body: bytes, signature: str = "") -> Envelope:
    return Envelope(source="apicbase", body=body, headers=[(b"X-APIC-WEBHOOK-SIGNATURE", signature.encode())], received_at=AT)


def order(**fields: Any) -> dict[str, Any]:
    return purchase_order("5f0c2b7e9d1a", number="PO-2024-00317", ordered_on=datetime(2024, 3, 31, 1, 58, tzinfo=UTC), **fields)


def encoded(order: dict[str, Any]) -> bytes:
    return json.dumps(order).encode()


@pytest.fixture
def ingest(settings: Callable[..., Any]) -> Callable[..., Event]:
    def call(body: bytes | dict[str, Any], **changes: Any) -> Event:
        (event,) = gateway_apicbase.ingest(envelope(body if isinstance(body, bytes) else encoded(body)), settings(**changes))
        return event

    return call


@pytest.fixture
def normalize(settings: Callable[..., Any]) -> Callable[..., Order]:
    def call(body: bytes | dict[str, Any], **changes: Any) -> Order:
        document = body if isinstance(body, bytes) else encoded(body)
        return gateway_apicbase.normalize(Event(key="k", order_ref="k"), document, settings(**changes))

    return call


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
    body = encoded(
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
    )
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


# --- the canonical order


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
    got = normalize(sample("04_sent_again_with_edits"))
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


# --- the rules


REFUSED: Sequence[tuple[dict[str, Any], str]] = [
    ({"customer": "UNKNOWN-9"}, "The supplier does not know the customer number UNKNOWN-9."),
    ({"customer": None}, "The order has no customer number."),
    ({"lines": []}, "The order has no articles."),
    ({"lines": [(1, 1), (2, 1)]}, "The supplier does not know these article numbers: 00-0012."),
    ({"lines": [(0, 1), (1, 0)]}, "These lines order nothing: 2 (7781)."),
]
KEPT = [
    "supplier_customer_number is not among known_customers;",
    "supplier_customer_number is not among known_customers;",
    "packages is empty;",
    "packages[1]: supplier_article_number is not among known_articles;",
    "packages[1]: quantity_ordered is not above zero;",
]
RULES: dict[str, Any] = {"known_customers": ("0010023",), "known_articles": ("000451-2", "7781")}
EVERY_RULE = ("unknown_customer", "unknown_article", "empty_order", "zero_quantity")


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_refusals_are_said_to_the_customer_only_where_configured(
    ingest: Any, normalize: Callable[..., Order], fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Rejected) as refused:
        ingest(order(**fields), refuse=EVERY_RULE, **RULES)
    assert refused.value.reason == reason
    assert ingest(order(**fields), **RULES).key == "5f0c2b7e9d1a"
    assert set(normalize(order(**fields), **RULES).flags) & set(EVERY_RULE)
    assert ingest(order(), refuse=EVERY_RULE, **RULES).key == "5f0c2b7e9d1a"
    assert normalize(order(), refuse=EVERY_RULE, **RULES).flags == ()


def test_all_reasons_are_said_at_once_and_long_lists_are_cut(ingest: Any) -> None:
    with pytest.raises(Rejected, match=r"UNKNOWN-9\. The order has no articles\.$"):
        ingest(order(customer="UNKNOWN-9", lines=[]), refuse=EVERY_RULE, **RULES)
    many = [line(0, 1) | {"supplier_package": {"supplier_article_number": f"N-{n}"}} for n in range(7)]
    with pytest.raises(Rejected, match=r"N-0, N-1, N-2, N-3, N-4 and 2 more\.$"):
        ingest(order(packages=many), refuse=EVERY_RULE, **RULES)


def test_rules_without_their_list_find_nothing(normalize: Callable[..., Order]) -> None:
    """Nothing configured, or a file that is empty just now: nobody is accused."""
    assert normalize(order(customer="UNKNOWN-9")).flags == ()
    assert normalize(order(customer="UNKNOWN-9"), known_customers=()).flags == ()


@pytest.mark.parametrize(("fields", "kept"), [(fields, kept) for (fields, _), kept in zip(REFUSED, KEPT, strict=True)])
def test_an_order_that_came_by_poll_and_would_be_refused_waits_for_a_person(
    normalize: Callable[..., Order], fields: dict[str, Any], kept: str
) -> None:
    with pytest.raises(Hold) as held:
        normalize(order(**fields), refuse=EVERY_RULE, **RULES)
    assert held.value.reason.startswith(kept)
    assert "tell the customer" in held.value.reason
    for private in ("søren.o'brien@café-zoë.example", "UNKNOWN-9", "7781"):
        assert private not in held.value.reason
    assert held.value.order == normalize(order(**fields), **RULES)
