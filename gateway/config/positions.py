"""Lines of TOML keys, which tomllib does not give, for error messages."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Generator, Iterator
from typing import Any

from gateway.config.report import KeyPath

# A key path, its line, and whether the key itself stands there; `[a.b]` and `a.b = 1` only imply `a`.
_Found = tuple[KeyPath, int, bool]
# Yields what it finds, and returns the index of the next token.
_Steps = Generator[_Found, None, int]
_Tokens = list[tuple[str, str, int]]

_TOKEN = re.compile(
    r'(?P<text>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<comment>#[^\n]*)|(?P<newline>\n)|(?P<mark>[\[\]{}=,.])|(?P<bare>[^\s\[\]{}=,.#\"']+)",
    re.DOTALL,
)

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_ADVICE = {
    "Cannot overwrite a value": "this key appears twice, keep one of them",
    "Cannot declare": "this table appears twice, put its keys together",
    "Cannot mutate immutable namespace": "this is already given as { ... } or [ ... ], put its keys together",
    "Invalid value": 'a text needs quotes, as in "text"; true and false are lower case',
    "Invalid statement": "a line is key = value, a comment begins with #",
    "Expected '=' after a key": "a line is key = value, a comment begins with #",
    "Expected newline or end of document": 'one key = value on each line; a text needs quotes, as in "text"',
    "Expected ']'": "a ] is missing",
    "Unclosed array": "a ] is missing",
    "Unclosed inline table": "a } is missing; { ... } is on one line",
    "Unterminated string": "a quote is missing",
    "Illegal character '\\n'": "a quote is missing",
    "Unescaped '\\'": "a \\ in a text is written \\\\",
}


class NotToml(Exception):
    """Syntax error of a TOML text; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def read(text: str) -> dict[str, Any]:
    """Parse a TOML text. Raises NotToml, with advice for common mistakes."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, place = _PLACE.sub("", str(error)), _PLACE.search(str(error))
        line = int(place[1]) if place and place[1] else text.rstrip("\n").count("\n") + 1
        column = f" (column {place[2]})" if place and place[2] else ""
        advice = next((f"; {advice}" for begin, advice in _ADVICE.items() if message.startswith(begin)), "")
        raise NotToml(message + column + advice, line) from error
    except (ValueError, RecursionError) as error:
        raise NotToml("a number is too long or a value nested too deeply", 1) from error


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every table header, key and array item of a text that tomllib accepts; items count from 0."""
    stands: dict[KeyPath, int] = {}
    implied: dict[KeyPath, int] = {}
    for path, line, itself in _walk(list(_tokens(text))):
        (stands if itself else implied).setdefault(path, line)
    return {**implied, **stands}


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for found in _TOKEN.finditer(text):
        kind, value = str(found.lastgroup), found.group()
        if kind != "comment":
            yield kind, value, line
        line += value.count("\n")


def _walk(tokens: _Tokens) -> Iterator[_Found]:
    table: KeyPath = ()
    newest: dict[KeyPath, int] = {}
    at = 0
    while at < len(tokens):
        kind, value, line = tokens[at]
        if kind == "newline":
            at += 1
        elif value == "[" and kind == "mark":
            repeated = tokens[at + 1][1] == "["
            key, at = _key(tokens, at + (2 if repeated else 1))
            *outer, table = _places(key, newest)
            for path in outer:
                yield path, line, False
            if repeated:
                yield table, line, False
                newest[table] = newest.get(table, -1) + 1
                table = (*table, newest[table])
            yield table, line, True
            while at < len(tokens) and tokens[at][0] != "newline":
                at += 1
        else:
            at = yield from _pair(tokens, at, table)


def _places(key: KeyPath, newest: dict[KeyPath, int]) -> list[KeyPath]:
    """Return the paths of a header's tables; below an array of tables its latest item."""
    places: list[KeyPath] = []
    path: KeyPath = ()
    for n, part in enumerate(key):
        path = (*path, part)
        places.append(path)
        if path in newest and n < len(key) - 1:
            path = (*path, newest[path])
    return places


def _key(tokens: _Tokens, at: int) -> tuple[KeyPath, int]:
    parts: list[str | int] = []
    while tokens[at][1] not in ("=", "]"):
        kind, value, _ = tokens[at]
        if kind == "text":
            parts.append(tomllib.loads(f"it = {value}")["it"] if value[0] == '"' else value[1:-1])
        elif kind == "bare":
            parts.append(value)
        at += 1
    return tuple(parts), at


def _pair(tokens: _Tokens, at: int, above: KeyPath) -> _Steps:
    line = tokens[at][2]
    key, at = _key(tokens, at)
    for end in range(1, len(key) + 1):
        yield above + key[:end], line, end == len(key)
    return (yield from _value(tokens, at + 1, above + key))


def _value(tokens: _Tokens, at: int, path: KeyPath) -> _Steps:
    kind, value, _ = tokens[at]
    if value == "{":
        at += 1
        while tokens[at][1] != "}":
            if tokens[at][1] in (",", "\n"):
                at += 1
            else:
                at = yield from _pair(tokens, at, path)
        return at + 1
    if value == "[":
        at, item = at + 1, 0
        while tokens[at][1] != "]":
            if tokens[at][1] in (",", "\n"):
                item += tokens[at][1] == ","
                at += 1
            else:
                yield (*path, item), tokens[at][2], True
                at = yield from _value(tokens, at, (*path, item))
        return at + 1
    at += 1
    while at < len(tokens) and kind != "text" and tokens[at][0] in ("bare", "mark") and tokens[at][1] not in (",", "]", "}"):
        at += 1
    return at
