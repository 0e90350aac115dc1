"""The canonical order: exact decimals, UTC instants, and a schema that an independent judge accepts."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Address, Customer, Line, Order, decimal, utc
from gateway.api.order import Message, content, encode, json_schema

AT = datetime(2024, 3, 31, 1, 58, 12, 481920, tzinfo=UTC)


def message(order: Order) -> Message:
    return Message(key="s/o/1", kind="order.placed", source="s", vendor="v", occurred_at=AT, received_at=AT, order=order)


@pytest.mark.parametrize(
    "text", ["12.3450", "0", "0.00", "-1.10", "1000000", "0.000001", "0.0000001", "-0.00000010", "0E-7", "12345678901234567.89"]
)
def test_a_decimal_comes_out_as_it_came(text: str) -> None:
    line = Line(line_number=1, unit_price=decimal(text))
    plain = "0.0000000" if text == "0E-7" else text
    order = Order(ordered_at=AT, lines=(line,), extra={"sku": "1E-7", "n": Decimal(1)})
    sent = encode(message(order))
    assert f'"unit_price":"{plain}"'.encode() in sent
    assert b'"sku":"1E-7"' in sent
    assert msgspec.json.decode(sent, type=Message).order.ordered_at == AT


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=6))
def test_no_float_is_ever_in_between(value: Decimal) -> None:
    sent = encode(message(Order(total=decimal(str(value)))))
    assert Decimal(msgspec.json.decode(sent)["order"]["total"]) == value


@pytest.mark.parametrize(("text", "plain"), [("1E+2", "100"), ("12e1", "120"), (" 7.50 ", "7.50"), ("-0", "-0")])
def test_an_exponent_is_written_out(text: str, plain: str) -> None:
    assert str(decimal(text)) == plain


@pytest.mark.parametrize(
    "text", ["", "12,50", "NaN", "sNaN", "Infinity", "-inf", "1e999", "1e-999", "1_000", "٣", "0x10", "1 000", "--1", "9" * 35, "1\x00"]
)
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        decimal(text)


@given(st.text(max_size=60))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        assert decimal(text).is_finite()
    except ValueError:
        pass


def test_instants_travel_in_utc_with_z() -> None:
    local = datetime(2024, 3, 31, 3, 58, 12, 481920, tzinfo=timezone(timedelta(hours=2)))
    assert b'"ordered_at":"2024-03-31T01:58:12.481920Z"' in encode(message(Order(ordered_at=utc(local))))


def test_an_instant_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        utc(datetime(2024, 3, 31))


def test_what_is_absent_is_null() -> None:
    order = msgspec.json.decode(encode(message(Order())))["order"]
    assert order["total"] is None
    assert order["customer"]["address"] is None
    assert order["lines"] == []


def test_the_schema_is_valid_and_accepts_a_message() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    line = Line(line_number=1, article_number="000451-2", quantity=decimal("4"), unit_price=decimal("12.3450"))
    sent = encode(message(Order(order_ref="o", lines=(line,), total=decimal("49.38"), extra={"vendor": {"x": 1}})))
    jsonschema.validate(msgspec.json.decode(sent), schema)


@pytest.mark.parametrize(("field", "value"), [("kind", "order.lost"), ("schema", "order-gateway/2"), ("order", None)])
def test_the_schema_refuses_another_message(field: str, value: object) -> None:
    sent = msgspec.json.decode(encode(message(Order()))) | {field: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(sent, json_schema())


LATER: Any = msgspec.defstruct(
    "Line", [("tax_rate", Decimal | None, None), ("gift", bool, False)], bases=(Line,), frozen=True, kw_only=True
)
KNOWN = Order(
    order_number="PO-1",
    total=decimal("0.0000001"),
    customer=Customer(number="7", address=Address(city="Gent")),
    lines=(Line(line_number=1, quantity=decimal("4"), due_at=AT),),
    references={"claim": "1"},
    flags=("test",),
    extra={"terms": None, "rows": []},
)


def test_a_new_field_makes_no_revision_of_a_known_order() -> None:
    known = Order(lines=(Line(line_number=1),))
    assert content(Order(lines=(LATER(line_number=1),))) == content(known)
    assert content(Order(lines=(LATER(line_number=1, tax_rate=decimal("0")),))) != content(known)
    assert content(Order(lines=(LATER(line_number=1, gift=True),))) != content(known)


def test_the_digests_that_databases_hold_stay_good() -> None:
    """A change here turns every order that was fetched before into a revision."""
    digest = "46ca7f65c77e31d19b0d751085e73087785aafc8980b3b3d32f47429aaac0efa"
    assert hashlib.sha256(content(KNOWN)).hexdigest() == digest
    assert content(Order()) == (
        b'{"order_ref":"","order_number":null,"revision":1,"status":"placed","ordered_at":null,"requested_for":null,"currency":null,'
        b'"total":null,"customer":{"number":null,"name":null,"contact":null,"email":null,"phone":null,"address":null},"ship_to":null,'
        b'"notes":null,"lines":[],"references":{},"flags":[],"extra":{}}'
    )
