"""What a team would write in an afternoon, a process of its own: aiohttp, a table, one commit a request, one loop that forwards.

It keeps its promise (stored before the answer, sent at least once, in order), so it is the same work. It has no retry schedule, no dead
letters, no mapping, no pages, and an order that the ERP does not take stops all that come after it.

`--shared` leaves away the lock that keeps a statement and its commit together. One commit then often makes several requests' orders
durable, the loop's too; nobody has asked for that, and a rollback would take away what another request has just promised.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

import aiohttp
import aiosqlite

from benchmarks.alternative import Options, door, options, post, serve

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body BLOB, status TEXT DEFAULT 'new', tries INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting ON orders (status, id);
"""
_NEW = "SELECT id, name, body FROM orders WHERE status = 'new' ORDER BY id LIMIT ?"
_IDLE_S = 0.02
_AT_ONCE = 100


class Orders:
    """The table, over one connection."""

    def __init__(self, db: aiosqlite.Connection, *, shared: bool) -> None:
        self._db = db
        self._lock: AbstractAsyncContextManager[None] = nullcontext() if shared else asyncio.Lock()

    async def write(self, sql: str, *values: object) -> None:
        """One statement and its commit."""
        async with self._lock:
            await self._db.execute(sql, values)
            await self._db.commit()

    async def keep(self, name: str, body: bytes) -> None:
        """Store an order; one that is known stays as it is."""
        await self.write("INSERT OR IGNORE INTO orders (name, body) VALUES (?, ?)", name, body)

    async def forward(self, erp: str, connections: int) -> None:
        """Send what is new, one row after the other, and mark each as done."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
            while True:
                rows = await self._db.execute_fetchall(_NEW, (_AT_ONCE,))
                for number, name, body in rows:
                    try:
                        await post(session, erp, name, body)
                    except aiohttp.ClientError:
                        await self.write("UPDATE orders SET tries = tries + 1 WHERE id = ?", number)
                        break
                    await self.write("UPDATE orders SET status = 'done' WHERE id = ?", number)
                if not rows:
                    await asyncio.sleep(_IDLE_S)

    async def setting(self, name: str) -> object:
        """A pragma as the connection has it."""
        rows = await self._db.execute_fetchall(f"PRAGMA {name}")
        return next(iter(rows))[0]


async def run(given: Options) -> None:
    """Open the file, start the loop, serve."""
    async with aiosqlite.connect(given.data / "orders.db") as db:
        await db.execute("PRAGMA journal_mode=WAL")
        await db.execute("PRAGMA synchronous=FULL")
        await db.executescript(_SCHEMA)
        orders = Orders(db, shared=given.shared)
        facts = {name: await orders.setting(name) for name in ("synchronous", "journal_mode")}
        forwarding = asyncio.create_task(orders.forward(given.erp, given.connections))
        try:
            await serve(door(given.header, orders.keep), **facts)
        finally:
            forwarding.cancel()


if __name__ == "__main__":
    asyncio.run(run(options(__doc__)))
