"""What would be in the journal: every record, as the gateway's own formatter writes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.log import Form, formatter


class _Keep(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@contextmanager
def log_lines(form: Form = "json", level: int = logging.INFO) -> Iterator[list[str]]:
    """The lines that are written while this is open."""
    lines: list[str] = []
    keep = _Keep(lines)
    keep.setFormatter(formatter(form))
    root, ours = logging.getLogger(), logging.getLogger("gateway")
    before = ours.level
    root.addHandler(keep)
    ours.setLevel(level)
    try:
        yield lines
    finally:
        root.removeHandler(keep)
        ours.setLevel(before)
