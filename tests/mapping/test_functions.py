"""What a mapping may call: exact decimals, dates as vendors write them, and a loud word for what is missing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping.dates import BadFormat, to_iso
from gateway.mapping.engine import EvaluationError, Expression
from gateway.mapping.functions import FUNCTIONS, Refusal

amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4)


def result(text: str, **document: Any) -> Any:
    return Expression(text).evaluate(document)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('$dec("12.50")', "12.50"),
        ('$dec(" +7.0 ")', "7.0"),
        ("$dec(3)", "3"),
        ('$dec("1e3")', "1000"),
        ('$dec("12,50", ",")', "12.50"),
        ('$dec("1.234.567,80", ",")', "1234567.80"),
        ('$dec("1 234,5", ",")', "1234.5"),
        ('$dec("-1,234.50", ".")', "-1234.50"),
        ('$dec("1\u00a0234,50", ",")', "1234.50"),
        ('$add("0.1", "0.2")', "0.3"),
        ('$add("0.10", "0.20", "1")', "1.30"),
        ('$sub("1", "0.9")', "0.1"),
        ('$sub("0", "12.50")', "-12.50"),
        ('$mul("12.3450", "4")', "49.3800"),
        ('$mul("12345678901234567.89", "100")', "1234567890123456789.00"),
        ('$div("10", "4", 2)', "2.50"),
        ('$div("2", "3", 4)', "0.6667"),
        ('$round("2.345", 2)', "2.35"),
        ('$round("-2.345", 2)', "-2.35"),
        ('$round("2.5")', "3"),
        ('$round("7", 2)', "7.00"),
        ('$round("7.126", digits)', "7.13"),
        ('$sum(["0.1", "0.2", null, "", 1])', "1.3"),
        ("$sum([])", "0"),
        ('$sum("5")', "5"),
        ('$max(["9", "10.0"])', "10.0"),
        ('$min(["9", "10", "-1"])', "-1"),
        ('$compare("10", "9")', 1),
        ('$compare("1.50", "1.5")', 0),
        ('$compare("-1", 0)', -1),
        ('$number("42")', 42),
        ('$number("42.0")', 42),
        ("$number(true)", 1),
        ('$req("x", "it")', "x"),
        ("$req(0)", 0),
        ("$req(false)", False),
        ('$pad("7", -3, "0")', "007"),
        ('$pad("7", 3)', "7  "),
        ('$pad("1234", -3, "0")', "1234"),
        ('$join(["a", "b"], ", ")', "a, b"),
        ('$replace("a-b-c", "-", "", 1)', "ab-c"),
        ('$replace("1.2", ".", "$0")', "1$02"),
        ('$distinct(["b", "a", "b"])', ["b", "a"]),
    ],
)
def test_a_function_gives(text: str, made: Any) -> None:
    assert result(text, digits="2") == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('$dec("12,50")', "$dec: not a plain decimal number"),
        ('$dec("1.23,50", ",")', "$dec: not a number with a decimal comma"),
        ('$dec("12.50", ",")', "$dec: not a number with a decimal comma"),
        ('$dec("12,345,67", ".")', "$dec: not a plain"),
        ('$dec("12", ";")', "$dec: its second argument"),
        ('$dec("NaN")', "$dec"),
        ('$dec("12 EUR")', "$dec"),
        ("$dec(true)", "$dec: takes numbers"),
        ("$dec(lines)", "$dec: takes numbers"),
        ("$mul(x, x, x, x, x, x)", "$mul: too long"),
        ('$div("1", "0", 2)', "$div: division by zero"),
        ('$div("1", "3")', "$div takes (value, by, digits)"),
        ('$div("1", "3", 19)', "$div: the digits"),
        ('$round("1", "x")', "$round: the digits"),
        ('$round("1", -1)', "$round: the digits"),
        ("$round()", "$round takes (value, digits)"),
        ('$add("1")', "$add takes (first, second, others)"),
        ("$add()", "$add takes (first, second, others)"),
        ('$number("1.5")', "$number: not a whole number"),
        ('$number("9007199254740992")', "$number: not a whole number"),
        ('$req(nothing, "a customer number")', "$req: there is no a customer number"),
        ("$req(null)", "$req: there is no value"),
        ('$req(" ")', "$req: there is no value"),
        ("$req([])", "$req: there is no value"),
        ('$date("31/31/2024", "m/d/yyyy", "iso")', "$date: a date in none of the formats m/d/yyyy, iso"),
        ('$date("2024-04-02")', "$date: takes a text and formats"),
        ('$date(5, "iso")', "$date: takes a text and formats"),
        ('$date("x", "m/d")', "lacks year"),
        ('$pad("x", "3")', "$pad: takes"),
        ('lines[0].a.$pad(3, "0")', "$pad: takes"),
        ('$replace(5, "x", "y")', "$replace: takes"),
        ("$join([1, 2])", "$join: takes"),
        ('$replace("x", "", "y")', "$replace: takes"),
        ('$compare("a", 1)', "$compare: not a plain"),
    ],
)
def test_a_function_refuses(text: str, said: str) -> None:
    with pytest.raises(EvaluationError) as refused:
        result(text, x="999999999999999999", lines=[{"a": "1"}, {"a": "2"}])
    assert said in str(refused.value)


@pytest.mark.parametrize("nothing", ["x.y", "null", '""', '"  "'])
def test_of_nothing_comes_nothing(nothing: str) -> None:
    """A missing field leaves its key out, as everywhere in JSONata; a sum of it is not a wrong number."""
    for call in ("$dec({})", '$add("1", {})', '$sub({}, "1")', '$mul("2", {})', '$div({}, "2", 2)', "$round({}, 2)", '$date({}, "iso")'):
        assert result(call.format(nothing)) is None, call
    for call in ("$compare({}, 1)", "$number({})", "$max({})", "$min({})", "$sum({})"):
        assert result(call.format(nothing)) is None, call


def test_a_function_can_be_called_in_each_of_jsonatas_ways() -> None:
    document = {"price": "2.50", "lines": [{"price": "1.10"}, {"price": "2"}]}
    for text, made in [
        ("price.$round()", "3"),
        ("price ~> $round(1)", "2.5"),
        ("lines.price.$dec()", ["1.10", "2"]),
        ("$map(lines.price, $dec)", ["1.10", "2"]),
        ("$map(lines.price, $round)", ["1", "2"]),
        ("$reduce(lines.price, $add)", "3.10"),
        ("($double := $mul(?, '2'); lines.$double(price))", ["2.20", "4"]),
        ("$filter(lines, function($l) { $compare($l.price, '1.5') > 0 }).price", "2"),
        ("lines[$compare(price, 2) = 0].price", "2"),
        ("$sort(lines, function($a, $b) { $compare($a.price, $b.price) < 0 }).price", ["2", "1.10"]),
        ("price ~> $pad(6, '0')", "2.5000"),
    ]:
        assert result(text, **document) == made, text


@given(amounts, amounts)
def test_arithmetic_is_exact(a: Decimal, b: Decimal) -> None:
    assert Decimal(FUNCTIONS["add"](str(a), str(b))) == a + b
    assert Decimal(FUNCTIONS["sub"](str(a), str(b))) == a - b
    assert Decimal(FUNCTIONS["mul"](str(a), str(b))) == a * b
    assert FUNCTIONS["compare"](str(a), str(b)) == (a > b) - (a < b)


@given(amounts, st.integers(0, 4))
def test_rounding_is_off_by_half_a_unit_at_the_most(a: Decimal, digits: int) -> None:
    rounded = FUNCTIONS["round"](str(a), digits)
    assert abs(Decimal(rounded) - a) <= Decimal(5).scaleb(-digits - 1)
    assert Decimal(rounded).as_tuple().exponent == -digits


# --- dates


@pytest.mark.parametrize(
    ("text", "form", "iso"),
    [
        ("4/2/24", "m/d/yy", "2024-04-02"),
        ("12/31/2024", "m/d/yyyy", "2024-12-31"),
        ("070126", "mmddyy", "2026-07-01"),
        ("02.04.2024 13:45", "dd.mm.yyyy HH:MM", "2024-04-02T13:45:00"),
        ("2.4.2024 9:05:59", "d.m.yyyy H:MM:SS", "2024-04-02T09:05:59"),
        ("Apr 2, 2024", "mmm d, yyyy", "2024-04-02"),
        ("02-APR-24", "dd-mmm-yy", "2024-04-02"),
        ("4/2/24 12:05 AM", "m/d/yy h:MM am", "2024-04-02T00:05:00"),
        ("4/2/24 12:05 p.m.", "m/d/yy h:MM am", "2024-04-02T12:05:00"),
        ("4/2/24 1:05pm", "m/d/yy h:MMam", "2024-04-02T13:05:00"),
        ("20240402T1345", "yyyymmddTHHMM", "2024-04-02T13:45:00"),
        ("2024-04-02T13:45:00+02:00", "iso", "2024-04-02T13:45:00+02:00"),
        ("2024-04-02", "iso", "2024-04-02"),
    ],
)
def test_a_date_is_read_by_its_format(text: str, form: str, iso: str) -> None:
    assert to_iso(text, form) == iso


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("13/2/24", "m/d/yy"),
        ("2/30/24", "m/d/yy"),
        ("4/2/2024", "m/d/yy"),
        ("4/2/24 ", "m/d/yy"),
        ("4-2-24", "m/d/yy"),
        ("٤/2/24", "m/d/yy"),
        ("0/2/24", "m/d/yy"),
        ("Foo 2, 2024", "mmm d, yyyy"),
        ("4/2/24 13:05 PM", "m/d/yy h:MM am"),
        ("4/2/24 24:05", "m/d/yy H:MM"),
        ("4.2.24", "m?d?yy"),
        ("soon", "iso"),
        ("4/2/24", "iso"),
    ],
)
def test_a_date_of_another_format_does_not_fit(text: str, form: str) -> None:
    assert to_iso(text, form) is None


@pytest.mark.parametrize("form", ["", "m/d", "yyyy", "m/d/yy/yy", "d.d.yyyy", "m/d/yy h:MM", "m/d/yy am", "m/d/yy" + "x" * 60])
def test_a_format_that_says_too_little_or_too_much_is_refused(form: str) -> None:
    with pytest.raises(BadFormat):
        to_iso("4/2/24", form)


def test_the_first_format_that_fits_wins_and_blanks_around_do_not_matter() -> None:
    assert result('$date(" 4/2/24 ", "iso", "d.m.yy", "m/d/yy", "d/m/yy")') == "2024-04-02"


@given(st.dates())
def test_any_date_is_found_again(date: Any) -> None:
    assert to_iso(f"{date.month}/{date.day}/{date.year:04}", "m/d/yyyy") == date.isoformat()
    assert to_iso(date.isoformat(), "yyyy-mm-dd") == date.isoformat()


@given(st.text(max_size=20), st.text("dmyHhMSa/. ", max_size=10))
def test_no_format_and_no_text_breaks_it(text: str, form: str) -> None:
    try:
        made = to_iso(text, form)
    except BadFormat:
        return
    assert made is None or made[:2].isdigit()


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=10)


@given(st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=4))
def test_a_function_gives_or_refuses_whatever_it_is_given(given_: list[Any]) -> None:
    for function in FUNCTIONS.values():
        try:
            made = function(*given_)
        except (Refusal, TypeError):
            continue
        assert not isinstance(made, float)
