"""How commands print: aligned tables, JSON, and no text of others that could steer a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence

_LONGEST_CELL = 110


def print_json(value: object) -> None:
    """For programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def readable_json(value: object) -> str:
    """For people, and still JSON: letters as they are, what could steer a terminal as an escape."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """For people: one line a row, columns aligned, what is too long cut; `gateway show` has it whole."""
    if not rows:
        print("nothing")
        return
    lines = [tuple(_cell(cell) for cell in row) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def plain(text: object) -> str:
    """A text with its line breaks, and every other character that does not print written as an escape."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object) -> str:
    """The same on one line."""
    return plain(" ".join(str(text).splitlines()))


def _cell(value: object) -> str:
    text = "-" if value in (None, "") else one_line(value)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
