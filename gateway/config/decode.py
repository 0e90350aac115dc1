"""Decoder of tables to Structs that reports all problems at once."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from gateway.api.secrets import FileBacked, Secret
from gateway.config.report import KeyPath, Report
from gateway.did_you_mean import likely, nearest

S = TypeVar("S", bound=Struct)
_UNIONS = (Union, types.UnionType)
_LONGEST_WORD = 100


def decode(kind: type[S], value: object, at: KeyPath, report: Report) -> S | None:
    """Decode a table to a Struct; return None after adding any problem to the report.

    It takes the types that msgspec takes, nested and tagged Structs, dicts and lists of them, `FileBacked` types such as `Secret`, and
    types with a `parse` method such as `Url`. A Struct may have a method `check() -> Iterable[tuple[key, text]]` that checks several
    keys together; a key inside a nested table is a tuple.
    """
    before = report.count
    made = decode_known(kind, value, at, report)
    return made if report.count == before else None


def decode_known(kind: type[S], value: object, at: KeyPath, report: Report) -> S | None:
    """Decode a table to a Struct, even if it has unknown keys: these are reported, and hide no other problem."""
    if not isinstance(value, Mapping):
        report.add_no_table(at)
        return None
    before = report.wrong
    hints = _hints(kind)
    tag = kind.__struct_config__.tag_field
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in known and key != tag:
            report.unknown += 1
            report.add((*at, key), report.unknown_key + nearest(key[:_LONGEST_WORD], known))
    values: dict[str, Any] = {}
    unusable: dict[str, str] = {}  # keys with a problem, by the name of their field
    for name, field in known.items():
        seen = report.wrong
        if name in value:
            values[field.name] = _value(hints[field.name], value[name], (*at, name), report)
        elif field.required:
            report.add_missing(at, name)
        if report.wrong > seen:
            unusable[field.name] = name
    plain_allowed = values.get("allow_plain_http") is True
    for name, field in known.items():
        url = values.get(field.name)
        if getattr(url, "is_plain", False) and not plain_allowed:
            report.add((*at, name), "would be sent unencrypted; use https, or set allow_plain_http = true next to it")
    if unusable:
        for below, text in _others(kind, values, unusable):
            report.add((*at, *below), text)
        return None
    try:
        made = kind(**values)
    except ValueError as error:
        report.add(at, str(error))
        return None
    for below, text in _checked(made):
        report.add((*at, *below), text)
    return made if report.wrong == before else None


def _checked(made: Struct) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems that a Struct's own `check` finds, each with its path."""
    check = getattr(made, "check", None)
    for key, text in check() if callable(check) else ():
        yield (key if isinstance(key, tuple) else (key,) if key else ()), text


