"""JSONata in a target's tables: what it sees of an answer, and the functions beside those of every mapping."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.api.errors import MappingError
from gateway.outbound.answer import Answer
from gateway.targets.expressions import Jsonata, answer_document, compiled, encode_body, evaluate, read_whole


def answer(body: bytes, status: int = 200, **headers: str) -> dict[str, Any]:
    return answer_document(Answer(status=status, headers=CIMultiDict({k.replace("_", "-"): v for k, v in headers.items()}), body=body))


@pytest.mark.parametrize(
    ("body", "text", "found"),
    [
        (b"42", "body", 42),
        (b"[42]", "body[0]", 42),
        (b'{"id": 7, "n": "SO-7"}', "body.id", 7),
        (b'{"result": [1, 2]}', "$count(body.result)", 2),
        (b"", "status", 204),
        (b"", "headers.location", "https://erp.example/salesOrder/9"),
        (b"<html>could not convert</html>", '$contains(text, "could not convert")', True),
        (b"<html>", "body", None),
        (b'{"a": 1', "body", None),
        (b'{"exc_type": "UniqueValidationError"}', 'body.exc_type = "UniqueValidationError" and status = 204', True),
        (b'{"error": {"code": -2035}}', "body.error.code = -2035", True),
    ],
)
def test_every_form_of_answer_can_be_read(body: bytes, text: str, found: Any) -> None:
    assert Jsonata.parse(text).evaluate(answer(body, 204, Location="https://erp.example/salesOrder/9")) == found


def test_numbers_of_an_answer_leave_as_they_came() -> None:
    body = b'{"id":12345678901234567890,"price":0.3500,"small":1e-7,"n":3,"t":"3","neg":-0.0}'
    assert encode_body(evaluate("$", read_whole(body)), "number") == body
    assert encode_body(evaluate("body", answer(body)), "number") == body


@pytest.mark.parametrize("body", [b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000])
def test_what_is_not_json_has_no_body(body: bytes) -> None:
    assert answer(body)["body"] is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('$odata("O\'Neill")', "'O''Neill'"),
        ("$odata(7)", "'7'"),
        ("$odata(nothing)", None),
        ('$day("2024-03-31T22:30:00Z", "Europe/Berlin")', "2024-04-01"),
        ('$day("2024-03-31T22:30:00.123456Z")', "2024-03-31"),
        ('$day("2024-10-26T22:30:00Z", "America/New_York")', "2024-10-26"),
        ("$day(null)", None),
        ('$epoch_s("2026-11-24T00:00:00.9Z")', 1795478400),
        ('$epoch_ms("2026-11-24T00:00:00.9Z")', 1795478400900),
        ('$epoch_s("1969-12-31T23:59:59Z")', -1),
        ('$req("a", "x")', "a"),
    ],
)
def test_functions(text: str, found: Any) -> None:
    assert evaluate(text, {}) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('$day("2024-03-31", "Europe/Nowhere")', "no such time zone"),
        ('$day("2024-03-31", "../../etc/passwd")', "no such time zone"),
        ('$day("soon")', "takes an instant"),
        ("$odata([1])", "takes a text"),
        ('$table("unit", "EA")', "works in what makes a request"),
        ('$lookup_id("p", "EA")', "works in what makes a request"),
        ("$req(nothing, 'customer number')", "there is no customer number"),
    ],
)
def test_what_cannot_be_evaluated_says_why(text: str, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        evaluate(text, {"a": 1})


@pytest.mark.parametrize("text", ["", "  ", "body.", "$nope(1)", "/a+/", 7, None])
def test_a_text_that_cannot_be_compiled_is_refused(text: Any) -> None:
    with pytest.raises(ValueError):
        Jsonata.parse(text)


def test_what_the_builder_keeps_for_itself_is_not_seen() -> None:
    assert evaluate("$keys($)", {"order": {}, "_raw": b"secret"}) == "order" or evaluate("$keys($)", {"order": {}, "_raw": b""}) == [
        "order"
    ]


def test_each_thread_has_an_expression_of_its_own() -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(compiled("body.id")))
    thread.start()
    thread.join()
    assert found[0] is not compiled("body.id")
    assert compiled("body.id") is compiled("body.id")
