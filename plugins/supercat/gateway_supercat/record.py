"""One order record of a poll answer: what names it, and what makes a version of it (vendors/supercat.md sections 1 and 4).

`uuid` is the same for all versions of an order, `id` counts up over all records, `order_number` has a dash and the version
behind it (seed, Inbound order processing). Nothing else of a record is documented.
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
    """A record that can be told from every other one.

    Attributes:
        uuid: In lower case.
        number: As it came: marks need it letter by letter.
        fields: All of them, as `gateway.read_json` gives them.
    """

    id: int
    uuid: str
    number: str
    fields: dict[str, Any]


def read(document: bytes) -> Record:
    """Read one record. Raises ValueError, which quotes nothing of it but keys."""
    fields = read_json(document, max_bytes=_MAX_BYTES)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    return Record(id=_id(fields.get("id")), uuid=_uuid(fields.get("uuid")), number=_number(fields.get("order_number")), fields=fields)


def found(document: bytes, settings: Settings, *, is_first: bool = True) -> tuple[int, Event | Unreadable]:
    """A record of a poll answer as an event behind its id, or as a dead letter of its own behind none."""
    try:
        record = read(document)
    except ValueError as error:
        return 0, Unreadable(document=document, reason=f"not a SuperCat order: {without_input(error)}")
    return record.id, event(record, document, settings, is_first=is_first)


def event(record: Record, document: bytes, settings: Settings, *, is_first: bool = True) -> Event:
    """The record as an event; one from before the start is kept and marked, and nothing is made of it.

    Args:
        is_first: It is, or may be, of the first poll. An old id that turns up later is flagged: it may be a draft from before the
            start that was submitted only now.
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
    """The record in one spelling: keys in order, numbers as texts, the uuid in lower case.

    The id counts: the same order with a new id is a new version (vendors/supercat.md 4.8). Left out is what the operator has
    seen SuperCat change by itself. A change to this function makes every order that comes again a revision.
    """
    kept = {key: value for key, value in record.fields.items() if key not in volatile}
    return _encoder.encode(kept | {"id": record.id, "uuid": record.uuid, "order_number": record.number})


def _id(value: Any) -> int:
    """A number, or its text: the seed shows `"id":356509"`."""
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
