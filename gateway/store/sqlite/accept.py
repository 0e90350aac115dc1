"""Accepting events: an event of a known order is compared with it, many new orders share a few statements.

Each statement releases the interpreter lock and has to get it back from a busy event loop. Nearly all events are of new orders: up to 512
of them share three statements. If one is not, groups of 32 are tried, and the events of its group are stored one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gateway.clock import to_ms
from gateway.store.arrivals import Accepted, NewEvent
from gateway.store.rows import Channel
from gateway.store.sqlite.versions import kept_earlier, known_order, make_newest, number_of_earlier, repeated, say_again, to_us, why_earlier
from gateway.store.sqlite.writer import Batchable, Connection

_NEW = """
    INSERT INTO orders (source, order_ref, versions, content, newest_key, newest_sequence, newest_as_of_us) VALUES (?,?,1,?,?,?,?)
    ON CONFLICT DO NOTHING"""
# The order of the rows that have a key already. A row that was ignored has none, only the vendor's reference.
_OWNERS = """
    SELECT order_ref, inbox.reference FROM inbox LEFT JOIN (SELECT id AS oid, order_ref FROM orders) ON oid = order_id
    WHERE key = ? AND source = ? ORDER BY order_id DESC LIMIT 1"""
_KNOWN_KEYS = "SELECT count(*) FROM json_each(?) WHERE EXISTS (SELECT 1 FROM inbox WHERE key = json_each.value AND source = ?)"
_STORE = """
    INSERT INTO inbox (source, door, key, version, order_id, status, outcome, due_at_ms, reference, occurred_at_ms, received_at_ms,
                       settled_at_ms, reason, fetch, content, sha256, document)
    VALUES (:source, :door, :key, :version, :order_id, :status, :outcome, :due_at_ms, :reference, :occurred_at_ms, :received_at_ms,
            :settled_at_ms, :reason, :fetch, :content, :sha256, :document) ON CONFLICT (key, source, version) DO NOTHING"""
_STORE_RECEIPT = """
    INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms)
    SELECT source, ?, id, 'ready', ?, ? FROM inbox WHERE key = ? AND source = ? AND version = ?"""
_BUSY = "SELECT 1 FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND status <> 'done' LIMIT 1"

_FEW, _MANY = 6, 32
_CROWDS = (512, 256, 128, 64)  # few sizes, so that few statements are kept compiled
_ROW = "(?,?,?,?,1,?,'ready',?,?,?,?,?,?,?,?)"
_NEW_ORDERS = """
    INSERT INTO orders (id, source, order_ref, versions, content, newest_key, newest_sequence, newest_as_of_us)
    VALUES {} ON CONFLICT DO NOTHING"""
_NEW_EVENTS = """
    INSERT INTO inbox (id, source, door, key, version, order_id, status, due_at_ms, reference, occurred_at_ms, received_at_ms,
                       fetch, content, sha256, document)
    VALUES {} ON CONFLICT DO NOTHING"""
# In place of a savepoint, which copies every page before it is written, although this hardly ever happens.
_NOT_THIS_ORDER = "DELETE FROM orders WHERE source = ? AND order_ref = ?"
_NOT_THESE_EVENTS, _NOT_THESE_ORDERS = "DELETE FROM inbox WHERE id > ?", "DELETE FROM orders WHERE id > ?"
_NEW_RECEIPTS = "INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms) VALUES {}"

_OTHERS_KEY = (
    "its key {key} is another order's already, and a key names one event: ask the vendor. The order is taken as soon as it comes under a "
    "key of its own; then drop this"
)

Arrival = tuple[str, Channel, NewEvent, int]


class Accept(Batchable[list[Accepted]]):
    """Call of `accept`; calls that share a commit share their statements."""

    __slots__ = ("came", "cursor")

    def __init__(self, source: str, door: Channel, events: Sequence[NewEvent], cursor: str | None, now_ms: int) -> None:
        self.came: list[Arrival] = [(source, door, event, now_ms) for event in events]
        self.cursor = None if cursor is None else (source, door, cursor)

    @classmethod
    def run_batch(cls, db: Connection, changes: Sequence[Accept]) -> list[list[Accepted]]:
        accepted = iter(accept_all(db, [one for change in changes for one in change.came]))
        for change in changes:
            if change.cursor is not None:
                db.execute("INSERT OR REPLACE INTO cursors (source, door, cursor) VALUES (?,?,?)", change.cursor)
        return [[next(accepted) for _ in change.came] for change in changes]


def accept_all(db: Connection, came: Sequence[Arrival], read_again: int | None = None) -> list[Accepted]:
    """Store events in the order in which they came.

    Args:
        read_again: The row of the dead letter that they were read from, if they are read again.
    """
    accepted: list[Accepted] = []
    first, suspicious_until = 0, 0
    while first < len(came):
        left = len(came) - first
        size = next((size for size in _CROWDS if size <= left), _MANY) if first >= suspicious_until else _MANY
        some = came[first : first + size]
        if len(some) >= _FEW and _all_new(db, some):
            accepted += [Accepted(key=event.key, outcome="stored") for _, _, event, _ in some]
        elif size > _MANY:
            suspicious_until = first + size
            continue
        else:
            accepted += [_accept_one(db, *one, read_again) for one in some]
        first += size
    return accepted


def _all_new(db: Connection, came: Sequence[Arrival]) -> bool:
    """Store events of new orders. Return False, with nothing done, if one is anything else; the unique indexes decide."""
    if any(event.order_ref is None or event.ignored is not None or event.dead is not None for _, _, event, _ in came):
        return False
    if _some_key_is_known(db, came):
        return False
    known = db.execute("SELECT (SELECT coalesce(max(id), 0) FROM orders), (SELECT coalesce(max(id), 0) FROM inbox)").fetchone()
    order_id, row_id = known
    orders: list[object] = []
    rows: list[object] = []
    receipts: list[object] = []
    for source, door, event, now_ms in came:
        order_id, row_id = order_id + 1, row_id + 1
        orders += (order_id, source, event.order_ref, event.content, event.key, event.sequence, to_us(event.as_of))
        rows += (row_id, source, door, event.key, order_id, now_ms, event.reference, to_ms(event.occurred_at), now_ms)
        rows += (event.fetch, event.content, event.sha256, event.document)
        if event.acknowledge is not None:
            receipts += (source, event.acknowledge, row_id, now_ms, now_ms)
    count = len(came)
    if (
        db.execute(_NEW_ORDERS.format(",".join(["(?,?,?,1,?,?,?,?)"] * count)), orders).rowcount != count
        or db.execute(_NEW_EVENTS.format(",".join([_ROW] * count)), rows).rowcount != count
    ):
        db.execute(_NOT_THESE_EVENTS, known[1:])
        db.execute(_NOT_THESE_ORDERS, known[:1])
        return False
    if receipts:
        db.execute(_NEW_RECEIPTS.format(",".join(["(?,?,?,'ready',?,?)"] * (len(receipts) // 5))), receipts)
    return True


def _some_key_is_known(db: Connection, came: Sequence[Arrival]) -> bool:
    """Return whether there is a row of one of the keys, of any version: the unique index does not tell of a later one."""
    keys: dict[str, list[str]] = {}
    for source, _, event, _ in came:
        keys.setdefault(source, []).append(event.key)
    return any(db.execute(_KNOWN_KEYS, (json.dumps(some), source)).fetchone()[0] for source, some in keys.items())


def _accept_one(db: Connection, source: str, door: Channel, event: NewEvent, now_ms: int, read_again: int | None = None) -> Accepted:
    came, ref = (source, door, event, now_ms), event.order_ref
    if ref is not None and _is_anothers(db, source, event):
        dead = _under_anothers_key(event)
        return replace(_store(db, source, door, dead, now_ms, {"status": "dead"}), flagged=dead.dead)
    if event.ignored is not None:
        outcome, reference = "flagged" if event.flagged else "ignored", event.reference or event.order_ref
        ended = {"status": "done", "outcome": outcome, "settled_at_ms": now_ms, "reason": event.ignored}
        return _store(db, *came, {**ended, "reference": reference, "fetch": False, "content": None})
    if ref is None:
        return _store(db, *came, {"status": "dead"})
    if db.execute(_NEW, (source, ref, event.content, event.key, event.sequence, to_us(event.as_of))).rowcount == 1:
        (order_id,) = db.execute("SELECT last_insert_rowid()").fetchone()
        accepted = _store(db, *came, {"order_id": order_id, "due_at_ms": now_ms})
        if accepted.outcome == "repeat":  # it was ignored once: it makes no order now
            db.execute(_NOT_THIS_ORDER, (source, ref))
        return accepted
    order = known_order(db, source, ref)
    if (known := repeated(db, order, source, event)) is not None:
        say_again(db, order, event)
        return Accepted(key=shown_key(*known), outcome="repeat")
    if not event.sends_earlier and (reason := why_earlier(db, order, event, read_again)) is not None:
        if (version_kept := kept_earlier(db, order, source, event)) is not None:
            return Accepted(key=shown_key(event.key, version_kept), outcome="repeat")
        # The row is done at once: the newest version does not wait behind it. It is acknowledged as any other.
        ended = {"status": "done", "outcome": "earlier_version", "settled_at_ms": now_ms, "reason": reason}
        version = number_of_earlier(db, source, event.key)
        return replace(_store(db, *came, {**ended, "order_id": order.id, "fetch": False}, version), flagged=reason)
    due_ms = None if db.execute(_BUSY, (order.id,)).fetchone() else now_ms
    return _store(db, *came, {"order_id": order.id, "due_at_ms": due_ms}, make_newest(db, order, event))


def _store(
    db: Connection, source: str, door: Channel, event: NewEvent, now_ms: int, columns: Mapping[str, object], version: int = 1
) -> Accepted:
    """Insert the inbox row of an event, `ready` unless `columns` say otherwise, and its acknowledgement; a repeat if it is there."""
    values: dict[str, object] = {"source": source, "door": door, "key": event.key, "version": version, "order_id": None}
    values |= {"status": "ready", "outcome": None, "due_at_ms": None, "settled_at_ms": None, "reason": event.dead}
    values |= {"reference": event.reference, "occurred_at_ms": to_ms(event.occurred_at), "received_at_ms": now_ms}
    values |= {"fetch": event.fetch, "content": event.content, "sha256": event.sha256, "document": event.document, **columns}
    is_new = db.execute(_STORE, values).rowcount == 1
    if is_new and event.acknowledge is not None and values["status"] != "dead":
        db.execute(_STORE_RECEIPT, (event.acknowledge, now_ms, now_ms, event.key, source, version))
    return Accepted(key=shown_key(event.key, version), outcome="stored" if is_new else "repeat")


def _is_anothers(db: Connection, source: str, event: NewEvent) -> bool:
    """Return whether the event's key is known and belongs to another order."""
    owner = db.execute(_OWNERS, (event.key, source)).fetchone()
    if owner is None:
        return False
    if owner[0] is not None:
        return bool(owner[0] != event.order_ref)
    return event.ignored is None and owner[1] != (event.reference or event.order_ref)


def _under_anothers_key(event: NewEvent) -> NewEvent:
    """Make a dead letter with a key of its own; the same event gives the same dead letter."""
    parts = (event.key.encode(), (event.order_ref or "").encode(), event.content or event.sha256 or b"")
    digest = hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()[:16]
    reason = _OTHERS_KEY.format(key=event.key)
    return replace(event, key=f"anothers-key-{digest}", order_ref=None, content=None, fetch=False, acknowledge=None, dead=reason)


def shown_key(key: str, version: int) -> str:
    """Return an event's name for operators: its key, with the version from the second on; an earlier version has a name of its own."""
    if version < 1:
        return f"{key}@earlier-{1 - version}"
    return key if version == 1 else f"{key}@{version}"
