"""A file of millions of orders: a few that the store wrote, and their rows copied by SQL under other names, which takes minutes, not hours.

Delivered orders are as retention leaves them, without bodies; waiting ones are as benchmarks/backlog.py makes them, with bodies and
digests of their own. Indexes are made when two thirds are there, which fills their pages; the last third splits them again, as in a file
that has grown. All else is what the store writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from benchmarks import backlog
from benchmarks.backlog import incoming, prepared
from benchmarks.contestants import SOURCE
from gateway.clock import SystemClock
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore

WAITING_BYTES, DELIVERED_BYTES = 3000, 550  # of one order in the file, all of its rows and indexes
_BASE = 1000
_DONE = Settlement(status="done", outcome="delivered", http_status=201, detail='{"id":"SO-0000001"}')

# As long as the other names, in no order, and all over the indexes, so that a new name meets as many pages there as it will for the
# gateway's users: an odd factor reaches every number of 32 bits once.
_NAME = "printf('%08x%06dc1', (({order} + :shift) * 2654435761) & 4294967295, ({order} + :shift) >> 32)"
_ID = "{column} + :shift"
_TEXT = f"replace({{column}}, was, {_NAME})"
_BODY = f"CAST(replace(CAST({{column}} AS TEXT), was, {_NAME}) AS BLOB)"
_OF_DOCUMENT, _OF_BODY = (f"coalesce(sha256(replace(CAST({of} AS TEXT), was, {_NAME})), {{column}})" for of in ("document", "body"))
_CHANGED: Mapping[str, Mapping[str, str]] = {
    "orders": {"id": _ID, "order_ref": _NAME, "newest_key": _TEXT},
    "inbox": {"id": _ID, "order_id": _ID, "key": _TEXT, "document": _BODY, "sha256": _OF_DOCUMENT, "content": _OF_DOCUMENT},
    "outbox": {"id": _ID, "order_id": _ID, "inbox_id": _ID, "key": _TEXT, "body": _BODY, "sha256": _OF_BODY},
}


def needed_bytes(waiting: int, delivered: int) -> int:
    """How large the file becomes, and a third more for sorting."""
    return (waiting * WAITING_BYTES + delivered * DELIVERED_BYTES) * 4 // 3


def seed(database: Path, waiting: int, delivered: int) -> float:
    """Fill a new database; the seconds it took. Both numbers are rounded to whole thousands."""
    began = time.monotonic()
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_delivered(database, _BASE))
    backlog.seed(database, _BASE)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.create_function("sha256", 1, lambda text: text and hashlib.sha256(text.encode()).digest(), deterministic=True)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=FILE", "foreign_keys=OFF", "threads=2"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("BEGIN")
        indexes = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        many = max(delivered // _BASE, 1)
        copies = [(0, 2 * _BASE + n * _BASE) for n in range(many - 1)]
        copies += [(_BASE, many * _BASE + n * _BASE) for n in range(max(waiting // _BASE, 1) - 1)]
        late = len(copies) * 2 // 3
        for some, then in ((copies[:late], [sql for _, sql in indexes]), (copies[late:], [])):
            for table, changed in _CHANGED.items():
                for after in (0, _BASE):
                    _copy(db, table, changed, after=after, shifts=[shift for base, shift in some if base == after])
                print(f"  {table}: {time.monotonic() - began:.0f} s", flush=True)
            for sql in then:
                db.execute(sql)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode=WAL").fetchall()
    print(f"  all: {time.monotonic() - began:.0f} s, {database.stat().st_size / 1e9:.2f} GB", flush=True)
    return time.monotonic() - began


def _copy(db: sqlite3.Connection, table: str, changed: Mapping[str, str], *, after: int, shifts: Sequence[int]) -> None:
    """Copy the rows of the thousand orders that follow order `after`, once for each shift: so much higher are its ids."""
    columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})").fetchall()]
    order = "id" if table == "orders" else "order_id"
    db.execute("DROP TABLE IF EXISTS temp.base")
    db.execute(
        f"CREATE TEMP TABLE base AS SELECT {table}.*, known.order_ref AS was "
        f"FROM {table} JOIN orders AS known ON known.id = {table}.{order} "
        f"WHERE known.id > {after} AND known.id <= {after + _BASE} ORDER BY {table}.id"
    )
    made = ", ".join(changed.get(column, "{column}").format(column=column, order=order) for column in columns)
    copy = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {made} FROM temp.base"
    for shift in shifts:
        db.execute(copy, {"shift": shift})


async def _delivered(database: Path, count: int) -> None:
    """Orders that went the whole way, and whose bodies were erased after that."""
    clock = SystemClock()
    store = SqliteStore(database, clock=clock)
    await store.open()
    await store.register([SOURCE])
    await store.accept(SOURCE, "webhook", [incoming("delivered", n, clock.now()) for n in range(count)])
    await store.prepared([prepared(row, "erp") for row in await store.lease_inbox(SOURCE, count)])
    rows = await store.lease_outbox("erp", count)
    await asyncio.gather(*(store.settle_outbox(row, _DONE) for row in rows))
    while await store.redact_bodies(clock.now() + timedelta(hours=1), count):
        pass
    await store.checkpoint(truncate=True)
    await store.close()
