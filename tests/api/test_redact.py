"""What a vendor says of a command it refuses goes to callers, logs and pages: none of it may name a person."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import pytest

from gateway import Response, refused

ASKED = {"number": "A-1", "who": {"name": "Max Mustermann", "mail": "max@example.org"}, "lines": [{"text": "500mg x 8", "n": 3}]}


def said(document: Any, status: int = 400, **more: Any) -> str:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return refused("Vendor", Response(status=status, headers={}, body=body), ASKED, **more)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"title": "Bad", "detail": "an interval of 0"}, "Vendor refuses it (400): Bad an interval of 0"),
        ({"errors": {"lines[0].n": ["must be positive", "or so"]}}, "Vendor refuses it (400): lines[0].n: must be positive or so"),
        ({"errors": [{"message": "deep"}]}, "Vendor refuses it (400): deep"),
        ({"message": {"text": "nested"}}, "Vendor refuses it (400): text: nested"),
        ("a text alone", "Vendor refuses it (400): a text alone"),
        ({"other": "unread"}, "Vendor refuses it (400)"),
        ([1, 2], "Vendor refuses it (400)"),
        (b"", "Vendor refuses it (400)"),
        (b"<html>Max</html>", "Vendor refuses it (400)"),
        (b"\xff", "Vendor refuses it (400)"),
        ({"message": "line\nbreak\x00"}, "Vendor refuses it (400): line break"),
    ],
)
def test_its_words_are_read_where_they_can_be(document: Any, text: str) -> None:
    assert said(document) == text


@pytest.mark.parametrize(
    "words",
    [
        "Max Mustermann is unknown",
        "MUSTERMANN, max",
        "max@example.org",
        "'Erika Musterfrau' is another",
        "write to erika@example.org",
        "the code customer_F49F00733BE344C993ADBB2A1D48C766",
        "500mg x 8",
    ],
)
def test_nothing_of_a_person_is_repeated(words: str) -> None:
    text = said({"message": words})
    for secret in ("Max", "max", "uster", "MUSTER", "Erika", "example.org", "F49F", "500mg"):
        assert secret not in text


@pytest.mark.parametrize("word", ["a", "@", "a1-", "x@", "'x"])
def test_a_long_word_is_looked_at_once(word: str) -> None:
    began = perf_counter()
    said({"message": word * 200_000})
    assert perf_counter() - began < 5, "one look for each of its letters takes hours"


def test_words_that_only_begin_like_a_name_stay() -> None:
    assert said({"message": "the maximum is 99"}).endswith("the maximum is 99")


def test_what_is_public_is_repeated() -> None:
    assert said({"message": "A-1 exists"}, public=("number",)).endswith("A-1 exists")
    assert "A-1" not in said({"message": "A-1 exists"})


def test_it_is_bounded() -> None:
    assert len(said({"message": "word " * 10_000})) < 450