def _others(kind: type[Struct], values: Mapping[str, Any], unusable: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems that `check` finds in a table with unusable keys, as if those keys were missing.

    Problems that name an unusable key are left out, because they may vanish with its correction. `check` ends at the first missing key
    that it needs.
    """
    rest = {name: value for name, value in values.items() if name not in unusable}
    needed = {field.name: None for field in msgspec.structs.fields(kind) if field.required}
    of_those = re.compile(rf"\b(?:{'|'.join(map(re.escape, unusable.values()))})\b")
    try:
        for below, text in _checked(kind(**{**needed, **rest})):
            if below and below[0] not in unusable.values() and not of_those.search(text):
                yield below, text
    except Exception:  # `check` needs a missing key
        return


@lru_cache(maxsize=1000)
def _hints(kind: type[Struct]) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _value(hint: Any, value: object, at: KeyPath, report: Report) -> Any:
    bare, _ = _stripped(hint)
    members = get_args(bare) if get_origin(bare) in _UNIONS else (bare,)
    if value is None and type(None) in members:
        return None
    choices = [_stripped(c)[0] for c in members if c not in (type(None), msgspec.UnsetType)]
    structs = [c for c in choices if isinstance(c, type) and issubclass(c, Struct)]
    if structs and (isinstance(value, Mapping) or len(structs) == len(choices)):
        chosen = _chosen(structs, value, at, report)
        return chosen and decode_known(chosen, value, at, report)
    plain = [choice for choice in choices if choice not in structs]
    only = plain[0] if len(plain) == 1 else None
    origin, args = get_origin(only), get_args(only)
    try:
        if origin is dict and isinstance(value, Mapping):
            msgspec.convert(value, Annotated[dict, *_limits(hint)], strict=True)
            return {key: _value(args[1], item, (*at, key), report) for key, item in value.items()}
        if (origin is list or (origin is tuple and args[1:] == (...,))) and isinstance(value, list):
            msgspec.convert(value, Annotated[list, *_limits(hint)], strict=True)
            return origin(_value(args[0], item, (*at, n), report) for n, item in enumerate(value))
        if isinstance(only, type) and issubclass(only, FileBacked):
            report.file_backed.append(made := only.from_reference(value, report.base(at)))
            if isinstance(made, Secret):
                report.secrets.append((at, made))
            return made
        if isinstance(only, type) and hasattr(only, "parse"):  # a text with a form of its own, such as Url
            return only.parse(value)
        if only is Path:
            return report.base(at) / _path(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number; leave the key out for its default")
        return msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError as error:
        report.add(at, _in_words(str(error), value, only, report.kinds))
    except ValueError as error:
        report.add(at, str(error))
    return None


def _stripped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its `Annotated`, and the annotations."""
    return (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())


def _limits(hint: Any) -> tuple[Any, ...]:
    """Return the limits of a list's or object's length, from any level of `Annotated[list[X] | None, Meta(...)]`."""
    bare, limits = _stripped(hint)
    members = get_args(bare) if get_origin(bare) in _UNIONS else ()
    return (*limits, *(one for member in members for one in _stripped(member)[1])) or (Meta(),)


def _path(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError('must be a path, as in "/etc/order-gateway/ca.pem"')
    return value


_SIZES = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_MESSAGES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"Expected `\w+` (>=|<=|>|<) (\S+)", lambda found: f"must be {_SIZES[found[1]]} {found[2].removesuffix('.0')}"),
    (r"Expected `\w+` of length (>=|<=|>|<) (\d+)", lambda found: f"must have a length of {_SIZES[found[1]]} {found[2]}"),
    (r"Expected `str` matching regex '(.+)'\Z", lambda found: f"must have the form {found[1]}"),
    (r"Expected `\w+` that's a multiple of (\S+)\Z", lambda found: f"must be a multiple of {found[1]}"),
    (r"Expected `datetime` with a timezone component\Z", lambda _: "must be a date with a time with a time zone"),
    (r"Expected `datetime` with no timezone component\Z", lambda _: "must be a date with a time without a time zone"),
)


def _in_words(message: str, value: object, hint: Any, kinds: Mapping[str, str]) -> str:
    """Translate an error of msgspec for readers who know neither msgspec nor Python."""
    message, _, place = message.partition(" - at `$")
    inside = f" (at {place.removesuffix('`')})" if place.removesuffix("`") else ""
    if found := re.match(r"Expected `([\w |]+)`, got `(\w+)`", message):
        wanted = " or ".join(kinds.get(word, word) for word in found[1].split(" | ") if word != "null")
        return f"must be {wanted}{inside}"
    for pattern, words in _MESSAGES:
        if found := re.match(pattern, message):
            return words(found) + inside
    if message.startswith("Invalid RFC3339"):
        return f"must be {kinds['datetime']}{inside}"
    if message.startswith("Invalid enum value") and get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return f"must be one of {', '.join(choices)}" + (likely(value, choices) if isinstance(value, str) else "")
    return message.replace("`", "") + inside


def _chosen(structs: list[type[Struct]], value: object, at: KeyPath, report: Report) -> type[Struct] | None:
    field = structs[0].__struct_config__.tag_field
    if field is None or not isinstance(value, Mapping):
        return structs[0]
    kinds = {str(s.__struct_config__.tag): s for s in structs}
    wanted = value.get(field)
    if isinstance(wanted, str) and wanted in kinds:
        return kinds[wanted]
    known = ", ".join(kinds)
    report.add((*at, field), f"must be one of {known}" + (likely(wanted, kinds) if isinstance(wanted, str) else ""))
    return None
