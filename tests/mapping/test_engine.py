"""JSONata within bounds: exact, never a float, always at an end, and a place in the text for every refusal."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonata.jsonata import Jsonata

from gateway import read_json
from gateway.mapping import checks, engine
from gateway.mapping.engine import EvaluationError, Expression, ExpressionError, compiled
from gateway.mapping.functions import FUNCTIONS

LINES = [{"sku": "A-1", "qty": "2", "price": "12.3450"}, {"sku": "0002", "qty": "10", "price": "0.10"}]


def result(text: str, document: Any = None) -> Any:
    return Expression(text).evaluate({} if document is None else document)


def refused(text: str, document: Any = None) -> str:
    with pytest.raises(EvaluationError) as error:
        result(text, document)
    return str(error.value)


def not_compiled(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(ExpressionError) as error:
        Expression(text)
    return error.value.problems


# --- what comes out


@pytest.mark.parametrize(("count", "made"), [(0, None), (1, {"a": "A-1"}), (2, [{"a": "A-1"}, {"a": "0002"}])])
def test_one_line_is_an_object_and_none_is_nothing(count: int, made: Any) -> None:
    """JSONata's own way, which `fields` undoes where a list belongs; with [] behind it or around it, it is a list at once."""
    assert result('{"lines": lines.{"a": sku}}', {"lines": LINES[:count]}) == ({} if made is None else {"lines": made})
    wrapped = [] if made is None else made if isinstance(made, list) else [made]
    assert result('{"lines": [lines.{"a": sku}]}', {"lines": LINES[:count]}) == {"lines": wrapped}


def test_what_is_missing_is_left_out_and_null_is_null() -> None:
    assert result('{"a": x.y.z, "b": null, "c": n}', {"n": None}) == {"b": None, "c": None}


def test_the_result_is_plain_json() -> None:
    made = result('{"all": lines.price, "one": lines[0].sku, "range": [1..3], "deep": [[lines[0]]], "yes": true}', {"lines": LINES})
    assert made == {"all": ["12.3450", "0.10"], "one": "A-1", "range": [1, 2, 3], "deep": [[LINES[0]]], "yes": True}

    def kinds(value: Any) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*(kinds(one) for one in inner))

    assert kinds(made) == {dict, list, str, int, bool}


def test_a_document_may_be_a_list_or_a_text() -> None:
    assert result("$[1].sku", LINES) == "0002"
    assert result("$uppercase($)", "abc") == "ABC"


def test_grouping_nothing_makes_no_line_of_it() -> None:
    assert result('($g := lines{"all": $sum(qty)}; {"g": $g, "lines": lines.{"a": sku}, "n": $count(lines)})', {"lines": []}) == {
        "g": {},
        "n": 0,
    }


def test_a_document_is_not_changed_by_its_evaluation() -> None:
    document = {"lines": [], "none": None, "one": [{"a": "1"}]}
    result('[lines{"x": 1}, none, one.a, $merge(one), $ ~> | one | {"a": "2"} |]', document)
    assert document == {"lines": [], "none": None, "one": [{"a": "1"}]}


# --- exactness


@pytest.mark.parametrize("text", ["0.1", "1.5 + x", "12345678901234567890", "9007199254740993", "$mul(price, 0.19)", "1e-3"])
def test_a_number_that_is_not_exact_is_refused_when_the_text_is_read(text: str) -> None:
    assert any("not exact" in said and "quotes" in said for _, _, said in not_compiled(text))


@pytest.mark.parametrize("text", ["1 / 3", "7 / 2", "$map([1, 2], function($x) { $x / 4 })", "9007199254740991 + 9007199254740991"])
def test_a_float_is_refused_where_it_arises(text: str) -> None:
    said = refused(text)
    for function in ("$add", "$mul", "$round", "$div"):
        assert function in said


@pytest.mark.parametrize("text", ["price * 2", "price + price", "-price", "price > 5", "price - 1", "1 < price", "price % 2"])
def test_jsonatas_operators_do_not_touch_the_documents_numbers(text: str) -> None:
    assert "$mul" in refused(text, {"price": "12.50"})


