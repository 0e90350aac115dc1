"""Rows that a name picks (`gateway.store.row_names`), in one read transaction.

The name of an event extends to what was made of the event (messages, acknowledgements) if the decision does not apply to the event's own
row and applies to exactly one of those. The name of an order means all its rows. A text without a prefix may be several things: if they
are of different orders, the operator must tell them apart; of one order it means the one row that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.store.row_names import Name, Queue, Status, read, row_name
from gateway.store.sqlite.accept import shown_key
from gateway.store.sqlite.queues import ACTIVE
from gateway.store.sqlite.writer import Connection

NOTHING = "no such key; `gateway inbox`, `gateway outbox` and `gateway submissions` list what there is"
_MOST_LISTED = 20
_LOADS = {
    "inbox": "SELECT id, key, status, source, version, order_id, '', outcome FROM inbox {indexed} WHERE {where}",
    "outbox": """
        SELECT id, key, status, (SELECT source FROM orders WHERE orders.id = order_id), 1, order_id, target, outcome FROM outbox {indexed}
        WHERE {where}""",
    "acknowledgements": """
        SELECT id, (SELECT key FROM inbox WHERE inbox.id = inbox_id), status, source,
               (SELECT version FROM inbox WHERE inbox.id = inbox_id), (SELECT order_id FROM inbox WHERE inbox.id = inbox_id), stage, NULL
        FROM acknowledgements {indexed} WHERE {where}""",
    "submit": "SELECT id, public_id, status, source, 1, NULL, subject, outcome FROM submit {indexed} WHERE {where}",
}

_AHEAD: Mapping[Queue, tuple[str, str]] = {
    "inbox": ("order_id = ? AND id < ? AND status <> 'done' ORDER BY id LIMIT 1", "inbox_by_order"),
    "outbox": ("order_id = ? AND target = ? AND id < ? AND status <> 'done' ORDER BY id LIMIT 1", "outbox_by_order"),
    "submit": (
        f"source = ? AND subject = ? AND {ACTIVE} AND id <> ? ORDER BY due_at_ms IS NULL AND status = 'ready', id LIMIT 1",
        "submit_by_subject",
    ),
}


class Found(Struct, frozen=True, kw_only=True):
    """Row that a name picks."""

    queue: Queue
    id: int
    key: str
    status: Status
    source: str
    order_id: int | None = None
    target: str = ""
    outcome: str | None = None
    ordering_key: tuple[object, ...] = ()

    @property
    def name(self) -> str:
        """The name of this row, and of no other."""
        return row_name(self.queue, self.id)

    @property
    def belongs_to(self) -> tuple[str, int]:
        """The order that it belongs to, else itself."""
        return (self.queue, self.id) if self.order_id is None else ("order", self.order_id)


Fits = Callable[[Found], bool]


class Reading(Struct, frozen=True, kw_only=True):
    """Meaning of a name.

    Attributes:
        name: What names this thing and no other.
        rows: Its rows.
        made: Of an event, what was made of it.
        goes_on: The name extends to that.
    """

    name: str
    what: str
    rows: tuple[Found, ...]
    made: tuple[Found, ...] = ()
    goes_on: bool = False

    def touched(self, fits: Fits) -> list[Found]:
        """Return the rows that a decision may touch under this name."""
        return list(filter(fits, self.rows)) or (list(filter(fits, self.made)) if self.goes_on else [])

    def __str__(self) -> str:
        rows = (*self.rows, *(self.made if self.goes_on else ()))
        states = ", ".join(f"{row.name} {row.status}" for row in rows[:_MOST_LISTED])
        return f"{self.name} ({self.what}: {states}{', ...' if len(rows) > _MOST_LISTED else ''})"


def load(db: Connection, queue: Queue, where: str, values: Sequence[object], indexed: str = "") -> list[Found]:
    """Return the rows of a queue that fit a condition."""
    found = db.execute(_LOADS[queue].format(where=where, indexed=indexed and f"INDEXED BY {indexed}"), tuple(values)).fetchall()
    return [_found(queue, row) for row in found]


def ahead_of(db: Connection, queue: Queue, row_id: int, ordering_key: Sequence[object]) -> Found | None:
    """Return the row that another one of its ordering key waits behind."""
    if queue not in _AHEAD or None in ordering_key:
        return None
    where, index = _AHEAD[queue]
    return next(iter(load(db, queue, where, (*ordering_key, row_id), index)), None)


def readings(db: Connection, text: str) -> list[Reading]:
    """Return every meaning of a name."""
    name = read(text)
    match name.kind:
        case "row":
            return _row(db, name)
        case "event":
            return _events(db, name.text)
        case "message":
            return _messages(db, name.text)
        case "order":
            return _orders(db, name.text, whole=True)
        case "number":
            return _numbered(db, name.text)
    every = [*_events(db, text), *_messages(db, text), *_orders(db, text, whole=False), *_numbered(db, text), *_submissions(db, text)]
    return list({one.name: one for one in every}.values())


def rows_of(db: Connection, text: str) -> tuple[list[Found], str | None]:
    """Return everything that a name is about; or why that cannot be said."""
    found = readings(db, text)
    if not found:
        return [], None
    if len({row.belongs_to for one in found for row in one.rows}) > 1:
        return [], _several(found)
    return _once(row for one in found for row in (*one.rows, *one.made)), None


def pick(db: Connection, text: str, fits: Fits, wanted: str) -> tuple[list[Found], str | None]:
    """Return the rows that a decision on a name touches; or why it touches none. `wanted` says in words what fits."""
    found = readings(db, text)
    if not found:
        return [], NOTHING
    if len({row.belongs_to for one in found for row in one.rows}) > 1:
        return [], _several(found)
    touched = _once(row for one in found for row in one.touched(fits))
    if not touched:
        return [], _none_fits(found, fits, wanted)
    if len(touched) > 1 and (len(found) > 1 or found[0].goes_on):
        return [], _several(found)
    return touched, None


def events_named(db: Connection, key: str) -> Any:
    """Return the events of a key, which may carry its source in front and its version behind."""
    names = {key, key.rsplit("@", 1)[0]}
    names |= {name.split("/", 1)[1] for name in names if "/" in name}
    found = [
        row
        for name in names
        for row in db.execute("SELECT id, source, key, version, status, order_id FROM inbox WHERE key = ?", (name,)).fetchall()
        if key in (row[2], f"{row[1]}/{row[2]}", shown_key(row[2], row[3]), f"{row[1]}/{shown_key(row[2], row[3])}")
    ]
    return sorted(set(found), key=lambda row: row[0])


def _row(db: Connection, name: Name) -> list[Reading]:
    rows = load(db, name.queue, "id = ?", (name.id,))
    return [Reading(name=row.name, what=row.key, rows=(row,), made=tuple(_made(db, row))) for row in rows]


def _events(db: Connection, text: str) -> list[Reading]:
    rows = [row for id_, *_ in events_named(db, text) for row in load(db, "inbox", "id = ?", (id_,))]
    return [Reading(name=row.name, what=f"the event {row.key}", rows=(row,), made=tuple(_made(db, row)), goes_on=True) for row in rows]


def _messages(db: Connection, text: str) -> list[Reading]:
    rows = load(db, "outbox", "key = ? ORDER BY id", (text,))
    return [Reading(name=f"message:{text}", what="the message", rows=tuple(rows))] if rows else []


def _orders(db: Connection, text: str, *, whole: bool) -> list[Reading]:
    """Return the order SOURCE/ORDER_REF; unless the name must be `whole`, also that order_ref of any source."""
    source, _, ref = text.partition("/")
    sql = "SELECT id, source, order_ref FROM orders WHERE source = ? AND order_ref = ?"
    found = db.execute(sql, (source, ref)).fetchall()
    if not whole:
        found += db.execute(sql.replace("= ?", "IN (SELECT name FROM sources)", 1), (text,)).fetchall()
    return [made for one in found for made in _order(db, *one)]


def _numbered(db: Connection, text: str) -> list[Reading]:
    found = db.execute("SELECT id, source, order_ref FROM orders WHERE number = ? LIMIT 100", (text,)).fetchall()
    return [made for one in found for made in _order(db, *one)]


def _order(db: Connection, order_id: int, source: str, ref: str) -> list[Reading]:
    rows: list[Found] = []
    for event in load(db, "inbox", "order_id = ? ORDER BY id", (order_id,), "inbox_by_order"):
        rows += [event, *_made(db, event)]
    rows = _once([*rows, *load(db, "outbox", "order_id = ? ORDER BY id", (order_id,), "outbox_by_order")])
    return [Reading(name=f"order:{source}/{ref}", what="the order", rows=tuple(rows))] if rows else []


def _submissions(db: Connection, text: str) -> list[Reading]:
    return [Reading(name=row.name, what="a submission", rows=(row,)) for row in load(db, "submit", "public_id = ?", (text,))]


def _made(db: Connection, event: Found) -> list[Found]:
    """Return the messages and acknowledgements made of an event."""
    if event.queue != "inbox":
        return []
    where, values = ("order_id = ? AND inbox_id = ? ORDER BY id", (event.order_id, event.id))
    return [*load(db, "outbox", where, values, "outbox_by_order"), *load(db, "acknowledgements", "inbox_id = ?", (event.id,))]


def _found(queue: Queue, row: Any) -> Found:
    id_, key, status, source, version, order_id, part, outcome = row
    shown = key if queue in ("outbox", "submit") else f"{source}/{shown_key(key, version)}"
    if queue == "acknowledgements":
        shown = f"{shown} ({part})"
    keys = {"inbox": (order_id,), "outbox": (order_id, part), "acknowledgements": (None,), "submit": (source, part)}
    return Found(
        queue=queue,
        id=id_,
        key=shown,
        status=status,
        source=source,
        order_id=order_id,
        target=part if queue == "outbox" else "",
        outcome=outcome,
        ordering_key=keys[queue],
    )


def _once(rows: Iterable[Found]) -> list[Found]:
    return list({(row.queue, row.id): row for row in rows}.values())


def _several(found: Sequence[Reading]) -> str:
    return "this name may mean several things; name one of these:" + "".join(f"\n  {one}" for one in found)


def _none_fits(found: Sequence[Reading], fits: Fits, wanted: str) -> str:
    """Say why nothing is touched: the statuses of everything of that name, and what a row's name does not go on to."""
    rows = _once(row for one in found for row in (*one.rows, *(one.made if one.goes_on else ())))
    states = ", ".join(sorted({f"{row.queue} {row.status}" for row in rows}))
    now = " It is being worked on right now; try again." if any(row.status == "leased" for row in rows) else ""
    fitting = [f"{row.name} ({row.status})" for one in found if not one.goes_on for row in filter(fits, one.made)]
    further = f" {', '.join(fitting)} was made of it." if fitting else ""
    return f"nothing of it is {wanted} ({states}).{now}{further}"
