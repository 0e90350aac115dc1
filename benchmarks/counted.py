"""The `gateway` command with its SQLite watched: `python -m benchmarks.counted OUT.json serve ...`.

What each statement cost is written to OUT.json at the end: how often it ran, and its seconds on the clock, waiting for the
interpreter lock included. The process is slower for it, so only counts and shares are used.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.cli.main import main

counts: dict[str, list[float]] = {}


class Watched(sqlite3.Connection):
    """A connection that times what it executes."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        began = time.perf_counter()
        try:
            return super().execute(sql, parameters)
        finally:
            _note(sql, time.perf_counter() - began)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        began = time.perf_counter()
        try:
            return super().executemany(sql, parameters)
        finally:
            _note(sql, time.perf_counter() - began)


def _note(sql: str, seconds: float) -> None:
    count = counts.setdefault(" ".join(sql.split()), [0, 0.0])
    count[0] += 1
    count[1] += seconds


if __name__ == "__main__":
    connect = sqlite3.connect
    sqlite3.connect = lambda *a, **k: connect(*a, **{"factory": Watched, **k})
    code = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(counts))
    sys.exit(code)
