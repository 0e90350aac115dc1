"""The judge of what leaves: exact numbers, lists and required keys; nothing is fetched, and nothing quotes a person's data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.targets.schema import is_linear, violations, why_no_schema

LINES = {"type": "object", "required": ["lines"], "properties": {"lines": {"type": "array", "minItems": 1}}}


def judged(body: str, schema: Any) -> list[str]:
    text = json.dumps(schema)
    assert why_no_schema(text) is None
    return violations(body.encode(), text)


@pytest.mark.parametrize(
    ("body", "schema", "said"),
    [
        ('{"lines": [{}]}', LINES, []),
        ('{"lines": {}}', LINES, ["lines: must be of type array, and is an object"]),
        ("{}", LINES, ["the body: lacks lines"]),
        ('{"lines": []}', LINES, ["lines: does not fit minItems 1"]),
        ('{"a": 0.1}', {"properties": {"a": {"multipleOf": 0.01}}}, []),
        ('{"a": 0.105}', {"properties": {"a": {"multipleOf": 0.01}}}, ['a: does not fit multipleOf "0.01"']),
        (
            '{"a": 12345678901234567.89}',
            {"properties": {"a": {"maximum": 12345678901234567}}},
            ["a: does not fit maximum 12345678901234567"],
        ),
        ('{"a": 3.0}', {"properties": {"a": {"type": "integer"}}}, []),
        ('{"a": 3.5}', {"properties": {"a": {"type": "integer"}}}, ["a: must be of type integer, and is a number"]),
        ('{"a": "3"}', {"properties": {"a": {"type": "number"}}}, ["a: must be of type number, and is a text"]),
        ('{"a": true}', {"properties": {"a": {"type": "number"}}}, ["a: must be of type number, and is true or false"]),
        ('{"a": null}', {"properties": {"a": {"type": ["string", "number"]}}}, ["a: must be of type string or number, and is null"]),
        ('{"b": 1}', {"additionalProperties": False}, ["the body: has the unknown keys b"]),
        ('{"l": [{"p": 1}, {}]}', {"properties": {"l": {"items": {"required": ["p"]}}}}, ["l[1]: lacks p"]),
        (
            '{"a": 1}',
            {"properties": {"a": {"$ref": "#/$defs/text"}}, "$defs": {"text": {"type": "string"}}},
            ["a: must be of type string, and is a number"],
        ),
        ('{"pattern": 1}', {"properties": {"pattern": {"type": "string"}}}, ["pattern: must be of type string, and is a number"]),
        ('{"a": 1}', {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, None),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(body: str, schema: Any, said: list[str] | None) -> None:
    found = judged(body, schema)
    assert found == said if said is not None else found


def test_no_value_is_quoted() -> None:
    schema = {"properties": {"name": {"maxLength": 3}, "n": {"enum": ["x"]}, "o": {"type": "number"}, "c": {"const": "x"}}}
    found = judged('{"name": "Jane Roe", "n": "Jane Roe", "o": "Jane Roe", "c": "Jane Roe"}', schema)
    assert len(found) == 4
    assert "Jane" not in " ".join(found)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ('{"type": "objekt"}', "is no JSON Schema: at $.type"),
        ('{"properties": {"a": {"$ref": "https://erp.example/schema"}}}', "nothing is fetched"),
        ('{"properties": {"a": {"$ref": "#/$defs/missing"}}}', "which is not in it"),
        ('{"properties": {"a": {"pattern": "(a+)+$"}}}', "whose time nothing bounds"),
        ('{"patternProperties": {"^a": {}}}', "whose time nothing bounds"),
        ('{"$ref": "#"}', "without an end"),
        ("[" * 5000, "is not JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema: str, said: str) -> None:
    assert said in (why_no_schema(schema) or "")


@pytest.mark.parametrize(
    "pattern",
    [
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        "^gw-[A-Za-z0-9_-]+$",
        "^[A-Za-z0-9_-]+$",
        "^[A-Z]{2}$",
        r"^\d{1,15}\.\d{2}$",
        "^[)(|*+]*$",
        "^a?b?c+$",
    ],
)
def test_patterns_that_take_as_long_as_the_text_is_are_taken(pattern: str) -> None:
    assert is_linear(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "^(a+)+$",
        "^(a|aa)+$",
        "a+$",
        "^a*a*$",
        "^[a]{1,}[a]+$",
        r"^(a)\1$",
        "^a{0,1000}$",
        "^a?a?a?a?a?aaaa$",
        r"^a\1",
        7,
        "^a{2,}b*",
    ],
)
def test_patterns_that_can_take_for_ever_are_not(pattern: object) -> None:
    assert not is_linear(pattern)


def test_a_pattern_is_judged() -> None:
    schema = {"properties": {"day": {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}}}
    assert judged('{"day": "2024-01-02"}', schema) == []
    assert judged('{"day": "2.1.2024"}', schema) == ['day: does not fit pattern "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"']
