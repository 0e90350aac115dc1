"""Reads for pages, commands and metrics, short ones, on connections that cannot write.

It works beside a running gateway and without one. Only the service's writing connection checkpoints.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiosqlite
import msgspec

from gateway.api.commands import Codes
from gateway.api.errors import GatewayError, StoreError, StoreFailed
from gateway.clock import Clock, SystemClock, from_ms
from gateway.store.decisions import Choice, Decided
from gateway.store.retention import Disk
from gateway.store.row_names import Queue, Status, row_name, statuses_of
from gateway.store.sqlite.accept import shown_key
from gateway.store.sqlite.connection import APPLICATION_ID
from gateway.store.sqlite.decisions import would
from gateway.store.sqlite.maintenance import open_names, room_bytes
from gateway.store.sqlite.new_store import is_empty, missing
from gateway.store.sqlite.queues import ACTIVE, ARRIVED, QUEUES, WAITING, WORKER_OF, decode
from gateway.store.sqlite.retention import days_left
from gateway.store.sqlite.row_names import rows_of
from gateway.store.sqlite.submissions import IS_CURRENT
from gateway.store.sqlite.targets import PAUSED
from gateway.store.sqlite.waiting import explained, first_open, standing
from gateway.store.targets import PausedTarget, Stray
from gateway.store.waiting import Sides, Why

Row = dict[str, Any]
T = TypeVar("T")
NOTHING_KNOWN = Sides()

# Everything open of each name as `ready`, with its lowest id, then the rows of it that are not ready. It is one statement, since rows move
# between two. (`min(id)` alone would read the table from its beginning until a row is open.)
_COUNTS = f"""
    SELECT {{name}}, 'ready', count(*), min(id) FROM {{queue}} INDEXED BY {{queue}}_active WHERE {ACTIVE} GROUP BY 1
    UNION ALL
    SELECT {{name}}, status, count(*), NULL FROM {{queue}} INDEXED BY {{queue}}_active WHERE {ACTIVE} AND status <> 'ready' GROUP BY 1, 2
    UNION ALL
    SELECT {{name}}, status, count(*), NULL FROM {{queue}} INDEXED BY {{queue}}_waiting WHERE {WAITING} GROUP BY 1, 2
    UNION ALL
    SELECT NULL, NULL, max(id), NULL FROM {{queue}}"""
_OWNERS: Mapping[Queue, str] = {
    "inbox": "source",
    "outbox": "target, (SELECT source FROM orders WHERE orders.id = order_id)",
    "acknowledgements": "source, stage",
    "submit": "source, command",
}
_OPEN: Mapping[Status, tuple[str, str]] = {
    **dict.fromkeys(("ready", "leased", "unknown"), ("active", ACTIVE)),
    **dict.fromkeys(("held", "dead"), ("waiting", WAITING)),
}
_LIST: Mapping[Queue, str] = {
    "inbox": """
        SELECT inbox.id, 'inbox' AS queue, source, source AS name, inbox.key, version, order_ref, inbox.status, door,
               NULL AS kind, attempts, due_at_ms, received_at_ms AS at_ms, outcome, reason
        FROM inbox LEFT JOIN (SELECT id AS oid, order_ref FROM orders) ON oid = order_id""",
    "outbox": """
        SELECT outbox.id, 'outbox' AS queue, source, target AS name, outbox.key, 1 AS version, order_ref, outbox.status,
               NULL AS door, kind, attempts, due_at_ms, created_at_ms AS at_ms, outcome, reason, erp_id, erp_number
        FROM outbox JOIN (SELECT id AS oid, order_ref, source FROM orders) ON oid = order_id""",
    "acknowledgements": """
        SELECT acknowledgements.id, 'acknowledgements' AS queue, acknowledgements.source, stage AS name, inbox.key, version, order_ref,
               acknowledgements.status, door, NULL AS kind, acknowledgements.attempts, acknowledgements.due_at_ms, created_at_ms AS at_ms,
               NULL AS outcome, acknowledgements.reason
        FROM acknowledgements JOIN inbox ON inbox.id = inbox_id LEFT JOIN (SELECT id AS oid, order_ref FROM orders) ON oid = order_id""",
    "submit": """
        SELECT id, 'submit' AS queue, source, command AS name, public_id AS key, 1 AS version, subject AS order_ref, status,
               NULL AS door, NULL AS kind, attempts, due_at_ms, accepted_at_ms AS at_ms, outcome, reason, caller
        FROM submit""",
}

_BODIES: Mapping[Queue, Mapping[str, str]] = {
    "inbox": {"body": "document", "fetched": "fetched"},
    "outbox": {"body": "body"},
    "submit": {"body": "body", "answer": "answer"},
}

_WHERE = " WHERE id < ? AND id >= ?"
_SLICE = 50_000
_LAST_TRY = """
    SELECT attempts AS attempt, settled_at_ms AS at_ms, duration_ms, outcome, http_status, answer AS detail FROM outbox
    WHERE id = ? AND status = 'done' AND outcome IN ('delivered', 'duplicate')"""


class SqliteReader:
    """`gateway.store.reader.Reader` on one SQLite file; one short transaction per call."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._uri = f"file:{quote(str(path))}?mode=ro"
        self._db: aiosqlite.Connection | None = None

    async def open(self) -> None:
        if is_empty(self._path):
            raise StoreFailed(missing(self._path))
        try:
            self._db = await aiosqlite.connect(self._uri, uri=True, isolation_level=None)
            await self._db.execute("PRAGMA query_only=ON")
            await self._db.execute("PRAGMA busy_timeout=5000")
            owner = await self._rows("PRAGMA application_id")
        except aiosqlite.Error as error:
            await self.close()
            raise StoreFailed(f"{self._path} cannot be read: {error}") from error
        if owner[0]["application_id"] != APPLICATION_ID:
            await self.close()
            raise StoreFailed(f"{self._path} is another program's database")

    async def close(self) -> None:
        if self._db is not None:
            await self._db.close()
            self._db = None

    async def summary(self) -> dict[Queue, Row]:
        """Counts come from the indexes of what is open; `done` is the rest, so that nothing reads it."""
        found: dict[Queue, Row] = {}
        for queue, name in WORKER_OF.items():
            by_name: dict[str, dict[Status, int]] = {}
            firsts, total = [], 0
            for owner, status, count, first in await self._tuples(_COUNTS.format(queue=queue, name=name)):
                if owner is None:
                    total = count or 0
                else:
                    by_name.setdefault(owner, {})[status] = count
                    firsts += [] if first is None else [first]
            for by in by_name.values():
                if "ready" in by:
                    by["ready"] -= by.get("leased", 0) + by.get("unknown", 0)
            counts: Row = {status: sum(by.get(status, 0) for by in by_name.values()) for status in statuses_of(queue)}
            counts["done"] = total - sum(counts.values())
            oldest = await self._tuples(f"SELECT {ARRIVED[queue]} FROM {queue} WHERE id = ?", (min(firsts),)) if firsts else []
            found[queue] = {**counts, "by_name": by_name, "oldest_ms": oldest[0][0] if oldest else None}
        return found

    async def disk(self) -> Disk:
        pages, free, size = [(await self._tuples(f"PRAGMA {name}"))[0][0] for name in ("page_count", "freelist_count", "page_size")]
        sizes = await self._tuples("SELECT at_ms, used_bytes FROM sizes ORDER BY at_ms")
        log, room = self._path.with_name(self._path.name + "-wal"), room_bytes(self._path.parent)
        return Disk(
            file=pages * size,
            used=(pages - free) * size,
            log=log.stat().st_size if log.exists() else 0,
            free=max(room, 0),
            days_left=days_left(sizes, room + free * size),
        )

    async def restored_at(self) -> str | None:
        return _instant((await self._tuples("SELECT max(restored_at_ms) FROM restores WHERE finished_at_ms IS NULL"))[0][0])

    async def paused_targets(self) -> dict[str, PausedTarget]:
        return {found[0]: decode(PausedTarget, found) for found in await self._tuples(PAUSED)}

    async def strays(self, sources: Collection[str], targets: Collection[str]) -> list[Stray]:
        found = []
        try:
            for queue, column in WORKER_OF.items():
                known = targets if queue == "outbox" else sources
                for (name,) in await self._tuples(open_names(queue)):
                    if name is not None and name not in known:
                        counted = f"SELECT count(*) FROM {queue} INDEXED BY {queue}_active WHERE {column} = ? AND {ACTIVE}"
                        found.append(Stray(queue=queue, name=name, rows=(await self._tuples(counted, (name,)))[0][0]))
        except aiosqlite.Error as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from error
        return found

    async def sources(self) -> dict[str, str | None]:
        return {name: _instant(ms) for name, ms in await self._tuples("SELECT name, last_message_ms FROM sources")}

    async def rows(
        self, queue: Queue, *, status: Status | None = None, name: str | None = None, limit: int = 50, sides: Sides = NOTHING_KNOWN
    ) -> list[Row]:
        sql = f"SELECT * FROM ({_LIST[queue]})"
        if status is not None and status in _OPEN:  # by their index: walking down from the newest may pass millions that are done
            index, which = _OPEN[status]
            mine = f" AND ? IN ({_OWNERS[queue]})" if name else ""
            ids = f"SELECT id FROM {queue} INDEXED BY {queue}_{index} WHERE {which} AND status = ?{mine} ORDER BY id DESC LIMIT ?"
            found = await self._rows(f"{sql} WHERE id IN ({ids}) ORDER BY id DESC", [status, *([name] if name else []), limit])
        else:
            asked = {"status = ?": status, "? IN (source, name)": name}
            sql = " AND ".join([sql + _WHERE, *(test for test, value in asked.items() if value)])
            found = await self._newest(queue, sql, [value for value in asked.values() if value], limit)
        whys = await self._whys({queue: [row["id"] for row in found]}, sides)
        return [_shown(row, whys.get((queue, row["id"]))) for row in found]

    async def standing(self, sides: Sides = NOTHING_KNOWN) -> list[Row]:
        now_ms = self._clock.now_ms()
        found = await self._aside(lambda db: standing(db, sides, now_ms))
        return [{**{n: v for n, v in one.items() if n != "next_ms"}, "next_at": _instant(one["next_ms"])} for one in found]

    async def _whys(self, rows: Mapping[Queue, Sequence[int]], sides: Sides) -> dict[tuple[Queue, int], Why]:
        now_ms = self._clock.now_ms()

        def ask(db: Any) -> dict[tuple[Queue, int], Why]:
            return {(queue, n): one for queue, ids in rows.items() for n, one in explained(db, queue, ids, sides, now_ms).items()}

        return await self._aside(ask) if any(rows.values()) else {}

    async def deliveries(self, target: str, *, before: int | None, limit: int) -> list[Row]:
        sql = f"""
            SELECT id, key, kind, order_id, status, outcome, reason, erp_id, erp_number, created_at_ms, body
            FROM outbox
            {_WHERE} AND target = ? AND status IN ('done', 'held', 'dead', 'unknown')
                  AND coalesce(outcome, '') NOT IN ('dropped', 'superseded', 'rejected')"""
        return await self._newest("outbox", sql, [target], limit, before)

    async def orders(self, *, source: str | None = None, limit: int = 50, sides: Sides = NOTHING_KNOWN) -> list[Row]:
        sql = f"""
            SELECT source, order_ref, versions, messages,
                   (SELECT group_concat(target || ': ' || status || coalesce(' (' || outcome || ')', ''), ', ')
                    FROM (SELECT target, status, outcome, max(id) FROM outbox INDEXED BY outbox_by_order
                          WHERE order_id = orders.id GROUP BY target)) AS newest_message
            FROM orders {_WHERE} AND ? IN (source, '')"""
        found = await self._newest("orders", sql, [source or ""], limit)
        now_ms = self._clock.now_ms()

        def ask(db: Any) -> list[Why | None]:
            firsts = [first_open(db, row["source"], row["order_ref"]) for row in found]
            return [first and explained(db, first[0], first[1:], sides, now_ms).get(first[1]) for first in firsts]

        return [{**row, **_moves(one)} for row, one in zip(found, await self._aside(ask), strict=True)]

    async def _newest(self, table: str, sql: str, values: Sequence[Any], limit: int, before: int | None = None) -> list[Row]:
        """Return the newest rows that a statement with `_WHERE` finds, slice by slice.

        If there are few or none in millions, no single read takes so long that the write-ahead log cannot be written back.
        """
        top = before or (await self._tuples(f"SELECT coalesce(max(id), 0) + 1 FROM {table}"))[0][0]
        found: list[Row] = []
        while top > 0 and len(found) < limit:
            found += await self._rows(f"{sql} ORDER BY id DESC LIMIT ?", (top, top - _SLICE, *values, limit - len(found)))
            top -= _SLICE
        return found

    async def show(self, key: str, *, sides: Sides = NOTHING_KNOWN) -> list[Row]:
        shown = []
        named, problem = await self._aside(lambda db: rows_of(db, key))
        if problem:
            raise GatewayError(f"{key}: {problem}")
        whys = await self._whys({queue: [one.id for one in named if one.queue == queue] for queue in QUEUES}, sides)
        for one in named:
            rows = await self._rows(f"SELECT * FROM ({_LIST[one.queue]}) WHERE id = ?", (one.id,))
            for row in rows:
                for name, column in _BODIES.get(one.queue, {}).items():
                    row[name] = (await self._tuples(f"SELECT {column} FROM {one.queue} WHERE id = ?", (one.id,)))[0][0]
                await self._mask_codes(row)
                tried = await self._rows("SELECT * FROM attempts WHERE queue = ? AND row_id = ? ORDER BY id", (one.queue, one.id))
                tried += await self._rows(_LAST_TRY, (one.id,)) if one.queue == "outbox" else []
                row["tried"] = [{**t, "at": _instant(t["at_ms"])} for t in tried]
                decided = await self._rows("SELECT * FROM audit WHERE queue = ? AND row_id = ? ORDER BY id", (one.queue, one.id))
                row["decided"] = [{**d, "at": _instant(d["at_ms"])} for d in decided]
                shown.append(_shown(row, whys.get((one.queue, one.id))))
        return shown

    async def would(self, action: str, keys: Sequence[str], choice: Choice) -> list[Decided]:
        now_ms = self._clock.now_ms()
        return await self._aside(lambda db: would(db, action, keys, choice, now_ms))

    async def _mask_codes(self, row: Row) -> None:
        """Mask the codes that open a machine in a submission and in what was made of its answer."""
        own = row["queue"] == "submit"
        which = ("id = ?", row["id"]) if own else (f"source = ? AND subject = ? AND {IS_CURRENT}", row["source"], row["order_ref"])
        found = await self._tuples(f"SELECT codes FROM submit WHERE {which[0]} AND codes IS NOT NULL", which[1:])
        codes = [msgspec.json.decode(kept, type=Codes) for (kept,) in found]
        for name in _BODIES.get(row["queue"], {}):
            row[name] = masked(row[name], codes)
        if own:
            row["codes"] = ", ".join(f"{name} ***" for one in codes for name in ("pickup", "storage") if getattr(one, name)) or None

    async def _aside(self, read: Callable[[Any], T]) -> T:
        """Read by several statements at one moment, in a thread."""

        def work() -> T:
            with self._of_this_version(), closing(sqlite3.connect(self._uri, uri=True, isolation_level=None)) as db:
                db.execute("BEGIN")
                return read(db)

        return await asyncio.to_thread(work)

    async def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        assert self._db is not None
        with self._of_this_version():
            async with self._db.execute(sql, values) as cursor:
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    async def _tuples(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        assert self._db is not None
        with self._of_this_version():
            async with self._db.execute(sql, values) as cursor:
                return list(await cursor.fetchall())

    @contextmanager
    def _of_this_version(self) -> Iterator[None]:
        """Raise StoreError if a table, column or index is missing: the file has not had the migrations of this version."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            reason = f"{self._path} was written by an earlier version ({error})"
            raise StoreError(f"{reason}; start the gateway, or run `gateway migrate`, and try again") from error


def _shown(row: Row, waits: Why | None) -> Row:
    key = shown_key(row["key"], row["version"])
    return {
        **{name: value for name, value in row.items() if not name.endswith("_ms") and name not in ("version", "id")},
        "row": row_name(row["queue"], row["id"]),
        "key": key if row["queue"] in ("outbox", "submit") else f"{row['source']}/{key}",
        "version": row["version"],
        "at": _instant(row["at_ms"]),
        "due_at": _instant(row["due_at_ms"]),
        **_moves(waits),
    }


def _moves(waits: Why | None) -> Row:
    """Return what a row waits for, in words, and when it goes on, if there is such a time."""
    return {"waits": waits and waits.text, "next_at": _instant(waits.next_ms) if waits else None}


def _instant(ms: int | None) -> str | None:
    at = from_ms(ms)
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def masked(body: bytes | None, codes: Sequence[Codes]) -> bytes | None:
    """Mask every code in a body, also one that JSON has spelled with escapes."""
    for code in {text for one in codes for text in (one.pickup, one.storage) if text}:
        if body is not None:
            escaped = json.dumps(code)[1:-1]
            for spelling in (code, json.dumps(code, ensure_ascii=False)[1:-1], escaped, escaped.replace("/", "\\/")):
                body = body.replace(spelling.encode(), b"***")
    return body


def as_text(body: bytes | None) -> str | None:
    """Return a stored body for operators: indented JSON if it is JSON, else its text with what is not UTF-8 marked."""
    if body is None:
        return None
    try:
        return msgspec.json.format(body, indent=2).decode("utf-8")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "backslashreplace")