@pytest.mark.parametrize("text", ["lines[qty = 2]", "lines[2 != qty]", "$x.y = 1 and qty = 1", "5 in lines.qty"])
def test_a_comparison_that_can_never_be_true_is_refused_when_the_text_is_read(text: str) -> None:
    assert any("compare" in said for _, _, said in not_compiled("($x := {}; " + text + ")"))


@pytest.mark.parametrize("text", ["lines[qty > '5']", "lines[price < qty]", "lines[0].price >= lines[1].price", "$max(lines.qty) <= '9'"])
def test_two_numbers_are_not_compared_letter_by_letter(text: str) -> None:
    assert "$compare" in refused(text, {"lines": LINES})


def test_other_texts_may_be_compared() -> None:
    document = {"lines": [{"due": "2024-04-02", "n": "x"}, {"due": "2024-05-01", "n": "y"}, {"due": None}, {}]}
    assert result('lines[due and due < "2024-04-10"].n', document) == "x"
    assert "ask first" in refused('lines[due < "2024-04-10"].n', document)
    assert result("lines[0][due < missing]", document) is None
    assert result("$count(lines) > 3", document) is True


def test_whole_numbers_may_be_counted_with() -> None:
    assert result("$count(lines) * 10 + 1", {"lines": LINES}) == 21
    assert result("lines#$i[$i = 1].sku", {"lines": LINES}) == "0002"
    assert result('lines[qty = "2"].sku', {"lines": LINES}) == "A-1"
    assert result("6 / 3") == 2


def test_no_function_that_can_make_a_float_is_left() -> None:
    """Whoever upgrades the library and finds a new function here decides about it."""
    ours = set(FUNCTIONS)
    assert set(Jsonata.static_frame.bindings) - checks.KEPT - ours == set(checks.INSTEAD)
    assert set(Jsonata.static_frame.bindings) >= checks.KEPT


# --- bounds


def spent(text: str, document: Any = None) -> tuple[str, float]:
    before = time.thread_time()
    said = refused(text, document)
    return said, time.thread_time() - before


ENDLESS = [
    "($f := function($n) { $f($n + 1) }; $f(1))",
    '{"a": 1, "b": ($f := function($n) { $f($n) }; $f(1))}',
    '{"a": 1, "b": [1..9000].($x := $; [1..9000].($x + 1))}',
    "$map([1..9000], function($x) { $map([1..9000], function($y) { $x + $y }) })",
    "[1..9000][[1..9000][$ = 1] = 2]",
    "$reduce([1..9000], function($a, $b) { $sort([1..9000], function($x, $y) { $x < $y }) })",
    "$sort([1..9000], function($x, $y) { ($f := function($n) { $f($n) }; $f(1)) })",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_what_would_take_for_ever_is_stopped(text: str) -> None:
    said, seconds = spent(text)
    assert "takes longer than 0.5 s" in said
    assert seconds < 2 * engine.TIME_S


@pytest.mark.parametrize(
    "text",
    [
        "($f := function($n) { 1 + $f($n + 1) }; $f(1))",
        "($f := function($n) { [$f($n)] }; $f(1))",
        "($f := function($n) { $map([1], function($x) { $f($x) }) }; $f(1))",
    ],
)
def test_what_would_go_ever_deeper_is_stopped(text: str) -> None:
    said, seconds = spent(text)
    assert "never stops calling itself" in said
    assert seconds < engine.TIME_S


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$map([1..3000000], function($x) { $x })", "more than 10000 items"),
        ("[1..10000000]", "more than 10000 items"),
        ("$map([1..3000000], $string)", "more than 10000 items"),
        ('($f := function($s, $n) { $n = 0 ? $s : $f($s & $s, $n - 1) }; $f("0123456789abcdef", 60))', "more than 1048576 characters"),
        ('$pad("x", 1000000000)', "$pad"),
        ('$join([1..9999].("0123456789"), $pad("", 9999))', "$join: too long"),
        ('$replace($pad("", 9999, "a"), "a", $pad("", 9999))', "$replace: too long"),
        ('$join($split($pad("", 200000, "a "), " "), "")', "more than 10000 items"),
        ("[1..200].[1..900]", "a result of more than 100000 values"),
    ],
)
def test_what_would_grow_without_end_is_stopped(text: str, said: str) -> None:
    found, seconds = spent(text)
    assert said in found
    assert seconds < engine.TIME_S


