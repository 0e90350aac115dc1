"""A record as an event and as an order. The numbers of the edge cases are those of vendors/supercat.md, section 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gateway_supercat
import pytest
from gateway_supercat.constructed import PROMOTION, line, record
from gateway_supercat.record import found
from gateway_supercat.settings import Settings, Start
from gateway_supercat.unknown import unknown_fields, used_fields
from gateway_supercat.versions import split_number

from gateway import Event, Hold, MappingError, Order, Unreadable, missing_fields
from gateway.testing import check_connector, load_samples

SAMPLES = Path(__file__).parent.parent / "samples"
UUID = "0A1B2C3D-4444-4444-8444-0000000000AA"


def written(number: str = "6385-033124-042", id: Any = 1000001, **fields: Any) -> bytes:
    return json.dumps(record(id, number=number, uuid=UUID, **fields), ensure_ascii=False).encode()


@pytest.fixture
def normalize(connector: Any, settings: Any) -> Any:
    def make(document: bytes, previous: Order | None = None, **changes: Any) -> Order:
        made: Order = connector(settings(**changes)).normalize(Event(key="k", order_ref="k"), document, previous)
        return made

    return make


def test_the_samples_pass(settings: Any) -> None:
    samples = load_samples(SAMPLES)
    assert len(samples) == 4
    assert check_connector(gateway_supercat, settings(), samples) == []


def test_a_record_is_an_event_named_by_its_id_of_an_order_named_by_its_uuid(settings: Any) -> None:
    document = written()
    id, event = found(document, settings())
    assert isinstance(event, Event)
    assert (id, event.key, event.order_ref, event.reference) == (1000001, "1000001", UUID.lower(), "6385-033124-042")
    assert (event.document, event.ignored) == (document, None)


def test_content_is_the_record_in_one_spelling(settings: Any) -> None:
    def content(document: bytes, **changes: Any) -> bytes | None:
        event = found(document, settings(**changes))[1]
        assert isinstance(event, Event)
        return event.content

    one = written()
    fields = json.loads(one)
    for same in (
        json.dumps(fields, indent=1).encode(),
        json.dumps(dict(reversed(fields.items())), ensure_ascii=True).encode(),
        json.dumps(fields | {"id": "1000001", "uuid": UUID.lower()}).encode(),
    ):
        assert content(same) == content(one)
    for other in ({"id": 1000002}, {"order_number": "6385-033124-042-1"}, {"placeholder_po": "1"}, {"more": None}):
        assert content(json.dumps(fields | other).encode()) != content(one)
    seen = json.dumps(fields | {"downloads": 2}).encode()
    assert content(seen, volatile=("downloads",)) == content(one, volatile=("downloads",))


def test_what_is_up_to_the_start_is_ignored(settings: Any) -> None:
    for after_id, ignored in ((1000000, False), (1000001, True), (1000002, True)):
        event = found(written(), settings(start=Start(after_id=after_id)))[1]
        assert isinstance(event, Event)
        assert (event.ignored is not None) is ignored


@pytest.mark.parametrize(
    ("number", "base", "version", "usual"),
    [
        ("6385-031318-392", "6385-031318-392", None, True),
        ("6385-031318-392-1", "6385-031318-392", "1", True),
        ("153642-070126-175-12", "153642-070126-175", "12", True),
        ("6385-031318-392-1-1", "6385-031318-392-1-1", None, False),
        ("XYZ-123", "XYZ-123", None, False),
        ("6385-031318", "6385-031318", None, False),
        ("६३-031318-392-1", "६३-031318-392-1", None, False),
    ],
)
def test_case_7_a_suffix_is_one_only_behind_a_base(settings: Any, number: str, base: str, version: str | None, usual: bool) -> None:
    made = split_number(number, settings())
    assert (made.base, made.version, made.is_usual) == (base, version, usual)


def test_case_7_numbers_of_another_form_are_flagged_until_the_patterns_fit(normalize: Any) -> None:
    assert "unusual_order_number" in normalize(written("XYZ-123")).flags
    patterns = {"base_pattern": r"^[A-Z]+-\d+$", "suffix_pattern": r"/v(\d+)$"}
    assert normalize(written("XYZ-123"), **patterns).flags == ()
    with pytest.raises(Hold, match="version 2 of XYZ-123"):
        normalize(written("XYZ-123/v2"), **patterns)


def test_case_7_an_item_number_may_end_in_a_dash_and_a_digit(normalize: Any) -> None:
    assert normalize(written()).lines[0].article_number == "20BRAD-1"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": None}, "its id"),
        ({"id": ""}, "its id"),
        ({"id": 0}, "its id"),
        ({"id": -5}, "its id"),
        ({"id": 1.5}, "its id"),
        ({"id": True}, "its id"),
        ({"id": "12a"}, "its id"),
        ({"id": "٣"}, "its id"),
        ({"id": 10**18}, "its id"),
        ({"uuid": None}, "no uuid"),
        ({"uuid": "  "}, "no uuid"),
        ({"uuid": "null"}, "no uuid"),
        ({"uuid": " None "}, "no uuid"),
        ({"uuid": "undefined"}, "no uuid"),
        ({"uuid": ["a"]}, "no uuid"),
        ({"uuid": "00000000-0000-0000-0000-000000000000"}, "no uuid"),
        ({"order_number": None}, "no order_number"),
        ({"order_number": " "}, "no order_number"),
        ({"order_number": {}}, "no order_number"),
        ({"order_number": "6385\n1"}, "no order_number"),
    ],
)
def test_case_12_a_record_that_cannot_be_named_or_marked_is_a_dead_letter(settings: Any, change: dict[str, Any], problem: str) -> None:
    document = json.dumps(json.loads(written()) | change).encode()
    event = found(document, settings())[1]
    assert isinstance(event, Unreadable)
    assert problem in event.reason
    assert event.document == document
    assert "6385" not in event.reason


@pytest.mark.parametrize("missing", ["id", "uuid", "order_number"])
def test_case_12_a_record_without_one_of_its_names_is_a_dead_letter(settings: Any, missing: str) -> None:
    fields = json.loads(written())
    del fields[missing]
    assert isinstance(found(json.dumps(fields).encode(), settings())[1], Unreadable)


@pytest.mark.parametrize("text", [b"7", b"null", b'"text"', b"[1]", b'{"id": 1, "id": 2}', b'{"id": NaN}', b"\xff", b'{"a": "\\ud800"}'])
def test_case_12_what_is_no_order_at_all_is_a_dead_letter(settings: Any, text: bytes) -> None:
    assert isinstance(found(text, settings())[1], Unreadable)


def test_case_12_letter_case_of_the_uuid_and_an_id_as_text_make_no_difference(settings: Any) -> None:
    fields = json.loads(written())
    other = json.dumps(fields | {"id": " 01000001 ", "uuid": f" {UUID.lower()}"}).encode()
    for event in (found(written(), settings())[1], found(other, settings())[1]):
        assert isinstance(event, Event)
        assert (event.key, event.order_ref) == ("1000001", UUID.lower())


def test_case_16_lines_without_a_price_or_a_quantity_stay_texts(normalize: Any) -> None:
    lines = [line(0, 2), PROMOTION, line(1, 0), line(2, 3, price="0.00"), line(3, -1)]
    order = normalize(written(lines=lines))
    assert [(one.line_number, one.article_number, one.name, str(one.quantity), str(one.unit_price)) for one in order.lines] == [
        (1, "20BRAD-1", None, "2", "625.00"),
        (2, None, "PROMO26", "None", "None"),
        (3, None, "9KAYABLD71CL", "None", "None"),
        (4, "LAMP_7", None, "3", "0.00"),
        (5, "A-1001", None, "-1", "1249.00"),
    ]
    assert [one.notes for one in order.lines] == [None, "10% off over $3,500", "without a quantity", None, None]
    assert order.flags == ("text_lines", "zero_price")
    assert [text["article_number"] for text in order.extra["text_lines"]] == ["PROMO26", "9KAYABLD71CL"]
    assert order.extra["text_lines"][1]["unit_price"] == "280.00"


def test_case_16_an_order_of_texts_alone_is_flagged(normalize: Any) -> None:
    assert normalize(written(lines=[PROMOTION])).flags == ("text_lines", "empty_order")
    assert "empty_order" in normalize(written(placeholder_lines=[])).flags


def test_case_16_they_go_as_goods_where_somebody_says_so(normalize: Any) -> None:
    order = normalize(written(lines=[line(0, 2), PROMOTION]), text_lines="goods")
    assert [(one.article_number, str(one.quantity)) for one in order.lines] == [("20BRAD-1", "2"), ("PROMO26", "1")]
    assert (order.flags, order.extra) == ((), {})


def test_case_16_a_discount_of_the_order_is_not_lost(normalize: Any) -> None:
    assert normalize(written(placeholder_discount="5.00")).extra == {"placeholder_discount": "5.00"}


@pytest.mark.parametrize("text", ["\"quoted\" 'twice' \\", "tab\tline\r\nbreak", "é Ñ ø Ł 日本 🛋 e\u0301", "x" * 50, "<b>&amp;"])
def test_case_17_texts_arrive_letter_by_letter(normalize: Any, text: str) -> None:
    order = normalize(written(lines=[line(0, 1, note=text)], placeholder_customer={"number": "0042", "name": text}, free=text))
    assert (order.lines[0].notes, order.customer.name, order.extra["free"]) == (text, text, text)


def test_what_the_mapping_does_not_speak_of_goes_into_extra(normalize: Any) -> None:
    more: dict[str, Any] = {
        "season": "Fall",
        "rate": 1.50,
        "nested": {"a": [1, None]},
        "off": None,
        "yes": True,
        "placeholder_custom": {"season": "mapped"},
    }
    order = normalize(written(**more))
    assert order.extra == {"season": "mapped", "rate": "1.5", "nested": {"a": ["1", None]}, "yes": True}


@pytest.mark.parametrize(
    ("mapping", "spoken"),
    [
        ("a", {"a"}),
        ("a.b", {"a"}),
        ('{"key": a.b, "other": c}', {"a", "c"}),
        ("[a.{'x': b, 'y': (c; d)}]", {"a"}),
        ("a[b = 'c'].d", {"a"}),
        ("a{b: c}", {"a"}),
        ("a^(b)", {"a"}),
        ("a.(b & $$.c)", {"a", "c"}),
        ("$.a & $$.`b c` & `d`", {"a", "b c", "d"}),
        ("/* a b */ (c ? d : e)", {"c", "d", "e"}),
        ("($x := a; $x.b)", {"a"}),
        ("$map(a, function($l) { $l.b })", {"a"}),
        ("$f(a)[0].b and c in d", {"a", "c", "d"}),
        ("'a' & \"b\" & $lookup($, 'c')", set()),
        ("", set()),
    ],
)
def test_a_mapping_speaks_of_the_names_that_begin_its_paths(mapping: str, spoken: set[str]) -> None:
    assert used_fields(mapping) == spoken


def test_names_of_the_record_are_never_unknown() -> None:
    assert unknown_fields({"id": "1", "uuid": "u", "order_number": "n", "a": "1"}, "b") == {"a": "1"}


def test_the_example_makes_complete_orders_of_the_samples(normalize: Any) -> None:
    for sample in load_samples(SAMPLES):
        order = released(normalize, sample.body)
        assert missing_fields(order) == (["lines: missing"] if "empty_order" in order.flags else [])


def released(normalize: Any, document: bytes) -> Order:
    try:
        order: Order = normalize(document)
    except Hold as hold:
        return hold.order or Order()
    return order


def test_a_mapping_that_does_not_fit_is_a_dead_letter_that_names_every_problem(normalize: Any) -> None:
    with pytest.raises(MappingError, match=r"lines\[0\].quantity.*foo"):
        normalize(written(), mapping='{"lines": [placeholder_lines.{"quantity": item}], "foo": 1}')


def test_the_order_number_is_the_records_own_unless_the_mapping_has_another(normalize: Any) -> None:
    assert normalize(written(), mapping="{}").order_number == "6385-033124-042"
    assert normalize(written(), mapping='{"order_number": "E-" & order_number}').order_number == "E-6385-033124-042"


@pytest.mark.parametrize("id", [1000001, "999999"])
def test_the_id_says_how_new_a_record_is_as_a_number(id: Any) -> None:
    _, event = found(written(id=id), Settings())
    assert isinstance(event, Event)
    assert event.sequence == int(id)


def test_a_version_with_another_base_number_is_flagged(normalize: Any) -> None:
    previous = normalize(written())
    assert normalize(written("6385-033124-042-1", id=1000002), previous).flags == ()
    assert normalize(written("6385-033124-043", id=1000002), previous).flags == ("other_base_number",)
