"""Accepting events: an event of a known order is compared with it, many new orders share a few statements.

Each statement lets the interpreter lock go and has to get it back from a busy event loop, so events that are all of new orders,
as nearly all are, take the same three statements for up to 512 of them. Where one is not, it is looked for among 32, and each of
those takes its own way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.clock import to_ms
from gateway.store.arrivals import Accepted, Incoming
from gateway.store.rows import Channel
from gateway.store.sqlite.versions import kept_earlier, known_order, make_newest, number_of_earlier, repeated, say_again, to_us, why_earlier
from gateway.store.sqlite.writer import Connection, Together

_NEW = """
    INSERT INTO orders (source, order_ref, versions, content, newest_key, newest_sequence, newest_as_of_us) VALUES (?,?,1,?,?,?,?)
    ON CONFLICT DO NOTHING"""
# Whose the rows are that have a key already. One that was ignored is nobody's, but for what its vendor calls it.
_OWNERS = """
    SELECT order_ref, inbox.reference FROM inbox LEFT JOIN (SELECT id AS oid, order_ref FROM orders) ON oid = order_id
    WHERE key = ? AND source = ? ORDER BY order_id DESC LIMIT 1"""
_KNOWN_KEYS = "SELECT count(*) FROM json_each(?) WHERE EXISTS (SELECT 1 FROM inbox WHERE key = json_each.value AND source = ?)"
_STORED = """
    INSERT INTO inbox (source, door, key, version, order_id, status, due_at_ms, reference, occurred_at_ms, received_at_ms,
                       reason, fetch, content, sha256, document)
    VALUES (?,?,?,?,{order_id},?,?,?,?,?,?,?,?,?,?) ON CONFLICT (key, source, version) DO NOTHING"""
_STORED_FIRST = _STORED.format(order_id="last_insert_rowid()")
_STORED_LATER = _STORED.format(order_id="?")
_EARLIER = """
    INSERT INTO inbox (source, door, key, version, order_id, status, outcome, reference, occurred_at_ms, received_at_ms, settled_at_ms,
                       reason, content, sha256, document)
    VALUES (?,?,?,?,?,'done','earlier_version',?,?,?,?,?,?,?,?)"""
_IGNORED = """
    INSERT INTO inbox (source, door, key, version, status, outcome, reference, occurred_at_ms, received_at_ms, settled_at_ms,
                       reason, sha256, document)
    VALUES (?,?,?,1,'done',?,?,?,?,?,?,?,?) ON CONFLICT (key, source, version) DO NOTHING"""

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
# In place of a savepoint, which copies every page before it is written to, for the sake of what hardly ever happens.
_NOT_THIS_ORDER = "DELETE FROM orders WHERE source = ? AND order_ref = ?"
_NOT_THESE_EVENTS, _NOT_THESE_ORDERS = "DELETE FROM inbox WHERE id > ?", "DELETE FROM orders WHERE id > ?"
_NEW_RECEIPTS = "INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms) VALUES {}"

_OTHERS_KEY = (
    "its key {key} is another order's already, and a key names one event: ask the vendor. The order is taken as soon as it comes under a "
    "key of its own; then drop this"
)

Arrival = tuple[str, Channel, Incoming, int]


class Accept(Together[list[Accepted]]):
    """One call of `accept`; calls that share a commit share their statements."""

    __slots__ = ("came", "cursor")

    def __init__(self, source: str, door: Channel, events: Sequence[Incoming], cursor: str | None, now_ms: int) -> None:
        self.came: list[Arrival] = [(source, door, event, now_ms) for event in events]
        self.cursor = None if cursor is None else (source, door, cursor)

    @classmethod
    def together(cls, db: Connection, changes: Sequence[Accept]) -> list[list[Accepted]]:
        accepted = iter(accept_all(db, [one for change in changes for one in change.came]))
        for change in changes:
            if change.cursor is not None:
                db.execute("INSERT OR REPLACE INTO cursors (source, door, cursor) VALUES (?,?,?)", change.cursor)
        return [[next(accepted) for _ in change.came] for change in changes]


def accept_all(db: Connection, came: Sequence[Arrival], read_again: int | None = None) -> list[Accepted]:
    """Store events in the order in which they came.

    Args:
        read_again: The row of the dead letter that they were read from, where they are no news.
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


