"""Names of rows and orders, as operators write them. Pure.

    inbox:17 outbox:17 submit:17 ack:17   one row
    event:SOURCE/KEY                      an event, also as SOURCE/KEY@VERSION
    message:KEY                           what was made of an event: one row for each target
    order:SOURCE/ORDER_REF                an order: its events, messages and acknowledgements
    number:PO-1                           an order, by the vendor's own number

A text without one of these in front may be any of them, or the id of a submission.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Status = Literal["ready", "leased", "done", "held", "dead", "unknown"]
Queue = Literal["inbox", "outbox", "acknowledgements", "submit"]
Kind = Literal["row", "event", "message", "order", "number", "text"]

LONGEST_NUMBER = 200
_QUEUES: Mapping[str, Queue] = {"inbox": "inbox", "outbox": "outbox", "submit": "submit", "ack": "acknowledgements"}
_PREFIXES: Mapping[Queue, str] = {queue: prefix for prefix, queue in _QUEUES.items()}
_ROW = re.compile(r"(inbox|outbox|submit|ack):(\d{1,18})\Z", re.ASCII)
_NAMED: Mapping[str, Kind] = {"event": "event", "message": "message", "order": "order", "number": "number"}


def statuses_of(queue: Queue) -> tuple[Status, ...]:
    """Return the statuses that a row of this queue can have."""
    usual: tuple[Status, ...] = ("ready", "leased", "done", "held", "dead")
    return (*usual, "unknown") if queue in ("outbox", "submit") else usual


class Name(Struct, frozen=True, kw_only=True):
    """Parsed name: `queue` and `id` of a row, `text` of anything else."""

    kind: Kind
    text: str = ""
    queue: Queue = "inbox"
    id: int = 0


def read(text: str) -> Name:
    """Parse a name."""
    if (row := _ROW.match(text)) is not None:
        return Name(kind="row", queue=_QUEUES[row[1]], id=int(row[2]))
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _NAMED:
        return Name(kind=_NAMED[prefix], text=rest)
    return Name(kind="text", text=text)


def row_name(queue: Queue, row_id: int) -> str:
    """Return the name of one row, and of no other."""
    return f"{_PREFIXES[queue]}:{row_id}"
