"""Configuration tables into Structs, every problem at once, each with its file, line and key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from gateway.secret import FileBacked
from gateway.toml_lines import Path as KeyPath
from gateway.urls import Url

S = TypeVar("S", bound=Struct)
_UNIONS = (Union, types.UnionType)


class Report:
    """Collects the problems of one configuration and everything in it that lives in a file of its own."""

    def __init__(self, places: Mapping[KeyPath, tuple[Path, int]], main: Path) -> None:
        self._places = places
        self._main = main
        self.problems: list[str] = []
        self.file_backed: list[FileBacked] = []

    def add(self, at: KeyPath, text: str) -> None:
        """Note a problem at a key; a key that does not stand anywhere is placed at its nearest table."""
        near = at
        while near and near not in self._places:
            near = near[:-1]
        file, line = self._places.get(near, (self._main, 1))
        self.problems.append(f"{file}:{line}: {dotted(at)}: {text}" if at else f"{file}: {text}")

    def base(self, at: KeyPath) -> Path:
        """The folder that relative paths at a key are relative to: the one of the file it stands in."""
        while at and at not in self._places:
            at = at[:-1]
        return self._places.get(at, (self._main, 1))[0].parent


def dotted(at: KeyPath) -> str:
    """A key path as people write it: `sources.apicbase.doors[0]`."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def decode(kind: type[S], value: object, at: KeyPath, report: Report) -> S | None:
    """One table as a Struct; None where anything in it was wrong, which `report` then says.

    Understands nested and tagged Structs, dicts and lists of them, `Secret`, `TextList` and `Url` beside what msgspec
    understands. A Struct may have a method `check() -> Iterable[tuple[key, text]]` for what concerns several keys.
    """
    if not isinstance(value, Mapping):
        report.add(at, f"must be a table, as in [{dotted(at)}]")
        return None
    before = len(report.problems)
    hints = get_type_hints(kind, include_extras=True)
    tag = kind.__struct_config__.tag_field
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in known and key != tag:
            report.add((*at, key), "is not a key of this table" + _nearest(key, known))
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in value:
            values[field.name] = _value(hints[field.name], value[name], (*at, name), report)
        elif field.required:
            report.add(at, f"needs the key {name}")
    if len(report.problems) > before:
        return None
    try:
        made = kind(**values)
    except ValueError as error:
        report.add(at, str(error))
        return None
    for key, text in _checks(made):
        report.add((*at, key) if key else at, text)
    return made if len(report.problems) == before else None


def _checks(made: Struct) -> Iterable[tuple[str, str]]:
    plain_allowed = getattr(made, "allow_plain_http", False)
    for field in msgspec.structs.fields(type(made)):
        url = getattr(made, field.name)
        if isinstance(url, Url) and url.is_plain and not plain_allowed:
            yield field.encode_name, "would travel unencrypted; use https, or say allow_plain_http = true beside it"
    check = getattr(made, "check", None)
    if check is not None:
        yield from check()


def _value(hint: Any, value: object, at: KeyPath, report: Report) -> Any:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    choices = [c for c in get_args(bare) if c is not type(None)] if get_origin(bare) in _UNIONS else [bare]
    structs = [c for c in choices if isinstance(c, type) and issubclass(c, Struct)]
    if structs and (isinstance(value, Mapping) or len(structs) == len(choices)):
        chosen = _chosen(structs, value, at, report)
        return chosen and decode(chosen, value, at, report)
    only = choices[0] if len(choices) == 1 else None
    origin, args = get_origin(only), get_args(only)
    if origin is dict and isinstance(value, Mapping):
        return {key: _value(args[1], item, (*at, key), report) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_value(args[0], item, (*at, n), report) for n, item in enumerate(value))
    try:
        if isinstance(only, type) and issubclass(only, FileBacked):
            report.file_backed.append(made := only.from_reference(value, report.base(at)))
            return made
        if only is Url:
            return Url.parse(value)
        if only is Path:
            return report.base(at) / msgspec.convert(value, str)
        return msgspec.convert(value, hint, strict=True)
    except ValueError as error:
        report.add(at, str(error).replace("`", "").removesuffix(" - at $"))
        return None


def _chosen(structs: list[type[Struct]], value: object, at: KeyPath, report: Report) -> type[Struct] | None:
    field = structs[0].__struct_config__.tag_field
    if field is None or not isinstance(value, Mapping):
        return structs[0]
    kinds = {str(s.__struct_config__.tag): s for s in structs}
    wanted = value.get(field)
    if isinstance(wanted, str) and wanted in kinds:
        return kinds[wanted]
    known = ", ".join(kinds)
    report.add((*at, field), f"must be one of {known}" + (_nearest(wanted, kinds) if isinstance(wanted, str) else ""))
    return None


def _nearest(key: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else f"; it knows {', '.join(sorted(known))}"
