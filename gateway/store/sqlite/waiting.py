"""Facts about rows for `gateway.store.waiting`, read from the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from gateway.store.row_names import Queue, row_name
from gateway.store.sqlite.queues import ACTIVE, QUEUES, WAITING, WORKER_OF, is_overtaken, leased_ms
from gateway.store.sqlite.row_names import ahead_of, load
from gateway.store.sqlite.writer import Connection
from gateway.store.waiting import Ahead, Sides, Waiting, Why, why

_FACTS: Mapping[Queue, str] = {
    "inbox": "source, source, outcome, reason, NULL, order_id, NULL",
    "outbox": "target, (SELECT source FROM orders WHERE orders.id = order_id), outcome, reason, held_for, order_id, inbox_id",
    "acknowledgements": "source, source, NULL, reason, NULL, NULL, NULL",
    "submit": "source, source, outcome, reason, NULL, subject, NULL",
}
_GROUPS = f"""
    SELECT {{name}}, iif(status = 'ready' AND due_at_ms IS NULL, 'behind', status), count(*), min(id)
    FROM {{queue}} INDEXED BY {{queue}}_active WHERE {ACTIVE} GROUP BY 1, 2
    UNION ALL
    SELECT {{name}}, status, count(*), min(id) FROM {{queue}} INDEXED BY {{queue}}_waiting WHERE {WAITING} GROUP BY 1, 2"""
_UNSEEN = "order_id = ? AND id > ? AND version > 1 AND status IN ('ready', 'leased') ORDER BY id LIMIT 1"
Row = dict[str, Any]


def explained(db: Connection, queue: Queue, ids: Sequence[int], sides: Sides, now_ms: int) -> dict[int, Why]:
    """Explain those of the rows that are not done."""
    sql = f"""SELECT id, status, attempts, due_at_ms, lease, {_FACTS[queue]} FROM {queue}
              WHERE status <> 'done' AND id IN (SELECT value FROM json_each(?))"""
    rows = db.execute(sql, (json.dumps(list(ids)),)).fetchall()
    return {row[0]: why(_waiting(db, queue, row, sides, now_ms), sides, now_ms) for row in rows}


def standing(db: Connection, sides: Sides, now_ms: int) -> list[Row]:
    """Return what does not move, by queue, name and status: how many rows, the oldest of them, and why."""
    found: list[Row] = []
    for queue in QUEUES:
        groups = db.execute(_GROUPS.format(queue=queue, name=WORKER_OF[queue])).fetchall()
        whys = explained(db, queue, [oldest for *_, oldest in groups], sides, now_ms)
        for name, status, count, oldest in sorted(groups):
            if (reason := whys.get(oldest)) is not None and reason.on != "turn":
                known = {"queue": queue, "name": name, "status": "ready" if status == "behind" else status, "rows": count}
                found.append({**known, "row": row_name(queue, oldest), "on": reason.on, "waits": reason.text, "next_ms": reason.next_ms})
    return found


def first_open(db: Connection, source: str, order_ref: str) -> tuple[Queue, int] | None:
    """Return the oldest open row of an order: everything else of it waits for that one."""
    for queue in ("outbox", "inbox"):
        found = db.execute(
            f"SELECT min(id) FROM {queue} INDEXED BY {queue}_by_order WHERE status <> 'done' "
            "AND order_id = (SELECT id FROM orders WHERE source = ? AND order_ref = ?)",
            (source, order_ref),
        ).fetchone()
        if found[0] is not None:
            return ("outbox", found[0]) if queue == "outbox" else ("inbox", found[0])
    return None


def _waiting(db: Connection, queue: Queue, row: Any, sides: Sides, now_ms: int) -> Waiting:
    id_, status, attempts, due_ms, lease, name, source, outcome, reason, held_for, order, inbox_id = row
    ordering_key = {"inbox": (order,), "outbox": (order, name), "submit": (source, order)}.get(queue, ())
    made = Waiting(
        queue=queue,
        row=row_name(queue, id_),
        name=name,
        source=source,
        status=status,
        attempts=attempts,
        due_ms=due_ms,
        since_ms=leased_ms(lease) if status == "leased" and lease else None,
        outcome=outcome,
        reason=reason,
        held_for=row_name("inbox", held_for) if held_for is not None else None,
    )
    if status == "ready" and due_ms is None:
        return replace(made, behind=_ahead(db, queue, id_, ordering_key, inbox_id, sides, now_ms))
    return made


def _ahead(
    db: Connection, queue: Queue, row_id: int, ordering_key: Sequence[Any], inbox_id: int | None, sides: Sides, now_ms: int
) -> Ahead | None:
    """Return the first row of the ordering key, else the version that has to be looked at first."""
    head = ahead_of(db, queue, row_id, ordering_key)
    if head is not None:
        reason = explained(db, queue, [head.id], sides, now_ms).get(head.id)
        made = Ahead(row=head.name, key=head.key, status=head.status)
        return made if reason is None else replace(made, why=reason.text, next_ms=reason.next_ms)
    if inbox_id is not None and is_overtaken(db, ordering_key[0], inbox_id):
        (later,) = load(db, "inbox", _UNSEEN, (ordering_key[0], inbox_id), "inbox_by_order")
        return Ahead(row=later.name, key=later.key, status=later.status, unseen=True)
    return None