def test_a_document_cannot_make_an_innocent_mapping_slow() -> None:
    """What is quadratic inside one step of the library is bounded by the number of items."""
    many = {"lines": [{"sku": str(n), "inner": [str(n)]} for n in range(10_000)], "wide": {str(n): [str(n)] for n in range(10_000)}}
    for text in ("$distinct(lines.sku)", "wide.*", "lines.inner", "**", "lines{sku: $count(inner)}", "$spread(wide)", "$keys(lines)"):
        before = time.thread_time()
        with suppress(EvaluationError):
            Expression(text).evaluate(many)
        assert time.thread_time() - before < 4 * engine.TIME_S, text


def test_a_document_with_too_many_entries_is_refused_before_it_is_looked_at() -> None:
    assert "more than 10000 entries" in refused("1", {"lines": ["x"] * 10_001})
    assert "nested too deeply" in refused("1", read_json(b"[" * 64 + b"]" * 64)[0:0] or _nested(65))


def _nested(deep: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(deep - 1):
        value = [value]
    return value


def test_the_time_of_a_busy_machine_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A good order is no dead letter because the process was not given the processor."""
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert result("$map([1..100], function($x) { $x })")[-1] == 100


# --- what is left out


@pytest.mark.parametrize("text", ["$contains(a, /(a+)+$/)", "$match(a, /x/i)", "$split(a, /,/m)", "$replace(a, /(/, 'b')", "a[$ ~> /^x/]"])
def test_regular_expressions_are_refused_since_nothing_stops_them(text: str) -> None:
    """Python's `re` holds the whole process; `(a+)+$` on thirty letters takes minutes, whatever the bounds of JSONata say."""
    problems = [said for _, _, said in not_compiled(text)]
    assert any("regular expressions are left out" in said or "No terminating /" in said for said in problems)


@pytest.mark.parametrize("name", sorted(checks.INSTEAD))
def test_what_is_left_out_is_refused_by_name(name: str) -> None:
    ((line, _, said),) = not_compiled(f'{{"a":\n ${name}(x)}}')
    assert line == 2
    assert said.startswith(f"${name} is left out")


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    assert not_compiled("$uppercas(a)") == [(1, 9, "there is no $uppercas; did you mean uppercase?")]
    assert not_compiled("(\n  $total := 1;\n  $totl\n)") == [(3, 7, "there is no $totl; did you mean total?")]
    assert (
        result('($t := {"a": "1"}; $f := function($x) { $lookup($t, $x) }; lines@$l#$i.($f("a") & $l.sku & $i))', {"lines": LINES[:1]})
        == "1A-10"
    )


def test_the_bounds_cannot_be_bound_away() -> None:
    assert not_compiled("($__evaluate_entry := null; 1)")[0][2] == "names do not begin with __"
    assert not_compiled("function($__evaluate_exit) { 1 }(null)")[0][2] == "names do not begin with __"


# --- words and places


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{\n  "a": b c\n}', 2, 10),
        ('{\n  "a": 1,\n}', 3, 1),
        ("a.\n b.", 2, 3),
        ('{"a": "b}', 1, 9),
        ("a /* never ends", 1, 3),
        ("", 1, 1),
        ("\n\n", 2, 1),
        ('"\\q"', 1, 2),
        ("`a", 1, 2),
        ("(" * 2000, 1, 1),
    ],
)
def test_a_text_that_cannot_be_read_says_where(text: str, line: int, column: int) -> None:
    ((found_line, found_column, said),) = not_compiled(text)
    assert (found_line, found_column) == (line, column), said
    assert said


def test_a_text_longer_than_any_mapping_is_refused() -> None:
    assert "longer than" in not_compiled("1 " * 40_000)[0][2]


