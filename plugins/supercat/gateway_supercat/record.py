"""Order records of a poll's answer: their identity and their versions (vendors/supercat.md sections 1 and 4).

All versions of an order have the same `uuid`. `id` counts up over all records. `order_number` ends in a dash and the version (seed,
Inbound order processing). No other field of a record is documented.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from gateway import Event, Unreadable, is_identity, read_json, without_input
from gateway_supercat.settings import Settings

NAMES = ("id", "uuid", "order_number")
_MAX_BYTES = 8 * 1024**2
_ID = re.compile(r"[0-9]{1,18}")
_encoder = msgspec.json.Encoder(order="sorted")


class Record(Struct, frozen=True, kw_only=True):
    """Order record with its identity.

    Attributes:
        uuid: In lower case.
        number: Exactly as received, which marks need.
        fields: All fields, as `gateway.read_json` returns them.
    """

    id: int
    uuid: str
    number: str
    fields: dict[str, Any]


def read(document: bytes) -> Record:
    """Read a record. Raises ValueError, whose text quotes only keys of it."""
    fields = read_json(document, max_bytes=_MAX_BYTES)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    return Record(id=_id(fields.get("id")), uuid=_uuid(fields.get("uuid")), number=_number(fields.get("order_number")), fields=fields)


def found(document: bytes, settings: Settings, *, is_first: bool = True) -> tuple[int, Event | Unreadable]:
    """Convert a record of a poll's answer to its id and an event; to 0 and a dead letter if it cannot be read."""
    try:
        record = read(document)
    except ValueError as error:
        return 0, Unreadable(document=document, reason=f"not a SuperCat order: {without_input(error)}")
    return record.id, event(record, document, settings, is_first=is_first)


def event(record: Record, document: bytes, settings: Settings, *, is_first: bool = True) -> Event:
    """Convert a record to an event. One from before the start is stored and marked, and not forwarded.

    Args:
        is_first: It may be of the first poll. A record from before the start that comes later is flagged: it may be an old draft that
            was submitted only now.
    """
    after_id = settings.start.after_id if settings.start else 0
    is_old = record.id <= after_id
    return Event(
        key=str(record.id),
        order_ref=record.uuid,
        reference=record.number,
        document=document,
        content=content(record, settings.volatile),
        sequence=record.id,
        ignored=f"id {record.id} is not after start.after_id = {after_id}" if is_old else None,
        flagged=is_old and not is_first,
    )


def content(record: Record, volatile: Collection[str]) -> bytes:
    """Return the record in canonical form: keys in order, numbers as texts, the uuid in lower case.

    The id is part of it: the same order with a new id is a new version (vendors/supercat.md 4.8). The `volatile` fields, which SuperCat
    changes by itself, are not. A change to this function makes a revision of every order that comes again.
    """
    kept = {key: value for key, value in record.fields.items() if key not in volatile}
    return _encoder.encode(kept | {"id": record.id, "uuid": record.uuid, "order_number": record.number})


def _id(value: Any) -> int:
    """Read an id from a number or its text: the seed shows `"id":356509"`."""
    text = value.strip() if isinstance(value, str) else ""
    if not _ID.fullmatch(text) or int(text) == 0:
        raise ValueError("its id is no whole number from 1 on")
    return int(text)


def _uuid(value: Any) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if not is_identity(text) or len(text) > 100 or not text.isprintable():
        raise ValueError("it has no uuid")
    return text


def _number(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
        raise ValueError("it has no order_number, and cannot be marked as received")
    return value
