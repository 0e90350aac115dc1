"""JSON Schema validation of the bytes that are about to leave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

_MOST_PROBLEMS = 20
_BY_NAME = ("properties", "$defs", "definitions", "dependentSchemas")
_NO_SCHEMAS = ("const", "enum", "default", "examples", "required")
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", Decimal: "a number"}


def why_no_schema(text: str) -> str | None:
    """Return why a text cannot be used as a schema, or None."""
    try:
        schema = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    if not isinstance(schema, dict):
        return "is no JSON Schema: it must be an object"
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
        root = Registry().with_resource("", Resource.from_contents(schema, default_specification=DRAFT202012)).resolver()
        for part in _parts(schema):
            if "patternProperties" in part or not is_linear(part.get("pattern", "^")):
                return (
                    "has a pattern whose time nothing bounds; one that begins with ^ and has no groups, no | and at most one "
                    "unlimited repetition is taken, as in ^[A-Z]{2}-[0-9]+$"
                )
            for key in ("$ref", "$dynamicRef"):
                if key in part:
                    root.lookup(part[key])
        if "without an end" in "".join(violations(b"{}", text)):
            return "cannot be used: it refers to itself without an end"
    except SchemaError as error:
        return f"is no JSON Schema: at {error.json_path}: {error.message[:200]}"
    except Unresolvable as error:
        return f"refers to {error.ref!r}, which is not in it; nothing is fetched, put it into $defs"
    except Exception as error:  # a pattern that Python cannot read, for instance
        return f"cannot be used: {error}"[:300]
    return None


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema inside a schema; a property that is called `pattern` is none."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            yield one
            for key, value in one.items():
                if key in _BY_NAME and isinstance(value, dict):
                    waiting.extend(value.values())
                elif key not in _NO_SCHEMAS:
                    waiting.append(value)


_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<least>[*+?])|\{[0-9]+(?P<range>,(?P<most>[0-9]*))?\}|(?P<group>[()|])|.", re.DOTALL
)
_MOST_REPEATS = 64


def is_linear(pattern: object) -> bool:
    """Return whether matching takes time proportional to the text's length."""
    if not isinstance(pattern, str) or not pattern.startswith("^"):
        return False
    changing = unlimited = 0
    for piece in _PIECE.finditer(pattern):
        if piece["group"] or (piece["most"] and int(piece["most"]) > _MOST_REPEATS) or re.match(r"\\[0-9]", piece[0]):
            return False
        changing += bool(piece["least"] or piece["range"])
        unlimited += piece["least"] in ("*", "+") or (piece["range"] is not None and not piece["most"])
    return unlimited <= 1 and changing <= 3


def violations(body: bytes, schema: str) -> list[str]:
    """Return why a body does not fit, by path, without values that may be a person's."""
    document = json.loads(body, parse_float=Decimal)
    try:
        return _violations(document, schema)
    except RecursionError:
        return ["cannot be judged: the schema refers to itself without an end"]


def _violations(document: Any, schema: str) -> list[str]:
    found = sorted(_validator(schema).iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    return [_in_words(error) for error in found[:_MOST_PROBLEMS]]


@lru_cache(maxsize=32)
def _validator(schema: str) -> Validator:
    made = json.loads(schema, parse_float=Decimal)
    kind = validator_for(made, default=Draft202012Validator)
    types = kind.TYPE_CHECKER.redefine("integer", _is_whole).redefine("number", _is_number)
    validator: Validator = extend(kind, type_checker=types)(made, registry=Registry())  # a registry of its own: nothing is fetched
    return validator


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _is_whole(_: Any, value: Any) -> bool:
    return _is_number(_, value) and value == int(value)


def _in_words(error: ValidationError) -> str:
    if error.context:  # of anyOf and oneOf, what comes nearest
        nearest = best_match(error.context)
        if nearest is not None and nearest.validator != error.validator:
            error = nearest
    at = error.json_path.removeprefix("$").lstrip(".") or "the body"
    rule, value, found = error.validator, error.validator_value, error.instance
    if rule == "required":
        missing = [name for name in value if name not in found]
        return f"{at}: lacks {', '.join(map(str, missing))}"
    if rule == "additionalProperties":
        unknown = sorted(set(found) - set(error.schema.get("properties", {})))
        return f"{at}: has the unknown keys {', '.join(unknown)[:200]}"
    if rule == "type":
        wanted = " or ".join(value) if isinstance(value, list) else value
        return f"{at}: must be of type {wanted}, and is {_KINDS.get(type(found), 'null')}"
    return f"{at}: does not fit {rule} {json.dumps(value, default=str)[:120]}"
