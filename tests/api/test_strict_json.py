"""JSON read strictly: what means two things is refused, and no number loses a digit."""

from __future__ import annotations

import json
from decimal import Decimal
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import list_apart, read_json
from gateway.api.strict_json import MAX_DEPTH, check_shape


def test_numbers_become_the_texts_they_were_written_as() -> None:
    assert read_json(b'{"a": 12.3450, "b": 007.5}'.replace(b"007", b"7")) == {"a": "12.3450", "b": "7.5"}
    assert read_json(b"[0.30, -0.0, 12345678901234567890.123, 1]") == ["0.30", "-0.0", "12345678901234567890.123", "1"]
    assert read_json(b'[true, false, null, "x"]') == [True, False, None, "x"]


@pytest.mark.parametrize(("written", "plain"), [(b"1e3", "1000"), (b"1.50E+2", "150"), (b"25e-4", "0.0025"), (b"1e-7", "0.0000001")])
def test_an_exponent_is_written_out(written: bytes, plain: str) -> None:
    assert read_json(written) == plain


def test_a_number_beyond_all_bounds_stays_a_text_that_is_no_amount() -> None:
    assert read_json(b"[1e999, 1e-999]") == ["1e999", "1e-999"]
    assert read_json(b"[" + b"9" * 5000 + b"]") == ["9" * 5000]


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_every_number_keeps_its_value(value: Decimal) -> None:
    assert Decimal(read_json(f"[{value}]".encode())[0]) == value or abs(value.adjusted()) > 18


@pytest.mark.parametrize(
    ("body", "elements"),
    [
        (
            b'{"x": {"data": [0]}, "data": [1, {"a": NaN, "b": [1, 2]}, "],\\" \\ud83d"], "links": 5}',
            [b"1", b'{"a": NaN, "b": [1, 2]}', b'"],\\" \\ud83d"'],
        ),
        (b'{"data": []}', []),
        (b'{"data": [ [[[[ ], 2] }', []),
        (b'{"data": [{"id": 1}, {"id', []),
        (b'{"other": [1]}', []),
        (b'{"data": 5}', []),
        (b"[1, 2]", []),
        (b"", []),
    ],
)
def test_a_list_is_taken_apart_whatever_is_wrong_inside_it(body: bytes, elements: list[bytes]) -> None:
    rest, found = list_apart(body, "data")
    assert found == elements
    assert rest == (b'{"x": {"data": [0]}, "data": [], "links": 5}' if elements else rest)


def test_a_byte_order_mark_is_dropped() -> None:
    assert read_json(b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not JSON at line 1, column 1"),
        (b'{"a": 1,\n "b" 2}', "not JSON at line 2, column 6"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'"line\nbreak"', "not JSON"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b'{"a": {"sku": 1, "sku": 2}}', "the key sku twice"),
        (b'{"a": 1, "\\u0061": 2}', "the key a twice"),
        (b'{"name": "\xff"}', "not UTF-8 at byte 10"),
        ('{"name": "ü"}'.encode("utf-16"), "not UTF-8"),
        (b'["\\ud83d"]', "surrogate"),
        (b'[{"\\uDC00": 1}]', "surrogate"),
        (b"[" * 65 + b"]" * 65, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'"' + b"x" * 1024 * 1024 + b'"', "a document of 1048578 bytes; 1048576 are allowed"),
    ],
)
def test_what_could_be_read_in_two_ways_or_not_at_all_is_refused(document: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_json(document)


def test_a_whole_surrogate_pair_is_a_letter() -> None:
    assert read_json(b'["\\ud83d\\udecb"]') == ["🛋"]
    assert read_json(b'["\\\\ud83d"]') == ["\\ud83d"]


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_text_that_does_not_end_is_seen_at_once(end: bytes) -> None:
    body = b'{"data": [1, "' + b'\\"' * 500_000 + end
    began = perf_counter()
    assert list_apart(body, "data") == (b"", [])
    assert perf_counter() - began < 5, "one look for each of its quotation marks takes hours"


def test_a_list_with_a_poisoned_element_is_taken_apart() -> None:
    body = b'{"a": "]\\"", "data": [{"n": NaN, "t": "x,]\\\\"}, [1, 2], "," ], "more": true}'
    assert list_apart(body, "data") == (
        b'{"a": "]\\"", "data": [], "more": true}',
        [b'{"n": NaN, "t": "x,]\\\\"}', b"[1, 2]", b'","'],
    )


def test_what_is_as_deep_as_allowed_is_read() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(ValueError, match="more than 3 entries"):
        check_shape({"a": [1, 2, 3, 4]}, 3)


def test_a_refusal_quotes_no_value() -> None:
    for document in (b'{"name": "Erika Mustermann" "x"}', b'{"name": "Erika Mustermann", "name": "Erika Mustermann"}'):
        with pytest.raises(ValueError) as refused:
            read_json(document)
        assert "Erika" not in str(refused.value)


@given(
    st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
)
def test_everything_else_is_read_as_json_reads_it(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value or "\\ud" in json.dumps(value)
