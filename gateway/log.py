"""Log lines on standard error, one per event: JSON, or plain text for a terminal. They hold no bodies, secrets or personal data.

A line is an event's name and its fields (`extra={...}`); systemd's journal adds the rest.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

Form = Literal["json", "plain"]

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_MAX_CAUSES = 5
_encoder = msgspec.json.Encoder(enc_hook=str)
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def set_up(form: Form, level: str = "info", *, journal: bool = False) -> None:
    """Send all log records to standard error.

    Args:
        journal: Put syslog's `<priority>`, which systemd reads, in front of each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form, journal=journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(level.upper())
    logging.captureWarnings(True)
    # A line prints none of this, and every order costs a line (Python's logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def formatter(form: Form, *, journal: bool = False) -> logging.Formatter:
    """Return the formatter of one form of line."""
    return _Formatter(_json_line if form == "json" else _plain_line, journal)


class _Formatter(logging.Formatter):
    def __init__(self, line: Callable[[logging.LogRecord], str], journal: bool) -> None:
        super().__init__()
        self._line, self._journal = line, journal

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITY.get(record.levelno, 6)}>" if self._journal else ""
        return priority + self._line(record)


def _json_line(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"at": at, "level": record.levelname.lower(), "event": _event(record), **_fields(record)}
    if trace := _trace(record):
        entry["trace"] = trace
    try:
        line = _encoder.encode(entry).decode()
    except UnicodeEncodeError:  # a lone surrogate, for instance out of a request's path
        line = ""
    return line if line.isprintable() and line else json.dumps(entry, default=str)


def _plain_line(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
    fields = " ".join(f"{name}={_quoted(value)}" for name, value in _fields(record).items())
    trace = _trace(record)
    return f"{at} {record.levelname.lower():8} {_event(record)} {fields}".rstrip() + (f"\n    {trace}" if trace else "")


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text, ensure_ascii=not text.isprintable())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the record's `extra`, without the fields that are None."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}


def _event(record: logging.LogRecord) -> str:
    """Return the event's name; for a library's record its first line, since asyncio appends exception texts, which can hold input."""
    return record.getMessage() if record.name.split(".")[0] == "gateway" else record.getMessage().split("\n", 1)[0]


def _trace(record: logging.LogRecord) -> str | None:
    """Return the stack of the record's exception and its causes, without exception texts, which can hold input."""
    if not record.exc_info or record.exc_info[1] is None:
        return None
    lines: list[str] = []
    error: BaseException | None = record.exc_info[1]
    while error is not None and len(lines) < _MAX_CAUSES:
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        calls = " < ".join(f"{f.filename.rsplit('/', 2)[-1]}:{f.lineno} {f.name}" for f in reversed(frames))
        lines.append(f"{type(error).__name__} at {calls}")
        error = error.__cause__
    return "; caused by ".join(lines)
