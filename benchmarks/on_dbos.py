"""The same on DBOS with SQLite: the door starts a workflow before it answers, its only step posts to the ERP.

The workflow's id is the order's, so an order that comes again is not sent again. DBOS leaves SQLite's journal as it is, a file that is
deleted with each commit; it is a write-ahead log here, which is faster and a setting of the file, not of DBOS.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import aiohttp
import sqlalchemy
from dbos import DBOS, SetWorkflowID

from benchmarks.alternative import Options, door, options, post, serve

_SETTINGS = ("synchronous", "journal_mode")
_sessions: list[aiohttp.ClientSession] = []
_erp: list[str] = []
_engines: list[sqlalchemy.Engine] = []


@DBOS.step(retries_allowed=True, max_attempts=1000, interval_seconds=1.0)
async def send(name: str, body: bytes) -> None:
    """Give the ERP one order."""
    await post(_sessions[0], _erp[0], name, body)


@DBOS.workflow()
async def forward(name: str, body: bytes) -> None:
    """What has to happen to one order."""
    await send(name, body)


async def keep(name: str, body: bytes) -> None:
    """Start the workflow; it is stored when this returns."""
    with SetWorkflowID(name):
        await DBOS.start_workflow_async(forward, name, body)


def _note(connection: sqlalchemy.Connection) -> None:
    _engines.append(connection.engine)


def _settings() -> dict[str, object]:
    """The pragmas of a connection out of DBOS's own pool."""
    with _engines[0].connect() as connection:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in _SETTINGS}


async def run(given: Options) -> None:
    """Launch DBOS, serve the door."""
    file = given.data / "dbos.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode=WAL")
    # DBOS keeps its engine to itself; whichever opens a connection while it is launched is the one.
    sqlalchemy.event.listen(sqlalchemy.Engine, "engine_connect", _note)
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{file}", "log_level": "WARNING"})
    DBOS.launch()
    sqlalchemy.event.remove(sqlalchemy.Engine, "engine_connect", _note)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=given.connections)) as session:
        _sessions.append(session)
        _erp.append(given.erp)
        await serve(door(given.header, keep), **_settings())


if __name__ == "__main__":
    asyncio.run(run(options(__doc__)))
