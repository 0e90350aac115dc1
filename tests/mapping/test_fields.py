"""What a mapping made, as an order: strict, every problem at once by its path, and never a value in a problem."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway import Address, Customer, Line, MappingError, Order, PermanentError, missing_fields
from gateway.mapping.fields import MOST_PROBLEMS, to_order

WHOLE: dict[str, Any] = {
    "order_number": "PO-7",
    "status": "placed",
    "ordered_at": "2024-03-31T03:58:12.481920+02:00",
    "requested_for": "2024-04-02",
    "currency": "DKK",
    "total": "49.3800",
    "customer": {"number": "0042", "name": "N", "contact": "C", "email": "e", "phone": "p", "address": {"city": "X", "country": "DK"}},
    "ship_to": {"name": "S", "street": "1", "street2": "2", "postal_code": "0100", "region": "r", "phone": "p", "email": "e"},
    "notes": "a\nb",
    "lines": [
        {"line_number": "10", "article_number": "0001-2", "scan_code": "400", "name": "A", "quantity": "4", "unit": "pcs",
         "unit_price": "12.3450", "line_total": "49.3800", "interval_days": 28, "due_at": "2024-04-02T08:00:00Z",
         "status": "scheduled", "notes": "n"},
    ],
    "references": {"claim": "C-1"},
    "flags": ["test"],
    "extra": {"terms": "30", "deep": [{"n": 1, "yes": True, "none": None}]},
}  # fmt: skip


def problems(made: Any, **more: Any) -> list[str]:
    with pytest.raises(MappingError) as refused:
        to_order(made, **more)
    assert str(refused.value) == "; ".join(refused.value.problems)
    return list(refused.value.problems)


def test_every_field_of_an_order_can_be_given() -> None:
    order = to_order(WHOLE)
    assert order == Order(
        order_number="PO-7",
        ordered_at=datetime(2024, 3, 31, 1, 58, 12, 481920, tzinfo=UTC),
        requested_for=datetime(2024, 4, 2, tzinfo=UTC),
        currency="DKK",
        total=Decimal("49.3800"),
        customer=Customer(number="0042", name="N", contact="C", email="e", phone="p", address=Address(city="X", country="DK")),
        ship_to=Address(name="S", street="1", street2="2", postal_code="0100", region="r", phone="p", email="e"),
        notes="a\nb",
        lines=(
            Line(
                line_number=10,
                article_number="0001-2",
                scan_code="400",
                name="A",
                quantity=Decimal(4),
                unit="pcs",
                unit_price=Decimal("12.3450"),
                line_total=Decimal("49.3800"),
                interval_days=28,
                due_at=datetime(2024, 4, 2, 8, tzinfo=UTC),
                status="scheduled",
                notes="n",
            ),
        ),
        references={"claim": "C-1"},
        flags=("test",),
        extra={"terms": "30", "deep": [{"n": 1, "yes": True, "none": None}]},
    )
    given = set(WHOLE) | {"order_ref", "revision"}
    assert given == {field.name for field in msgspec.structs.fields(Order)}


@pytest.mark.parametrize("nothing", [None, "", "  \t"])
def test_what_is_null_or_blank_is_absent(nothing: Any) -> None:
    blank = {"customer": {"number": nothing, "address": nothing}, "references": {"a": nothing}, "flags": [nothing], "extra": nothing}
    line = {"quantity": nothing, "due_at": nothing, "status": nothing, "line_number": nothing, "name": nothing}
    order = to_order({"total": nothing, "ordered_at": nothing, "status": nothing, "ship_to": nothing, "lines": [line], **blank})
    assert order == Order(lines=(Line(line_number=1),))
    assert to_order({"lines": nothing, "customer": nothing, "references": nothing, "flags": nothing}) == Order()


def test_one_line_is_a_list_of_one_and_lines_are_counted() -> None:
    assert to_order({"lines": {"article_number": "A"}}).lines == (Line(line_number=1, article_number="A"),)
    assert [line.line_number for line in to_order({"lines": [{}, {"line_number": 20}, {}]}).lines] == [1, 20, 3]
    assert to_order({"lines": []}).lines == ()
    assert to_order({"flags": "test"}).flags == ("test",)


def test_instants_become_utc() -> None:
    new_york = ZoneInfo("America/New_York")
    assert to_order({"requested_for": "2024-04-02"}, zone=new_york).requested_for == datetime(2024, 4, 2, 4, tzinfo=UTC)
    assert to_order({"requested_for": "2024-01-02T10:00"}, zone=new_york).requested_for == datetime(2024, 1, 2, 15, tzinfo=UTC)
    assert to_order({"requested_for": "2024-04-02T10:00Z"}, zone=new_york).requested_for == datetime(2024, 4, 2, 10, tzinfo=UTC)
    seven_digits = to_order({"ordered_at": "2024-04-02T10:00:00.1234567+02:00"}).ordered_at
    assert seven_digits == datetime(2024, 4, 2, 8, 0, 0, 123456, tzinfo=UTC)


def test_the_currency_of_the_source_serves_where_the_document_has_none() -> None:
    assert to_order({}, currency="DKK").currency == "DKK"
    assert to_order({"currency": "SEK"}, currency="DKK").currency == "SEK"
    assert to_order({"currency": ""}, currency="DKK").currency == "DKK"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "the result: must be an object, as in { ... }, and is nothing"),
        ([{}, {}], "the result: must be an object, as in { ... }, and is a list of 2; x[0] takes the first"),
        ("x", "the result: must be an object, as in { ... }, and is a text"),
        ({"order_nr": "x"}, "order_nr: unknown key; did you mean order_number?"),
        ({"Lines": []}, "Lines: unknown key; did you mean lines?"),
        ({"customer": {"no": "x"}}, "customer.no: unknown key; there is address, contact, email, name, number, phone"),
        ({"customer": {"address": {"zip_code": "x"}}}, "customer.address.zip_code: unknown key; did you mean postal_code?"),
        ({"lines": [{}, {"qty": "1", "unit_price": "2"}]}, "lines[1].qty: unknown key; there is article_number"),
        ({"order_ref": "x"}, "order_ref: is filled in by the gateway; leave it out"),
        ({"revision": 2}, "revision: is filled in by the gateway; leave it out"),
        ({"order_number": 7}, "order_number: must be a text, and is a number"),
        ({"order_number": ["a", "b"]}, "order_number: must be a text, and is a list of 2; x[0] takes the first"),
        ({"notes": True}, "notes: must be a text, and is true or false"),
        ({"notes": "a\x00b"}, "notes: has a NUL or half of a surrogate pair in it"),
        ({"notes": "\ud83d"}, "notes: has a NUL"),
        ({"total": "12,50"}, "total: must be a decimal number, as in 12.50, and is a text that is no number; $dec reads a decimal comma"),
        ({"total": True}, "total: must be a decimal number"),
        ({"total": "9" * 35}, "total: must be a decimal number"),
        ({"total": "NaN"}, "total: must be a decimal number"),
        ({"total": {"amount": "1"}}, "total: must be a decimal number, as in 12.50, and is an object"),
        ({"status": "Placed"}, "status: must be one of placed, scheduled, ready_for_input"),
        ({"status": ["placed"]}, "status: must be one of"),
        ({"lines": [{"status": "new"}]}, "lines[0].status: must be one of"),
        ({"ordered_at": "4/2/24"}, "ordered_at: must be an ISO 8601 date or time, and is a text that is not one; see $date"),
        ({"ordered_at": 1711929600000}, "ordered_at: must be an ISO 8601 date or time, and is a number"),
        ({"ordered_at": "0001-01-01T00:00:00+14:00"}, "ordered_at: must be an ISO 8601"),
        ({"lines": [{"line_number": "1.5"}]}, "lines[0].line_number: must be a whole number from 1 on"),
        ({"lines": [{"line_number": 0}]}, "lines[0].line_number: must be a whole number from 1 on"),
        ({"lines": [{"interval_days": "10000000000"}]}, "lines[0].interval_days: must be a whole number"),
        ({"lines": ["A-1"]}, "lines[0]: must be an object, as in { ... }, and is a text"),
        ({"lines": [[{}]]}, "lines[0]: must be an object, as in { ... }, and is a list of 1"),
        ({"lines": [None]}, "lines[0]: must be an object, as in { ... }, and is nothing"),
        ({"customer": "007"}, "customer: must be an object"),
        ({"customer": [{"number": "007"}]}, "customer: must be an object, as in { ... }, and is a list of 1; x[0] takes the first"),
        ({"ship_to": []}, "ship_to: must be an object"),
        ({"references": {"id": 5}}, "references.id: must be a text, and is a number"),
        ({"references": ["x"]}, "references: must be an object of texts"),
        ({"references": {"a\x00": "x"}}, "references: has a NUL"),
        ({"flags": ["a", 5]}, "flags[1]: must be a text"),
        ({"extra": "x"}, "extra: must be an object"),
        ({"extra": {"a": [{"b": "\x00"}]}}, "extra.a[0].b: has a NUL"),
        ({"extra": {"a\ud800": 1}}, "extra.a\\ud800: has a NUL"),
        ({"lines": [{"line_number": 1}, {"line_number": 1}]}, "lines[1].line_number: is that of lines[0] too; leave line_number out"),
        ({"lines": [{"line_number": "2"}, {}]}, "lines[1].line_number: is that of lines[0] too"),
        ({"currency": "eur"}, "currency: must be three capital letters, as in EUR"),
        ({"currency": "string"}, "currency: must be three capital letters"),
        ({"currency": "EURO"}, "currency: must be three capital letters"),
    ],
)
def test_what_does_not_fit_is_refused_by_path(made: Any, said: str) -> None:
    (found,) = problems(made)
    assert found.startswith(said)


def test_every_problem_is_named_at_once() -> None:
    made = {"total": "x", "status": "x", "foo": 1, "customer": {"bar": 1}, "lines": [{"quantity": "x"}, {"due_at": "x"}]}
    paths = [problem.split(":")[0] for problem in problems(made)]
    assert paths == ["total", "status", "foo", "customer.bar", "lines[0].quantity", "lines[1].due_at"]
    assert len(problems({"lines": [{"quantity": "x"}] * 1000})) == MOST_PROBLEMS


def test_no_value_of_the_document_is_in_a_problem() -> None:
    name = "Erika Mustermann"
    made: dict[str, Any] = dict.fromkeys(("total", "status", "ordered_at", "lines", "customer", "extra", "references", "ship_to"), name)
    made |= {"order_number": [name], "flags": [[name]]}
    assert "Erika" not in "\n".join(problems(made))


def test_a_key_that_is_shown_can_steer_no_terminal() -> None:
    (found,) = problems({"\x1b[31m" + "x" * 200 + "\n": 1})
    assert found.isprintable()
    assert len(found) < 300


def test_a_mapping_error_makes_a_dead_letter_with_its_whole_text() -> None:
    assert issubclass(MappingError, PermanentError)
    assert issubclass(MappingError, ValueError)


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        ({}, ["order_number: missing, and there are no references", "lines: missing"]),
        ({"references": {"id": "1"}, "lines": {"name": "A", "quantity": "0"}}, []),
        ({"order_number": "1", "status": "cancelled"}, []),
        ({"order_number": "1", "lines": [{"article_number": "A", "quantity": "1"}, {"scan_code": "4"}]}, ["lines[1].quantity: missing"]),
        ({"order_number": "1", "lines": [{"name": "A", "notes": "10% off"}, {"notes": "call first"}]}, []),
        ({"order_number": "1", "lines": {"name": "A", "notes": "10% off", "unit_price": "1"}}, ["lines[0].quantity: missing"]),
        ({"order_number": "1", "lines": {"quantity": "1"}}, ["lines[0].article_number: missing, and so are scan_code and name"]),
    ],
)
def test_what_no_erp_can_do_without_is_named(made: Any, missing: list[str]) -> None:
    assert missing_fields(to_order(made)) == missing
