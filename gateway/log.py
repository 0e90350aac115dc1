"""One line per event on standard error: JSON, or plain for people at a terminal. No bodies, no secrets, no people.

A line is an event's name and its fields (`extra={...}`); systemd's journal adds the rest.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

Form = Literal["json", "plain"]

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_MOST_CAUSES = 5
_encoder = msgspec.json.Encoder(enc_hook=str)
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def set_up(form: Form, level: str = "info", *, journal: bool = False) -> None:
    """Send everything to standard error.

    Args:
        journal: Put syslog's `<priority>` in front, which systemd understands.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form, journal=journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(level.upper())
    logging.captureWarnings(True)
    # Nothing of this is printed, and a line an order is many lines (Python's logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def formatter(form: Form, *, journal: bool = False) -> logging.Formatter:
    """What makes a line of a record."""
    return _Json(journal) if form == "json" else _Plain(journal)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, without what is None."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}


def _trace(record: logging.LogRecord) -> str | None:
    """Where it failed, without what it failed on: exception texts can be made of input."""
    if not record.exc_info or record.exc_info[1] is None:
        return None
    lines: list[str] = []
    error: BaseException | None = record.exc_info[1]
    while error is not None and len(lines) < _MOST_CAUSES:
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        lines.append(
            f"{type(error).__name__} at " + " < ".join(f"{f.filename.rsplit('/', 2)[-1]}:{f.lineno} {f.name}" for f in reversed(frames))
        )
        error = error.__cause__
    return "; caused by ".join(lines)


def _event(record: logging.LogRecord) -> str:
    """The event's name. Of what others log, the first line: asyncio adds exception texts, which can be made of input."""
    return record.getMessage() if record.name.split(".")[0] == "gateway" else record.getMessage().split("\n", 1)[0]


class _Base(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        return self.prefix(record.levelno) + self.line(record)

    def prefix(self, level: int) -> str:
        return f"<{_PRIORITY.get(level, 6)}>" if self._journal else ""

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError


class _Json(_Base):
    def line(self, record: logging.LogRecord) -> str:
        told, trace = fields(record), _trace(record)
        if trace:
            told["trace"] = trace
        return _json(record.created, record.levelname, _event(record), told)


def _json(created: float, level: str, event: str, told: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"at": at, "level": level.lower(), "event": event, **told}
    try:
        line = _encoder.encode(entry).decode()
    except UnicodeEncodeError:  # a lone surrogate, out of a request's path for instance
        line = ""
    return line if line.isprintable() and line else json.dumps(entry, default=str)


class _Plain(_Base):
    def line(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        said = " ".join(f"{name}={_word(value)}" for name, value in fields(record).items())
        trace = _trace(record)
        return f"{at} {record.levelname.lower():8} {_event(record)} {said}".rstrip() + (f"\n    {trace}" if trace else "")


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text, ensure_ascii=not text.isprintable())
