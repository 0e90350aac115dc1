"""What was measured, as a table for people and as JSON for comparing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.earlier import Earlier
from benchmarks.measures import Spread

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"


class Entry(Struct, frozen=True, kw_only=True):
    """One contestant's line: columns of one number each, or of a spread over the rounds."""

    name: str
    figures: Mapping[str, Spread | float]


class Verdict(Struct, frozen=True, kw_only=True):
    """One number with its aim; `at_least` says which side of the aim is good. No aim: for information."""

    name: str
    value: Spread
    unit: str = ""
    aim: float | None = None
    at_least: bool = True

    @property
    def met(self) -> bool:
        if self.aim is None:
            return True
        return self.value.median >= self.aim if self.at_least else self.value.median <= self.aim


class Section(Struct, frozen=True, kw_only=True):
    """One part of the benchmark."""

    name: str
    what: str
    entries: Sequence[Entry]
    verdicts: Sequence[Verdict]


def show(section: Section, earlier: Earlier | None = None) -> None:
    """Print a section, and beside each verdict what it was in an earlier result."""
    print(f"\n{section.name}: {section.what}")
    if section.entries:
        columns = list(dict.fromkeys(column for entry in section.entries for column in entry.figures))
        rows = [["", *columns], *([entry.name, *(_cell(entry.figures.get(column)) for column in columns)] for entry in section.entries)]
        _table(rows)
    for verdict in section.verdicts:
        aim = "" if verdict.aim is None else f", aim {'>=' if verdict.at_least else '<='} {verdict.aim:g}{verdict.unit}: {_word(verdict)}"
        was = earlier.beside(section.name, verdict.name, verdict.value.median) if earlier else ""
        print(f"  {verdict.name}: {_cell(verdict.value)}{verdict.unit}{aim}{was}")
    sys.stdout.flush()


def show_machine(machine: Mapping[str, str]) -> None:
    """Print where it is measured."""
    for name, value in machine.items():
        print(f"{name:12} {value}")
    sys.stdout.flush()


def save(machine: Mapping[str, str], sections: Sequence[Section], *, arguments: Sequence[str], path: Path, dated: bool) -> Path:
    """Write the JSON; with `dated`, a copy in `results` to keep too. The path of the one to look at."""
    at = datetime.now(UTC)
    said: dict[str, Any] = {
        "at": at.isoformat(timespec="seconds"),
        "arguments": list(arguments),
        "machine": dict(machine),
        "sections": [{**msgspec.to_builtins(section), "met": all(v.met for v in section.verdicts)} for section in sections],
    }
    text = msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    if dated:
        path = RESULTS / f"{at:%Y-%m-%d}-{machine['commit']}.json"
        path.write_bytes(text)
    return path


def _word(verdict: Verdict) -> str:
    return "met" if verdict.met else "NOT MET"


def _cell(value: Spread | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, Spread):
        if len(value.rounds) == 1:
            return _number(value.median)
        return f"{_number(value.median)} ({_number(value.low)}..{_number(value.high)})"
    return _number(value)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print(
            "  "
            + "  ".join(cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True)))
        )
