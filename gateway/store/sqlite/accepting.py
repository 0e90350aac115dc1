"""Accepting: what an event is to the orders that are known, and many new ones in few statements.

Each statement lets the interpreter lock go and has to get it back from a busy event loop, so events that are all of new orders,
as nearly all are, take the same three statements for up to 512 of them. Where one is not, it is looked for among 32, and each of
those takes its own way.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.clock import to_ms
from gateway.store.base import Accepted, Came, Incoming
from gateway.store.sqlite.writer import Connection, Together

# A version counts where its content differs from the newest one's; an order whose events carry no content stays at 1.
_NEW = "INSERT INTO orders (source, order_ref, versions, content, newest_key) VALUES (?,?,1,?,?) ON CONFLICT DO NOTHING"
_SEEN = """
    INSERT INTO orders (source, order_ref, versions, content, newest_key) VALUES (?,?,1,?,?)
    ON CONFLICT (source, order_ref) DO UPDATE
        SET versions = versions + (excluded.content IS NOT NULL), content = coalesce(excluded.content, content),
            newest_key = excluded.newest_key
        WHERE excluded.content IS NULL OR content IS NOT excluded.content
    RETURNING id, versions"""
# Where an order has several events, one that comes again as it was is a repeat, also behind a newer one.
_BEHIND = """
    SELECT version, content FROM inbox WHERE key = ? AND source = ?
       AND (SELECT newest_key FROM orders WHERE orders.source = inbox.source AND order_ref = ?) <> key
    ORDER BY version DESC LIMIT 1"""
_KNOWN = "SELECT version FROM inbox WHERE key = ? AND source = ? ORDER BY version DESC LIMIT 1"
_STORED = """
    INSERT INTO inbox (source, door, key, version, order_id, status, due_at_ms, reference, occurred_at_ms, received_at_ms,
                       reason, fetch, content, sha256, document)
    VALUES (?,?,?,?,{order_id},?,?,?,?,?,?,?,?,?,?) ON CONFLICT (key, source, version) DO NOTHING"""
_STORED_FIRST = _STORED.format(order_id="last_insert_rowid()")
_STORED_LATER = _STORED.format(order_id="?")
_IGNORED = """
    INSERT INTO inbox (source, door, key, version, status, outcome, reference, occurred_at_ms, received_at_ms, settled_at_ms,
                       reason, sha256, document)
    VALUES (?,?,?,1,'done',?,?,?,?,?,?,?,?) ON CONFLICT (key, source, version) DO NOTHING"""

_FEW, _MANY = 3, 32
_CROWDS = (512, 256, 128, 64)  # few sizes, so that few statements are kept compiled
_ROW = "(?,?,?,?,1,?,'ready',?,?,?,?,?,?,?,?)"
_NEW_ORDERS = "INSERT INTO orders (id, source, order_ref, versions, content, newest_key) VALUES {} ON CONFLICT DO NOTHING"
_NEW_EVENTS = """
    INSERT INTO inbox (id, source, door, key, version, order_id, status, due_at_ms, reference, occurred_at_ms, received_at_ms,
                       fetch, content, sha256, document)
    VALUES {} ON CONFLICT DO NOTHING"""
# In place of a savepoint, which copies every page before it is written to, for the sake of what hardly ever happens.
_NOT_THESE_EVENTS, _NOT_THESE_ORDERS = "DELETE FROM inbox WHERE id > ?", "DELETE FROM orders WHERE id > ?"
_NEW_RECEIPTS = "INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms) VALUES {}"

Arrival = tuple[str, Came, Incoming, int]


class Accept(Together[list[Accepted]]):
    """One call of `accept`; those that share a commit share their statements."""

    __slots__ = ("came", "cursor")

    def __init__(self, source: str, door: Came, events: Sequence[Incoming], cursor: str | None, now_ms: int) -> None:
        self.came: list[Arrival] = [(source, door, event, now_ms) for event in events]
        self.cursor = None if cursor is None else (source, door, cursor)

    @classmethod
    def together(cls, db: Connection, changes: Sequence[Accept]) -> list[list[Accepted]]:
        accepted = iter(accept_all(db, [one for change in changes for one in change.came]))
        for change in changes:
            if change.cursor is not None:
                db.execute("INSERT OR REPLACE INTO cursors (source, door, cursor) VALUES (?,?,?)", change.cursor)
        return [[next(accepted) for _ in change.came] for change in changes]


def accept_all(db: Connection, came: Sequence[Arrival]) -> list[Accepted]:
    """Store events in the order in which they came."""
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
            accepted += [_accept_one(db, *one) for one in some]
        first += size
    return accepted


def _all_new(db: Connection, came: Sequence[Arrival]) -> bool:
    """Store events of new orders; False, and nothing is done, where one of them is anything else. The unique indexes say so."""
    if any(event.order_ref is None or event.ignored is not None or event.dead is not None for _, _, event, _ in came):
        return False
    known = db.execute("SELECT (SELECT coalesce(max(id), 0) FROM orders), (SELECT coalesce(max(id), 0) FROM inbox)").fetchone()
    order_id, row_id = known
    orders: list[object] = []
    rows: list[object] = []
    receipts: list[object] = []
    for source, door, event, now_ms in came:
        order_id, row_id = order_id + 1, row_id + 1
        orders += (order_id, source, event.order_ref, event.content, event.key)
        rows += (row_id, source, door, event.key, order_id, now_ms, event.reference, to_ms(event.occurred_at), now_ms)
        rows += (event.fetch, event.content, event.sha256, event.document)
        if event.acknowledge is not None:
            receipts += (source, event.acknowledge, row_id, now_ms, now_ms)
    count = len(came)
    if (
        db.execute(_NEW_ORDERS.format(",".join(["(?,?,?,1,?,?)"] * count)), orders).rowcount != count
        or db.execute(_NEW_EVENTS.format(",".join([_ROW] * count)), rows).rowcount != count
    ):
        db.execute(_NOT_THESE_EVENTS, known[1:])
        db.execute(_NOT_THESE_ORDERS, known[:1])
        return False
    if receipts:
        db.execute(_NEW_RECEIPTS.format(",".join(["(?,?,?,'ready',?,?)"] * (len(receipts) // 5))), receipts)
    return True


def _accept_one(db: Connection, source: str, door: Came, event: Incoming, now_ms: int) -> Accepted:
    ref = event.order_ref
    head: tuple[object, ...] = (source, door, event.key)
    tail = (event.reference, to_ms(event.occurred_at), now_ms, event.dead, event.fetch, event.content, event.sha256, event.document)
    version = 1
    if event.ignored is not None:
        outcome = "flagged" if event.flagged else "ignored"
        came = (outcome, event.reference or ref, to_ms(event.occurred_at), now_ms, now_ms)
        added = db.execute(_IGNORED, (*head, *came, event.ignored, event.sha256, event.document))
    elif ref is None:
        added = db.execute(_STORED_LATER, (*head, 1, None, "dead", None, *tail))
    elif db.execute(_NEW, (source, ref, event.content, event.key)).rowcount == 1:
        added = db.execute(_STORED_FIRST, (*head, 1, "ready", now_ms, *tail))
    elif (behind := _behind(db, source, event)) is not None:
        return Accepted(key=shown_key(event.key, behind), outcome="repeat")
    else:
        # A row that was compared has another version than the 1 that it came with, and its event is known all the same.
        known = None if event.content is not None else db.execute(_KNOWN, (event.key, source)).fetchone()
        if known is not None:
            return Accepted(key=shown_key(event.key, *known), outcome="repeat")
        seen = db.execute(_SEEN, (source, ref, event.content, event.key)).fetchone()
        if seen is None:
            newest = "SELECT newest_key, versions FROM orders WHERE source = ? AND order_ref = ?"
            return Accepted(key=shown_key(*db.execute(newest, (source, ref)).fetchone()), outcome="repeat")
        order_id, version = seen if event.content is not None else (seen[0], 1)
        due_ms = None if _lane_is_busy(db, order_id) else now_ms
        added = db.execute(_STORED_LATER, (*head, version, order_id, "ready", due_ms, *tail))
    if added.rowcount == 0:
        return Accepted(key=shown_key(event.key, version), outcome="repeat")
    if event.acknowledge is not None and ref is not None:
        db.execute(
            "INSERT INTO acknowledgements (source, stage, inbox_id, status, due_at_ms, created_at_ms) "
            "SELECT source, ?, id, 'ready', ?, ? FROM inbox WHERE key = ? AND source = ? AND version = ?",
            (event.acknowledge, now_ms, now_ms, event.key, source, version),
        )
    return Accepted(key=shown_key(event.key, version), outcome="stored")


def _behind(db: Connection, source: str, event: Incoming) -> int | None:
    """The version that an event made when it was not yet behind a newer one, where it comes again just as it was."""
    if event.content is None:
        return None
    found = db.execute(_BEHIND, (event.key, source, event.order_ref)).fetchone()
    return int(found[0]) if found and found[1] == event.content else None


def shown_key(key: str, version: int) -> str:
    """How an event is named to people: its key, and from the second version on the version."""
    return key if version == 1 else f"{key}@{version}"


def _lane_is_busy(db: Connection, order_id: int | None) -> bool:
    return (
        db.execute("SELECT 1 FROM inbox INDEXED BY inbox_by_order WHERE order_id = ? AND status <> 'done' LIMIT 1", (order_id,)).fetchone()
        is not None
    )