def test_every_problem_of_a_text_is_named_at_once() -> None:
    problems = not_compiled('{\n "a": $now(),\n "b": 0.5,\n "c": /x/\n}')
    assert [line for line, _, _ in problems] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(1;\n $req(nothing, 'a name'))", "line 2, column 6: $req: there is no a name"),
        ("$error('no customer')", "no customer"),
        ("$error('no ' & name)", "refused by $error or $assert"),
        ("$assert(false, name)", "refused by $error or $assert"),
        ("$uppercase(lines)", "argument 1 of $uppercase is of the wrong kind"),
        ("name()", "called, and is no function"),
        ("$uppercase", "a function in the result"),
        ("{name: 1, 'Erika Mustermann': 2}", "Multiple key definitions evaluate to same key"),
        ("{lines: 1}", "Key in object structure must evaluate to a string"),
        ("name.$number()", "$number: not a plain decimal number"),
        ("$dec(name, ',')", "$dec: not a plain decimal number"),
        ("$date(name, 'm/d/yy')", "$date: a date in none of the formats m/d/yy"),
        ("name and $req(nothing, 'it')", "$req: there is no it"),
        ("$decodeUrl('%ff' & name)", "cannot be evaluated (UnicodeDecodeError)"),
        ("$sort(lines)", "cannot be evaluated (TypeError)"),
        ("$single(lines)", "expected exactly 1 matching result"),
        ("$split(name)", "an argument is missing or of the wrong kind"),
        ("lines^($count(qty), [1])", "order-by clause must evaluate to numeric or string"),
    ],
)
def test_a_refusal_says_where_and_why_and_quotes_no_value(text: str, said: str) -> None:
    found = refused(text, {"name": "Erika Mustermann", "lines": LINES})
    assert said in found
    assert "Erika" not in found
    assert "12.3450" not in found


def test_what_is_no_function_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no function" in refused("name()", {"name": "Erika Mustermann"})
    assert "no function" in refused("($x := name; $x(1))", {"name": "Erika Mustermann"})
    assert capsys.readouterr().out == ""


# --- sharing


def test_a_text_is_compiled_once() -> None:
    assert compiled('{"a": 1}') is compiled('{"a": 1}')


def test_two_expressions_do_not_disturb_each_other() -> None:
    one, other = Expression("($f := $mul(?, '2'); lines.$f(qty))"), Expression("$string(lines[0].qty) & 'x'")
    for _ in range(3):
        assert one.evaluate({"lines": LINES}) == ["4", "20"]
        assert other.evaluate({"lines": LINES}) == "2x"


def test_threads_share_an_expression_and_compile_meanwhile() -> None:
    shared = Expression("lines.($f := $mul(?, '2'); {'n': $sku := sku, 'twice': $f(qty), 'all': $map([1..3], function($x) { $x })})")
    gate = threading.Barrier(4)

    def work(n: int) -> Any:
        gate.wait()
        lines = [{"sku": f"{n}-{i}", "qty": str(n)} for i in range(20)]
        for i in range(20):
            Expression(f"$mul(?, '{n}')('{i}') & lines[{i}].sku")
            made = shared.evaluate({"lines": lines})
        return made

    with ThreadPoolExecutor(4) as threads:
        for n, made in enumerate(threads.map(work, range(4))):
            assert made == [{"n": f"{n}-{i}", "twice": str(2 * n), "all": [1, 2, 3]} for i in range(20)]


def test_importing_the_gateway_leaves_the_recursion_limit_alone() -> None:
    code = "import sys; before = sys.getrecursionlimit(); import gateway; assert sys.getrecursionlimit() == before"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- whatever is written


WORDS = 'lines qty . [ ] { } ( ) "a" : , $dec $map $sum $ 1 - * ** & = := $x ? % @ # ^ ~> | function ; null / .. in and'
PIECES = WORDS.split()
JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8) | st.sampled_from(["1", "12.50", "-0.10", "9" * 40]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["lines", "qty", "a", "x"]), inner, max_size=4),
    max_leaves=12,
)


@given(st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join), JSON)
@settings(max_examples=400, deadline=None)
def test_any_text_over_any_document_gives_exact_json_or_a_refusal(text: str, document: Any) -> None:
    def exact(value: Any) -> bool:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return type(value) in (str, int, bool, dict, list, type(None)) and all(exact(one) for one in inner)

    try:
        assert exact(Expression(text).evaluate(document))
    except (ExpressionError, EvaluationError):
        pass
