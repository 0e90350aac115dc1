"""Reports of every problem in a configuration, or in the body of a command, each with the path of its key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.api.secrets import FileBacked, Secret

KeyPath = tuple[str | int, ...]

MOST_BODY_PROBLEMS = 100

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LONGEST_KEY = 80
_LONGEST_PROBLEM = 500


class Problem(NamedTuple):
    """Problem and the path of its key."""

    at: KeyPath
    text: str


class Report:
    """Problems of a configuration, and the parts of it that live in files of their own.

    Args:
        places: File and line of each key.
        main: File of a key that has no place.

    Attributes:
        found: The problems, in the order of checking.
        unknown: Number of unknown keys among them. They make no other key unusable.
        file_backed: Values that are read again when their files change.
        secrets: The secrets among those, each with its key.
        kinds: Words for msgspec's names of types.
    """

    unknown_key = "is not a key of this table"
    kinds: Mapping[str, str] = {
        "str": 'a text, as in "text"',
        "int": "a whole number, as in 10",
        "float": "a number, as in 1.5",
        "bool": "true or false",
        "array": "a list, as in [ ... ]",
        "object": "a table, as in { key = ... }",
        "datetime": "a date with a time and Z, as in 2026-11-01T00:00:00Z",
    }

    def __init__(self, places: Mapping[KeyPath, tuple[Path, int]], main: Path) -> None:
        self._places, self._main = places, main
        self.found: list[Problem] = []
        self.unknown = 0
        self.file_backed: list[FileBacked] = []
        self.secrets: list[tuple[KeyPath, Secret]] = []
        self._doubtful: list[Problem] = []

    def add(self, at: KeyPath, text: str) -> None:
        """Add a problem."""
        self.found.append(Problem(at, text))

    def add_missing(self, at: KeyPath, key: str) -> None:
        """Add that the table at `at` lacks a key."""
        self.add(at, f"needs the key {key}")

    def add_no_table(self, at: KeyPath) -> None:
        """Add that there is no table at `at`."""
        self.add(at, f"must be a table, as in [{dotted(at)}]")

    def warn(self, at: KeyPath, text: str) -> None:
        """Add a warning of a value that is valid and probably a mistake."""
        self._doubtful.append(Problem(at, text))

    @property
    def count(self) -> int:
        """Number of problems."""
        return len(self.found)

    @property
    def wrong(self) -> int:
        """Number of problems other than unknown keys."""
        return len(self.found) - self.unknown

    @property
    def tables(self) -> set[str | int]:
        """Top-level tables with a problem."""
        return {problem.at[0] for problem in self.found if problem.at}

    @property
    def keys(self) -> set[KeyPath]:
        """Keys with a problem."""
        return {problem.at for problem in self.found}

    @property
    def problems(self) -> list[str]:
        """Problems, one line each, sorted by file and line."""
        return self._lines(self.found)

    @property
    def warnings(self) -> list[str]:
        """Warnings, one line each, sorted by file and line."""
        return self._lines(self._doubtful)

    def base(self, at: KeyPath) -> Path:
        """Return the folder of the file that holds a key: relative paths start there."""
        return self._place(at)[0].parent

    def _lines(self, problems: list[Problem]) -> list[str]:
        placed = [(*self._place(at), f"{dotted(at)}: {text}") for at, text in problems]
        placed.sort(key=lambda one: (one[0] != self._main, str(one[0]), one[1]))
        return [f"{file}:{line}: {text}" for file, line, text in placed]

    def _place(self, at: KeyPath) -> tuple[Path, int]:
        """Return file and line of a key; of the nearest table around it if it does not stand there."""
        while at and at not in self._places:
            at = at[:-1]
        return self._places.get(at, (self._main, 1))


class TooManyProblems(Exception):
    """Limit of `MOST_BODY_PROBLEMS` reached: checking stops."""


class BodyReport(Report):
    """Problems of a command's JSON body."""

    unknown_key = "is not known here"
    kinds: Mapping[str, str] = {
        **Report.kinds,
        "decimal": "a number, as in 1.5",
        "object": 'an object, as in { "key": ... }',
        "datetime": "a date with a time, as in 2026-11-01T00:00:00Z",
        "date": "a date, as in 2026-11-01",
    }

    def __init__(self) -> None:
        super().__init__({}, Path())

    def add(self, at: KeyPath, text: str) -> None:
        """Add a problem. Raises TooManyProblems after the last one that there is room for."""
        super().add(at, text[:_LONGEST_PROBLEM])
        if self.count >= MOST_BODY_PROBLEMS:
            raise TooManyProblems

    def add_missing(self, at: KeyPath, key: str) -> None:
        self.add((*at, key), "is missing")

    def add_no_table(self, at: KeyPath) -> None:
        self.add(at, f"must be {self.kinds['object']}")


def dotted(at: KeyPath) -> str:
    """Write a path as TOML does: `sources.apicbase.doors[0]`."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.match(part) else f'"{part}"')
    return text


def json_path(at: KeyPath) -> str:
    """Write a path as in `$.articles[0].interval`; other keys stand in brackets, long ones cut."""
    text = "$"
    for part in at:
        if isinstance(part, str) and len(part) <= _LONGEST_KEY and _PLAIN_KEY.match(part):
            text += f".{part}"
        elif isinstance(part, str):
            text += f"[{json.dumps(part if len(part) <= _LONGEST_KEY else part[:_LONGEST_KEY] + '...')}]"
        else:
            text += f"[{part}]"
    return text
