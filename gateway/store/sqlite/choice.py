"""Rows that `Choice` describes, a slice at a time, by the indexes of what is open."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gateway.store.decisions import AT_ONCE, Choice
from gateway.store.row_names import Queue, Status, read
from gateway.store.sqlite.queues import ACTIVE, ARRIVED, QUEUES, WAITING
from gateway.store.sqlite.row_names import Found, load
from gateway.store.sqlite.writer import Connection

_SOURCE: Mapping[Queue, str] = {"outbox": "(SELECT source FROM orders WHERE orders.id = order_id)"}


def chosen(db: Connection, choice: Choice, wanted: Collection[Status], now_ms: int) -> list[Found]:
    """Return the next rows behind `choice.after` that fit it and have one of these statuses, `AT_ONCE` at most."""
    found: list[Found] = []
    for queue, after in _behind(choice.after):
        for status in wanted if choice.filters else ():
            if choice.status in (None, status) and (queue == "outbox" or choice.target is None):
                found += _of_status(db, queue, status, after, choice, now_ms)
        found.sort(key=lambda row: (QUEUES.index(row.queue), row.id))
        if len(found) >= AT_ONCE:
            break
    return found[:AT_ONCE]


def _of_status(db: Connection, queue: Queue, status: Status, after: int, choice: Choice, now_ms: int) -> list[Found]:
    index, which = ("waiting", WAITING) if status in ("held", "dead") else ("active", ACTIVE)
    where = f"{which} AND status = ? AND id > ?"
    values: list[object] = [status, after]
    for test, value in (
        (f"{_SOURCE.get(queue, 'source')} = ?", choice.source),
        ("target = ?", choice.target),
        (f"{ARRIVED[queue]} <= ?", None if choice.older_than_s is None else now_ms - round(choice.older_than_s * 1000)),
    ):
        if value is not None:
            where, values = f"{where} AND {test}", [*values, value]
    return load(db, queue, f"{where} ORDER BY id LIMIT {AT_ONCE}", values, f"{queue}_{index}")


def _behind(after: str | None) -> Iterator[tuple[Queue, int]]:
    """Yield each queue that is left, and the id in it to go on behind."""
    if after is None:
        yield from ((queue, 0) for queue in QUEUES)
        return
    row = read(after)
    at = QUEUES.index(row.queue) if row.kind == "row" else len(QUEUES)
    yield from ((queue, row.id if n == at else 0) for n, queue in enumerate(QUEUES) if n >= at)
