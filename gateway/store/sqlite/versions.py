"""Relation of an event to a known order: a repeat, a revision, or an earlier version, which may not overtake the newest one.

Which contents an order had stands in its inbox rows, which live as long as their keys. A version that was rejected counts while a
later one stands; else its sender may send it anew.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gateway.store.arrivals import NewEvent
from gateway.store.sqlite.writer import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ORDER = """
    SELECT id, versions, content, newest_key, newest_sequence, newest_as_of_us FROM orders WHERE source = ? AND order_ref = ?"""
_HAD = """
    SELECT max(version) FILTER (WHERE content = ?2), max(version) FILTER (WHERE outcome IS NOT 'rejected'), max(id)
    FROM inbox INDEXED BY inbox_by_order
    WHERE order_id = ?1 AND content IS NOT NULL AND outcome IS NOT 'earlier_version'"""
_SAME = """
    SELECT version FROM inbox
    WHERE key = ?1 AND source = ?2 AND order_id = ?3 AND (?4 IS NULL OR (content = ?4 AND (outcome IS 'earlier_version') = ?5))
    ORDER BY version DESC LIMIT 1"""
_NEWER = """
    UPDATE orders SET versions = ?, content = coalesce(?, content), newest_key = ?, newest_sequence = ?, newest_as_of_us = ?
    WHERE id = ?"""
_NEWEST_AT = "UPDATE orders SET newest_sequence = ?, newest_as_of_us = ? WHERE id = ?"
_KEY = "SELECT key, version FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND version = ? AND content = ?"
_LOWEST = "SELECT min(version) FROM inbox WHERE key = ? AND source = ?"


class Known(NamedTuple):
    """Order, and how new its newest version is."""

    id: int
    versions: int
    content: bytes | None
    newest_key: str
    sequence: int | None
    as_of_us: int | None


class Standing(NamedTuple):
    """Version of an order that had a content, the newest one that stands, and the newest row of any."""

    had: int | None
    newest: int | None
    newest_row: int | None

    @property
    def is_newest(self) -> bool:
        return self.had is not None and self.had == self.newest

    @property
    def is_earlier(self) -> bool:
        return self.had is not None and self.newest is not None and self.had < self.newest


def to_us(at: datetime | None) -> int | None:
    """Return microseconds since 1970: vendors date versions more finely than the store's own times."""
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def known_order(db: Connection, source: str, order_ref: str) -> Known:
    return Known(*db.execute(_ORDER, (source, order_ref)).fetchone())


def standing(db: Connection, order_id: int | None, content: bytes) -> Standing:
    return Standing(*db.execute(_HAD, (order_id, content)).fetchone())


def repeated(db: Connection, order: Known, source: str, event: NewEvent) -> tuple[str, int] | None:
    """Return the key and the version that an event repeats; None if it says something new, or something old once more.

    Where each version has an event of its own, one that comes again as it was is that event. Where all share a key, content that
    comes again behind a newer one says something old.
    """
    if event.content is not None and event.content == order.content:
        return order.newest_key, order.versions
    if event.content is None or order.newest_key != event.key:
        same = db.execute(_SAME, (event.key, source, order.id, event.content, False)).fetchone()
        if same is not None:
            return event.key, int(same[0])
    if event.content is not None and order.content is None:  # the newest one was rejected: what stands is the one before
        found = standing(db, order.id, event.content)
        if found.is_newest:
            return tuple(db.execute(_KEY, (order.id, found.had, event.content)).fetchone())
    return None


def kept_earlier(db: Connection, order: Known, source: str, event: NewEvent) -> int | None:
    """Return the version that an event was given when it came as an earlier one before."""
    same = db.execute(_SAME, (event.key, source, order.id, event.content, True)).fetchone()
    return None if same is None else int(same[0])


def why_earlier(db: Connection, order: Known, event: NewEvent, read_again: int | None) -> str | None:
    """Say why an event is an earlier version of its order; None if it is a newer one.

    Args:
        read_again: The row of the dead letter that it was read from, if it is read again.
    """
    dated = _is_before(order, event)
    if dated:
        counted = event.sequence is not None and order.sequence is not None
        return f"the vendor {'counts' if counted else 'dates'} it before the newest version of its order, which is known already"
    if event.content is None:
        return None
    found = standing(db, order.id, event.content)
    if found.is_earlier:
        return had_before(found)
    came_before = read_again is not None and found.newest_row is not None and read_again < found.newest_row
    if dated is None and came_before:
        return "it came before the newest version of its order, and could not be read then"
    return None


def had_before(found: Standing) -> str:
    """Say why a content is an earlier version."""
    return f"the order had this content before, as version {found.had}; version {found.newest} is newer"


def _is_before(order: Known, event: NewEvent) -> bool | None:
    """Return what the vendor says of it; None if it says nothing."""
    if order.sequence is not None and event.sequence is not None:
        return event.sequence < order.sequence
    as_of_us = to_us(event.as_of)
    return as_of_us < order.as_of_us if order.as_of_us is not None and as_of_us is not None else None


def newest_of(order: Known, event: NewEvent) -> tuple[int | None, int | None]:
    """Return how new the newest version is with this event: never less than before."""
    return _later(order.sequence, event.sequence), _later(order.as_of_us, to_us(event.as_of))


def _later(one: int | None, other: int | None) -> int | None:
    return max((at for at in (one, other) if at is not None), default=None)


def say_again(db: Connection, order: Known, event: NewEvent) -> None:
    """Record that the newest version came once more: what the vendor dates before that is old now."""
    newest = newest_of(order, event)
    if newest != (order.sequence, order.as_of_us):
        db.execute(_NEWEST_AT, (*newest, order.id))


def make_newest(db: Connection, order: Known, event: NewEvent) -> int:
    """Make an event the newest of its order, and return its version: another one only with other content."""
    versions = order.versions + (event.content is not None)
    db.execute(_NEWER, (versions, event.content, event.key, *newest_of(order, event), order.id))
    return versions if event.content is not None else 1


def number_of_earlier(db: Connection, source: str, key: str) -> int:
    """Return a version for the row of an earlier one: none of those that count, which begin with 1."""
    (lowest,) = db.execute(_LOWEST, (key, source)).fetchone()
    return 1 if lowest is None else min(int(lowest), 1) - 1
