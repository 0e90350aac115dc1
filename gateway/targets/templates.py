"""Templates of addresses, query values and headers: `{name}` and `{name|filter}`, no expressions. Pure.

What an order says cannot break out of its place: in an address every value that is not the operator's own (`vars`) is
percent-encoded, whatever the filter, and a header takes no line break. `{{` and `}}` stand for braces.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args, get_type_hints
from urllib.parse import quote

import msgspec
from msgspec import Struct

from gateway.api.order import Message
from gateway.api.urls import Url
from gateway.did_you_mean import nearest

Place = Literal["path", "query", "header"]

_PART = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_.]*)(?:\|([a-z0-9_]+))?\}|[{}]")
_UNCARRIED = ("Cc", "Cs", "Zl", "Zp")  # control characters, half pairs, line and paragraph separators
_DOTS = (".", "..")
RESERVED_NAMES = ("order", "message", "vars", "lookup", "captured", "item", "key", "codes")


class Unfilled(ValueError):
    """A template lacks a value, or a value cannot stand there; the text names it."""


class Hole(NamedTuple):
    """Placeholder `{name|filter}`; `filter` may be empty."""

    name: str
    filter: str


class Template(str):
    """Text with holes, checked when the configuration is read."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Template:
        """Check the form. Raises ValueError."""
        if not isinstance(text, str):
            raise ValueError('must be a text, as in "{base}/orders"')
        _parts(text)
        return cls(text)

    @property
    def parts(self) -> tuple[str | Hole, ...]:
        """Text and holes, in order."""
        return _parts(self)

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Holes, in order."""
        return tuple(part for part in _parts(self) if isinstance(part, Hole))

    def problems(self, variables: Collection[str], values: Collection[str] = ()) -> Iterable[str]:
        """Yield names that nothing will fill, each with the nearest known one."""
        for hole in self.holes:
            root, *path = hole.name.split(".")
            if root in variables or root in values:
                continue
            if root not in RESERVED_NAMES:
                yield f"there is no {{{hole.name}}}" + nearest(root, [*variables, *values, *RESERVED_NAMES])
            elif root == "order" or root == "message":
                yield from _unknown(hole.name, ["order", *path] if root == "order" else path)

    def breakouts(self, variables: Collection[str]) -> Iterable[str]:
        """Yield holes that a value could break out of although it is percent-encoded: those inside quotes."""
        before = ""
        for part in self.parts:
            if isinstance(part, str):
                before = part
                continue
            if part.name not in variables and before.endswith(("'", "%27")) and part.filter != "odata":
                yield f"{{{part.name}}} stands in quotes, which an apostrophe in it would end; write {{{part.name}|odata}}"
            elif part.name not in variables and before.endswith(('"', "%22")) and part.filter != "json":
                yield f"{{{part.name}}} stands in quotes, which a quote in it would end; write {{{part.name}|json}}, which brings its own"
            before = ""

    def fill_url(self, values: Mapping[str, Any], constants: Mapping[str, Any]) -> str:
        """Return the whole address, percent-encoded.

        Args:
            values: What an order says, by root name.
            constants: The operator's `vars`, taken as they stand where no filter is named.
        Raises:
            Unfilled: A value is missing, or would be another path than it says (empty, `.` or `..`).
        """
        made, place = "", "path"
        for part in _parts(self):
            if isinstance(part, str):
                made += part
            elif part.name in constants and not part.filter:
                made += _text(part, constants[part.name])
            else:
                place = "query" if "?" in made else "path"
                made += _encoded(part, _found(part, values, constants), place)
        return quote(made, safe="!#$%&'()*+,/:;=?@[]~")

    def fill(self, place: Place, values: Mapping[str, Any], constants: Mapping[str, Any]) -> str:
        """Return the text of a query value (not yet encoded) or of a header. Raises Unfilled."""
        made = "".join(part if isinstance(part, str) else _filtered(part, _found(part, values, constants), place) for part in _parts(self))
        if place == "header" and any(unicodedata.category(letter) in _UNCARRIED for letter in made):
            raise Unfilled("holds a line break or another character that no header can carry")
        return made


class UrlTemplate(Template):
    """Target's address; without holes, an address like any other."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> UrlTemplate:
        if isinstance(text, str) and "{" in text:
            return cls(Template.parse(text))
        return cls(Url.parse(text))

    @property
    def is_plain(self) -> bool:
        """Tell whether the address is unencrypted, as `Url.is_plain`; False where that depends on `vars`."""
        return not self.holes and Url(self).is_plain


@lru_cache(maxsize=1024)
def _parts(text: str) -> tuple[str | Hole, ...]:
    parts: list[str | Hole] = []
    at = 0
    for found in _PART.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[1] is None:
            if found[0] in "{}":
                raise ValueError(f"has a {found[0]} that opens or closes nothing; a brace itself is written twice")
            parts.append(found[0][0])
        else:
            if found[2] and found[2] not in _FILTERS:
                raise ValueError(f"there is no filter {found[2]}{nearest(found[2], _FILTERS)}")
            parts.append(Hole(found[1], found[2] or ""))
    parts.append(text[at:])
    return tuple(part for part in parts if part != "")


def _found(hole: Hole, values: Mapping[str, Any], constants: Mapping[str, Any]) -> Any:
    value: Any = {**constants, **values}
    for step in hole.name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    if value is None or value == "":
        raise Unfilled(f"needs {hole.name}, and there is none")
    return value


def _text(hole: Hole, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise Unfilled(f"{hole.name} is a list or an object; take one part of it, or write {{{hole.name}|json}}")


def _json(hole: Hole, value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _base64url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


_FILTERS: Mapping[str, Callable[[Hole, Any], str]] = {
    "path": _text,
    "query": _text,
    "odata": lambda hole, value: _text(hole, value).replace("'", "''"),
    "json": _json,
    "b64url": lambda hole, value: _base64url(_text(hole, value)),
    "b64url_json": lambda hole, value: _base64url(_json(hole, value)),
}


def _filtered(hole: Hole, value: Any, place: Place) -> str:
    text = _FILTERS[hole.filter or "query"](hole, value)
    return quote(text, safe="") if place == "header" and hole.filter in ("path", "query") else text


def _encoded(hole: Hole, value: Any, place: str) -> str:
    text = _filtered(hole, value, "path")
    if (hole.filter == "path" or (place == "path" and hole.filter != "odata")) and text.strip() in _DOTS:
        raise Unfilled(f"{hole.name} is {text.strip()}, which is another path than the one that is meant")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise Unfilled(f"{hole.name} holds half of a surrogate pair") from None


def _unknown(name: str, path: list[str]) -> Iterable[str]:
    """Yield a problem where the message has no such field; `references` and `extra` hold anything."""
    kind: Any = Message
    for step in path:
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            return
        hints = get_type_hints(kind)
        if step not in hints:
            yield f"there is no {{{name}}}{nearest(step, hints)}"
            return
        choices = [c for c in get_args(hints[step]) if isinstance(c, type) and issubclass(c, Struct)]
        kind = choices[0] if choices else hints[step]