def _accept_one(db: Connection, source: str, door: Channel, event: Incoming, now_ms: int, read_again: int | None = None) -> Accepted:
    ref = event.order_ref
    if ref is not None and _is_anothers(db, source, event):
        dead = _under_anothers_key(event)
        return replace(_keep_dead(db, source, door, dead, now_ms), flagged=dead.dead)
    if event.ignored is not None:
        return _ignore(db, source, door, event, now_ms)
    if ref is None:
        return _keep_dead(db, source, door, event, now_ms)
    version, order_id = 1, None
    if db.execute(_NEW, (source, ref, event.content, event.key, event.sequence, to_us(event.as_of))).rowcount == 1:
        added = db.execute(_STORED_FIRST, (source, door, event.key, 1, "ready", now_ms, *_tail(event, now_ms)))
        if added.rowcount == 0:  # it was ignored once: it makes no order now
            db.execute(_NOT_THIS_ORDER, (source, ref))
    else:
        order = known_order(db, source, ref)
        if (known := repeated(db, order, source, event)) is not None:
            say_again(db, order, event)
            return Accepted(key=shown_key(*known), outcome="repeat")
        if not event.sends_earlier and (reason := why_earlier(db, order, event, read_again)) is not None:
            if (version_kept := kept_earlier(db, order, source, event)) is not None:
                return Accepted(key=shown_key(event.key, version_kept), outcome="repeat")
            return _keep_earlier(db, source, door, event, order.id, reason, now_ms)
        order_id, version = order.id, make_newest(db, order, event)
        due_ms = None if _lane_is_busy(db, order_id) else now_ms
        added = db.execute(_STORED_LATER, (source, door, event.key, version, order_id, "ready", due_ms, *_tail(event, now_ms)))
    if added.rowcount == 0:
        return Accepted(key=shown_key(event.key, version), outcome="repeat")
    _acknowledge(db, source, event, version, now_ms)
    return Accepted(key=shown_key(event.key, version), outcome="stored")


def _tail(event: Incoming, now_ms: int) -> tuple[object, ...]:
    """Return the last columns of every row that is stored."""
    said = (event.reference, to_ms(event.occurred_at), now_ms, event.dead)
    return (*said, event.fetch, event.content, event.sha256, event.document)


def _ignore(db: Connection, source: str, door: Channel, event: Incoming, now_ms: int) -> Accepted:
    outcome, reference = "flagged" if event.flagged else "ignored", event.reference or event.order_ref
    came = (source, door, event.key, outcome, reference, to_ms(event.occurred_at), now_ms, now_ms)
    if db.execute(_IGNORED, (*came, event.ignored, event.sha256, event.document)).rowcount == 0:
        return Accepted(key=event.key, outcome="repeat")
    _acknowledge(db, source, event, 1, now_ms)
    return Accepted(key=event.key, outcome="stored")


def _keep_dead(db: Connection, source: str, door: Channel, event: Incoming, now_ms: int) -> Accepted:
    added = db.execute(_STORED_LATER, (source, door, event.key, 1, None, "dead", None, *_tail(event, now_ms)))
    return Accepted(key=event.key, outcome="stored" if added.rowcount else "repeat")


def _keep_earlier(db: Connection, source: str, door: Channel, event: Incoming, order_id: int, reason: str, now_ms: int) -> Accepted:
    """Store an earlier version as done: the newest does not wait behind it, and the vendor is told of it as of any other."""
    version = number_of_earlier(db, source, event.key)
    came = (event.reference, to_ms(event.occurred_at), now_ms, now_ms)
    db.execute(_EARLIER, (source, door, event.key, version, order_id, *came, reason, event.content, event.sha256, event.document))
    _acknowledge(db, source, event, version, now_ms)
    return Accepted(key=shown_key(event.key, version), outcome="stored", flagged=reason)


def _acknowledge(db: Connection, source: str, event: Incoming, version: int, now_ms: int) -> None:
    if event.acknowledge is not None:
        db.execute(
            "INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms) "
            "SELECT source, ?, id, 'ready', ?, ? FROM inbox WHERE key = ? AND source = ? AND version = ?",
            (event.acknowledge, now_ms, now_ms, event.key, source, version),
        )


def _is_anothers(db: Connection, source: str, event: Incoming) -> bool:
    """Return whether the event's key is known and belongs to another order."""
    owner = db.execute(_OWNERS, (event.key, source)).fetchone()
    if owner is None:
        return False
    if owner[0] is not None:
        return bool(owner[0] != event.order_ref)
    return event.ignored is None and owner[1] != (event.reference or event.order_ref)


def _under_anothers_key(event: Incoming) -> Incoming:
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


def _lane_is_busy(db: Connection, order_id: int | None) -> bool:
    return (
        db.execute("SELECT 1 FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND status <> 'done' LIMIT 1", (order_id,)).fetchone()
        is not None
    )
