"""A canary word in every field, header, query and secret is found nowhere outside the live body column (reliability.md, Personal data)."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp

from .canary_env import WORD, Town, town

# Where what was received, made and heard lives until it is erased.
LIVE = {("inbox", "document"), ("inbox", "fetched"), ("outbox", "body"), ("outbox", "answer"), ("attempts", "detail")}


def found(places: dict[str, bytes]) -> dict[str, str]:
    """Where the word is, and what stands around it."""
    hits = {name: data.lower().find(WORD.encode()) for name, data in places.items()}
    return {name: repr(places[name][max(0, at - 60) : at + 60]) for name, at in hits.items() if at >= 0}


def columns(database: Path) -> set[tuple[str, str]]:
    """Every column of the database that holds the word."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        names = [(table, row[1]) for table in tables for row in db.execute(f"PRAGMA table_info({table})")]
        like = "SELECT 1 FROM {0} WHERE instr(lower(CAST({1} AS TEXT)), ?) LIMIT 1"
        return {(table, name) for table, name in names if db.execute(like.format(table, f'"{name}"'), (WORD,)).fetchone()}


def sources(database: Path) -> set[str]:
    """Every source whose documents hold the word."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        sql = "SELECT DISTINCT source FROM inbox WHERE instr(CAST(document AS TEXT), ?1) OR instr(CAST(fetched AS TEXT), ?1)"
        return {source for (source,) in db.execute(sql, (WORD,))}


async def settled(made: Town) -> None:
    """Nothing is on its way any more."""
    queues = ("inbox", "outbox", "acknowledgements")
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{made.admin_port}/api/status") as answer:
                status = await answer.json()
            if not any(status[queue][word] for queue in queues for word in ("ready", "leased")):
                return
            await asyncio.sleep(0.1)


async def a_day(made: Town) -> None:
    """Orders come and go, strangers try, people look."""
    made.unkind()
    async with aiohttp.ClientSession() as session:
        await made.erp.wait_for(await made.orders(), 60)
        await made.strangers(session)
        async with asyncio.timeout(60):
            while len([row for row in await waiting(made) if row["status"] == "held"]) < 1:  # what strangers() put into the list
                await asyncio.sleep(0.1)
        await settled(made)
        await made.look(session)
    await asyncio.gather(made.command("status"), made.command("outbox", "--json"), made.command("check"))


async def test_the_canary_is_in_the_live_body_columns_and_nowhere_else(tmp_path: Path) -> None:
    async with town(tmp_path) as made:
        await a_day(made)
        database = tmp_path / "data" / "gateway.db"
        assert sources(database) == set(made.vendors), "where no canary got in, its absence says nothing"
        assert {("inbox", "document"), ("outbox", "body")} <= columns(database) <= LIVE
        dead = [row["row"] for row in await waiting(made)]
        assert dead
        await made.command("drop", *dead, "--reason", "looked at", "--yes")
        await made.command("purge", "--older-than-days", "0")
        async with aiohttp.ClientSession() as session:
            await made.look(session)
        await made.end()
        places = {**made.heard, **made.files("data", "tmp"), "gateway.log": (tmp_path / "gateway.log").read_bytes()}
        assert len(places) >= 30
        assert found(places) == {}


async def waiting(made: Town) -> list[dict[str, str]]:
    async with aiohttp.ClientSession() as session:
        rows = []
        for status in ("dead", "held"):
            async with session.get(f"http://127.0.0.1:{made.admin_port}/api/inbox?status={status}") as answer:
                rows += await answer.json()
        return rows


async def test_known_bad_mutant_a_log_line_with_the_body_is_found(tmp_path: Path) -> None:
    async with town(tmp_path, faulty=True) as made:
        made.vendors["apicbase"].doors = ("webhook",)
        await made.erp.wait_for(await made.orders(), 60)
        await made.end()
        assert "gateway.log" in found({"gateway.log": (tmp_path / "gateway.log").read_bytes()})
