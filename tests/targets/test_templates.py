"""What an order says cannot break out of its place: addresses, OData filters, queries, headers."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.urls import Url
from gateway.targets.templates import Template, Unfilled, UrlTemplate

BASE = {"base": "https://erp.example/api"}
anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def url(text: str, number: Any, **constants: str) -> str:
    return Template.parse(text).fill_url({"order": {"order_number": number}}, {**BASE, **constants})


def header(text: str, number: Any) -> str:
    return Template.parse(text).fill("header", {"order": {"order_number": number}}, BASE)


# --- the path


def test_a_slash_in_an_order_number_stays_in_its_segment() -> None:
    assert url("{base}/orders/{order.order_number|path}/lines", "PO/1") == "https://erp.example/api/orders/PO%2F1/lines"


@pytest.mark.parametrize("number", [".", "..", " .. "])
def test_an_order_number_that_is_another_path_is_refused(number: str) -> None:
    for template in ("{base}/orders/{order.order_number|path}", "{base}/orders/{order.order_number}"):
        with pytest.raises(Unfilled, match="another path"):
            url(template, number)


@given(number=anything)
def test_no_order_number_changes_the_shape_of_an_address(number: str) -> None:
    for template in ("{base}/o/{order.order_number|path}/x?a={order.order_number|query}&b=1", "{base}/o/{order.order_number}/x?a=1&b=1"):
        try:
            made = url(template, number)
        except Unfilled:
            assert number.strip() in (".", "..")
            continue
        parts = urlsplit(made)
        assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "erp.example", "")
        first, api, o, segment, last = parts.path.split("/")
        assert (first, api, o, last, unquote(segment)) == ("", "api", "o", "x", number)
        assert [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)] == ["a", "b"]
        assert made.isascii()
        assert made.isprintable()
        assert " " not in made


# --- OData


def test_an_apostrophe_cannot_end_an_odata_literal() -> None:
    made = url("{base}/orders?$filter=externalDocumentNumber eq '{order.order_number|odata}'", "O'Neill' or 1 eq 1 or 'a' eq 'a")
    value = dict(parse_qsl(urlsplit(made).query))["$filter"]
    assert value == "externalDocumentNumber eq 'O''Neill'' or 1 eq 1 or ''a'' eq ''a'"


@given(number=anything)
def test_every_odata_literal_is_read_back_as_what_was_said(number: str) -> None:
    made = url("{base}/Orders?$filter=NumAtCard eq '{order.order_number|odata}' and Cancelled eq 'tNO'", number)
    ((name, value),) = parse_qsl(urlsplit(made).query, keep_blank_values=True)
    assert name == "$filter"
    literal = value.removeprefix("NumAtCard eq '").removesuffix("' and Cancelled eq 'tNO'")
    assert literal.replace("''", "").count("'") == 0
    assert literal.replace("''", "'") == number


def test_an_odata_key_in_a_path_keeps_slashes_and_apostrophes_inside() -> None:
    assert url("{base}/Orders('{order.order_number|odata}')", "a'/b") == "https://erp.example/api/Orders('a%27%27%2Fb')"


# --- query and headers


def test_a_query_value_is_not_encoded_twice() -> None:
    template = Template.parse("externalDocumentNumber eq '{order.order_number|odata}'")
    assert template.fill("query", {"order": {"order_number": "a'b&c"}}, {}) == "externalDocumentNumber eq 'a''b&c'"


@pytest.mark.parametrize("number", ["1\r\nX-Admin: 1", "1\n", "1\r", "a\0b", "a\x7fb", "tab\t", "\u2028"])
def test_a_line_break_cannot_begin_another_header(number: str) -> None:
    with pytest.raises(Unfilled, match="no header can carry"):
        header("{order.order_number}", number)


@given(number=anything)
def test_a_header_is_one_line_or_refused(number: str) -> None:
    try:
        made = header("ref-{order.order_number}", number)
    except Unfilled:
        return
    assert made == f"ref-{number}"
    assert not set("\r\n\0") & set(made)


def test_base64url_of_json_is_read_back_by_python() -> None:
    made = Template.parse("{context|b64url_json}").fill("header", {"context": {"company": 1, "é": "'/"}}, {})
    assert json.loads(base64.urlsafe_b64decode(made)) == {"company": 1, "é": "'/"}
    in_url = url("{base}/sale.sale?d={order.order_number|b64url_json}", "x?>~")
    assert json.loads(base64.urlsafe_b64decode(dict(parse_qsl(urlsplit(in_url).query))["d"])) == "x?>~"


def test_base64url_of_a_text() -> None:
    assert header("{order.order_number|b64url}", "a:b") == base64.urlsafe_b64encode(b"a:b").decode()


# --- holes


def test_what_the_operator_says_stands_as_it_is() -> None:
    assert url("{base}/c({company})?$expand=lines", "1", company="11-22") == "https://erp.example/api/c(11-22)?$expand=lines"


def test_an_order_cannot_pass_for_a_variable() -> None:
    made = Template.parse("{base}/x").fill_url({"order": {"base": "https://evil.example"}}, BASE)
    assert made == "https://erp.example/api/x"


@pytest.mark.parametrize("value", [None, "", {}])
def test_a_missing_value_is_named(value: Any) -> None:
    with pytest.raises(Unfilled, match=r"order\.order_number"):
        url("{base}/{order.order_number}", value)


def test_a_list_is_no_text() -> None:
    with pytest.raises(Unfilled, match="a list or an object"):
        url("{base}/{order.order_number}", ["a"])
    assert url("{base}?x={order.order_number|json}", ["a", 1]) == "https://erp.example/api?x=%5B%22a%22%2C1%5D"


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (True, "true"), (False, "false")])
def test_numbers_and_booleans_are_written_as_json_writes_them(value: Any, text: str) -> None:
    assert url("{base}/{order.order_number}", value) == f"https://erp.example/api/{text}"


def test_braces_are_written_twice() -> None:
    assert Template.parse('{{"a": 1}}').fill("query", {}, {}) == '{"a": 1}'


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a b}", "{a|}", "{a|nope}", "{1}", "{a}}"])
def test_a_template_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Template.parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{order.order_numbr}", "did you mean order_number?"),
        ("{ordr.order_number}", "there is no {ordr.order_number}"),
        ("{order.customer.numer}", "did you mean number?"),
        ("{bse}/x", "did you mean base?"),
        ("{message.kid}", "there is no {message.kid}"),
    ],
)
def test_a_name_that_nothing_fills_is_a_problem_of_the_configuration(text: str, problem: str) -> None:
    assert problem in next(iter(Template.parse(text).problems(["base"])))


@pytest.mark.parametrize(
    "text", ["{order.order_number}", "{order.references.apicbase_id}", "{order.extra.a.b}", "{message.key}", "{base}", "{my}"]
)
def test_names_that_there_are(text: str) -> None:
    assert list(Template.parse(text).problems(["base"], ["my"])) == []


def test_an_address_without_holes_is_an_address_like_any_other() -> None:
    assert UrlTemplate.parse("http://erp.example/x").is_plain
    assert not UrlTemplate.parse("http://127.0.0.1/x").is_plain
    assert not UrlTemplate.parse("{base}/x").is_plain
    with pytest.raises(ValueError, match="absolute address"):
        UrlTemplate.parse("erp.example/x")
    assert str(Url(UrlTemplate.parse("https://erp.example/x"))) == "https://erp.example/x"
