"""Where each key of a TOML text stands: tomllib gives no positions, and an error message needs the line."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

Path = tuple[str | int, ...]

# Yields key paths with their lines, and returns the index of the next token.
_Steps = Generator[tuple["Path", int], None, int]

_TOKEN = re.compile(
    r'(?P<text>"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<comment>#[^\n]*)|(?P<newline>\n)|(?P<mark>[\[\]{}=,.])|(?P<bare>[^\s\[\]{}=,.#\"']+)",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every table header and key of a text that tomllib accepts; array items count from 0."""
    return dict(_walk(list(_tokens(text))))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for found in _TOKEN.finditer(text):
        kind, value = str(found.lastgroup), found.group()
        if kind != "comment":
            yield kind, value, line
        line += value.count("\n")


def _walk(tokens: list[tuple[str, str, int]]) -> Iterator[tuple[Path, int]]:
    table: Path = ()
    tables: dict[Path, int] = {}
    at = 0
    while at < len(tokens):
        kind, value, line = tokens[at]
        if kind == "newline":
            at += 1
        elif value == "[" and kind == "mark":
            twice = tokens[at + 1][1] == "["
            table, at = _key(tokens, at + (2 if twice else 1))
            if twice:
                tables[table] = tables.get(table, -1) + 1
                table = (*table, tables[table])
            yield table, line
            while at < len(tokens) and tokens[at][0] != "newline":
                at += 1
        else:
            at = yield from _pair(tokens, at, table)


def _key(tokens: list[tuple[str, str, int]], at: int) -> tuple[Path, int]:
    parts: list[str | int] = []
    while tokens[at][1] not in ("=", "]") or tokens[at][0] == "text":
        kind, value, _ = tokens[at]
        if kind == "text":
            parts.append(value[1:-1])
        elif kind == "bare":
            parts.append(value)
        at += 1
    return tuple(parts), at


def _pair(tokens: list[tuple[str, str, int]], at: int, above: Path) -> _Steps:
    line = tokens[at][2]
    key, at = _key(tokens, at)
    path = above + key
    for end in range(1, len(key) + 1):
        yield above + key[:end], line
    return (yield from _value(tokens, at + 1, path))


def _value(tokens: list[tuple[str, str, int]], at: int, path: Path) -> _Steps:
    kind, value, _ = tokens[at]
    if kind == "mark" and value == "{":
        at += 1
        while tokens[at][1] != "}" or tokens[at][0] == "text":
            if tokens[at][1] in (",", "\n"):
                at += 1
            else:
                at = yield from _pair(tokens, at, path)
        return at + 1
    if kind == "mark" and value == "[":
        at, item = at + 1, 0
        while tokens[at][1] != "]" or tokens[at][0] == "text":
            if tokens[at][0] != "text" and tokens[at][1] in (",", "\n"):
                item += tokens[at][1] == ","
                at += 1
            else:
                yield (*path, item), tokens[at][2]
                at = yield from _value(tokens, at, (*path, item))
        return at + 1
    at += 1
    while at < len(tokens) and kind != "text" and tokens[at][0] in ("bare", "mark") and tokens[at][1] not in (",", "]", "}"):
        at += 1
    return at
