"""Output of commands: aligned tables and JSON. No text from outside can control the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

_LONGEST_CELL = 110


def print_json(value: object) -> None:
    """Print JSON for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_result(options: argparse.Namespace, value: Mapping[str, object], text: str) -> int:
    """Print the result of an operation, as JSON where that is asked for; returns the exit code 0."""
    print(json.dumps(value) if options.json else text)
    return 0


def readable_json(value: object) -> str:
    """Return JSON for people: letters as they are, and an escape for each character that could control the terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, one line a row. Long cells are cut; `gateway show` prints them whole."""
    if not rows:
        print("nothing")
        return
    lines = [tuple(_cell(cell) for cell in row) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def plain(text: object) -> str:
    """Return the text with its line breaks, and an escape for every other character that does not print."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object) -> str:
    """Return the same on one line."""
    return plain(" ".join(str(text).splitlines()))


def _cell(value: object) -> str:
    text = "-" if value in (None, "") else one_line(value)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
