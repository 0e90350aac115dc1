"""The SQLite store: the common suite, and what is peculiar to one file on one disk."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import ConfigError, StoreBusy, StoreError, StoreFailed
from gateway.clock import SystemClock
from gateway.store.arrivals import NewEvent
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.connection import APPLICATION_ID, migrations, open_database, sqlite3_connect
from gateway.store.sqlite.maintenance import Reserve
from gateway.store.sqlite.reader import SqliteReader
from gateway.targets.classify import Outcome
from gateway.testing import ManualClock
from tests import acme
from tests.store import conformance as suite


class TestConformance(suite.StoreConformance):
    """SQLite passes the common suite."""


def on_file(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


async def test_pragmas_are_what_durability_needs(tmp_path: Path) -> None:
    with closing(open_database(tmp_path / "gateway.db")) as db:
        found = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "mmap_size", "cache_size")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "mmap_size": 0, "cache_size": -16000}


@pytest.mark.parametrize("table", ["inbox", "outbox", "acknowledgements", "submit"])
def test_a_leased_row_cannot_have_a_due_time_since_a_restart_would_not_find_it(tmp_path: Path, table: str) -> None:
    with closing(open_database(tmp_path / "gateway.db")) as db:
        columns = [name for _, name, _, required, default, _ in db.execute(f"PRAGMA table_info({table})") if required and default is None]
        others = [name for name in columns if name not in ("id", "status")]
        insert = f"INSERT INTO {table} (status, due_at_ms, {', '.join(others)}) VALUES ('leased', ?{', 1' * len(others)})"
        db.execute("PRAGMA foreign_keys=OFF")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            db.execute(insert, (1,))
        db.execute(insert, (None,))


async def test_leases_use_the_index_of_what_is_ready(store: SqliteStore, tmp_path: Path) -> None:
    from gateway.store.sqlite import inbox, outbox, submissions

    for sql, index in (
        (inbox._LEASE, "inbox_active"),
        (outbox._LEASE, "outbox_active"),
        (outbox._LEASE_ACKS, "acknowledgements_active"),
        (submissions._LEASE, "submit_active"),
    ):
        plan = str(on_file(tmp_path / "gateway.db", "EXPLAIN QUERY PLAN " + sql.replace("?", "1")))
        assert index in plan
        assert "TEMP B-TREE" not in plan


PARTS: list[type] = [suite.Versions, suite.Revising, suite.Delivering, suite.Unclear, suite.Acknowledging, suite.Submitting]
PARTS += [suite.Deciding, suite.Naming, suite.Choosing, suite.Resending]


@pytest.mark.parametrize("part", PARTS)
async def test_no_statement_reads_a_whole_table(tmp_path: Path, clock: ManualClock, part: type) -> None:
    """Every statement of the common suite's busiest tests, explained: with ten million orders a scan is a standstill."""
    connections: list[sqlite3.Connection] = []
    said: set[str] = set()

    def connect(path: Path) -> Any:
        db = sqlite3_connect(path)
        assert isinstance(db, sqlite3.Connection)
        connections.append(db)
        return db

    tests = [getattr(part(), name) for name in vars(part) if name.startswith("test_")]
    tests = [test for test in tests if set(inspect.signature(test).parameters) <= {"store", "clock"}]
    assert tests
    for test in tests:
        folder = tmp_path / test.__name__
        folder.mkdir()
        store = SqliteStore(folder / "gateway.db", clock=clock, connect=connect)
        await store.open()
        await store.run_outside_transaction(lambda _: connections[-1].set_trace_callback(said.add))
        await store.register(["acme", "other"])
        await (test(store, clock) if "clock" in test.__code__.co_varnames[: test.__code__.co_argcount] else test(store))
        await store.shift_due(1000, 10**9)
        await store.redact_bodies(clock.now(), 10)
        await store.close()
    assert len(said) > 10
    assert scans(tmp_path / test.__name__ / "gateway.db", said) == []


async def test_no_read_reads_a_whole_table(tmp_path: Path, clock: ManualClock) -> None:
    said: set[str] = set()
    store = SqliteStore(tmp_path / "gateway.db", clock=clock)
    await store.open()
    await store.close()
    reader = SqliteReader(tmp_path / "gateway.db")
    await reader.open()
    await reader._db._execute(reader._db._conn.set_trace_callback, said.add)  # type: ignore[union-attr]
    await reader.summary()
    for queue in ("inbox", "outbox", "acknowledgements", "submit"):
        for status in (None, "ready", "leased", "unknown", "held", "dead"):
            await reader.rows(queue, status=status)
    await reader.orders()
    await reader.deliveries("erp", before=None, limit=10)
    await reader.show("o1")
    await reader.show("id-1")
    await reader.close()
    assert len(said) > 10
    assert scans(tmp_path / "gateway.db", said) == []


def scans(database: Path, statements: Iterable[str]) -> list[str]:
    """Return the statements that read a whole table, each with its plan."""
    found = []
    with closing(sqlite3.connect(database)) as db:
        for sql in statements:
            if sql.split()[0] in ("SELECT", "UPDATE", "INSERT", "DELETE"):
                plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql)]
                newest_first = "ORDER BY id DESC LIMIT" in sql and not any("TEMP B-TREE FOR ORDER" in step for step in plan)
                open_only = all("_active" in step or "_waiting" in step for step in plan if step.startswith("SCAN"))
                small = all(
                    step.split()[1] in ("sources", "names", "json_each", "target_renames") or "CONSTANT ROW" in step or "(subquery" in step
                    for step in plan
                    if step.startswith("SCAN")
                )
                if any(step.startswith("SCAN") for step in plan) and not (newest_first or open_only or small):
                    found.append(f"{sql} {plan}")
    return found


async def test_one_callers_error_undoes_only_its_own_transaction(store: SqliteStore) -> None:
    def fails(db: Any) -> None:
        db.execute("INSERT INTO audit (at_ms, who, action) VALUES (1, 'x', 'y')")
        raise ZeroDivisionError

    outcomes = await asyncio.gather(
        *(suite.accept(store, suite.incoming(f"o{n}")) for n in range(3)),
        store._run(fails),
        *(suite.accept(store, suite.incoming(f"p{n}")) for n in range(3)),
        return_exceptions=True,
    )
    assert [type(o) for o in outcomes].count(ZeroDivisionError) == 1
    assert len(await store.lease_inbox("acme", 100)) == 6
    assert await store._run(lambda db: db.execute("SELECT count(*) FROM audit").fetchone()[0]) == 0


async def test_a_dead_letter_that_still_cannot_be_read_says_why(store: SqliteStore, tmp_path: Path) -> None:
    dead = NewEvent(key="unreadable-1", document=b"{", sha256=b"s", dead="its total is no number")
    for _ in range(2):
        await store.accept("acme", "webhook", [dead])
        (decided,) = await store.replay(["unreadable-1"], "anna")
        assert decided.problem is None
        (row,) = await store.lease_inbox("acme", 10)
        await store.reaccept(row, [dead])
        assert on_file(tmp_path / "gateway.db", "SELECT status, reason FROM inbox") == [("dead", "its total is no number")]


async def test_waiting_callers_share_commits(tmp_path: Path) -> None:
    commits: list[float] = []
    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock(), on_commit=commits.append)
    await store.open()
    await asyncio.gather(*(suite.accept(store, suite.incoming(f"o{n}")) for n in range(200)))
    await store.close()
    assert len(commits) < 50


async def test_a_second_process_cannot_have_the_directory(store: SqliteStore, tmp_path: Path) -> None:
    other = SqliteStore(tmp_path / "gateway.db", clock=SystemClock())
    with pytest.raises(StoreBusy, match="another gateway process"):
        await other.open()


async def reopened(path: Path) -> None:
    store = SqliteStore(path, clock=SystemClock())
    await store.open()
    await store.close()


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def torn(path: Path) -> None:
    asyncio.run(reopened(path))
    data = bytearray(path.read_bytes())
    data[100:4096] = os.urandom(3996)
    path.write_bytes(data)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE cats (name)")


def newer(path: Path) -> None:
    asyncio.run(reopened(path))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (garbage, "is damaged"),
        (torn, "is damaged"),
        (foreign, "another program's database"),
        (newer, "written by a newer gateway"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained_and_left_alone(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "gateway.db"
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match=says):
        asyncio.run(reopened(path))
    assert path.read_bytes() == before


async def test_a_read_only_directory_is_explained(tmp_path: Path) -> None:
    """Root may write anywhere, so a file where the folder should be stands for what cannot be written."""
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        await reopened(tmp_path / "data" / "gateway.db")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC])
async def test_a_directory_on_a_broken_disk_is_no_wrong_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """systemd does not start again what has a wrong configuration; a disk is mended, and then it should."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreFailed, match="look at the disk"):
        await reopened(tmp_path / "gateway.db")


async def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{migrations()[0][1]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    await reopened(path)
    assert on_file(path, "PRAGMA user_version") == [(migrations()[-1][0],)]


def test_orders_that_wait_get_their_vendors_number_from_their_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = migrations()
    monkeypatch.setattr("gateway.store.sqlite.connection.migrations", lambda: every[:2])
    with closing(open_database(tmp_path / "gateway.db")) as db:
        for n, (status, body) in enumerate(
            (("dead", '{"order":{"order_number":"PO-1"}}'), ("ready", "no JSON"), ("done", '{"order":{}}')), 1
        ):
            db.execute("INSERT INTO orders (id, source, order_ref, versions, newest_key) VALUES (?, 'acme', ?, 1, '')", (n, f"o{n}"))
            db.execute(
                "INSERT INTO outbox (target, key, kind, order_id, inbox_id, status, created_at_ms, sha256, body) "
                "VALUES ('erp', ?, 'order.placed', ?, 1, ?, 0, x'00', ?)",
                (f"acme/o{n}/1", n, status, body.encode()),
            )
    monkeypatch.undo()
    open_database(tmp_path / "gateway.db").close()
    assert on_file(tmp_path / "gateway.db", "SELECT number FROM orders ORDER BY id") == [("PO-1",), (None,), (None,)]


async def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


async def test_close_leaves_an_empty_log(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock())
    await store.open()
    await suite.accept(store, suite.incoming("o1"))
    await store.close()
    wal = tmp_path / "gateway.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0


async def test_nothing_is_taken_after_close(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock())
    await store.open()
    await store.close()
    with pytest.raises(StoreBusy):
        await suite.accept(store, suite.incoming("o1"))


async def test_a_row_survives_its_process(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal, sys
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
from tests.store import conformance as suite
from pathlib import Path
from gateway.clock import SystemClock
from gateway.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(Path({str(tmp_path)!r}) / "gateway.db", clock=SystemClock())
    await store.open()
    await suite.accept(store, suite.incoming("o1"))
    await store.lease_inbox("acme", 10)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock())
    await store.open()
    assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o1"]
    await store.close()


async def test_the_reader_cannot_write_and_sees_commits(store: SqliteStore, tmp_path: Path) -> None:
    reader = SqliteReader(tmp_path / "gateway.db")
    await reader.open()
    await suite.accept(store, suite.incoming("o1"))
    assert (await reader.summary())["inbox"]["ready"] == 1
    with pytest.raises(sqlite3.OperationalError):
        await reader._rows("DELETE FROM inbox")
    await reader.close()


async def test_a_store_that_an_earlier_version_wrote_is_read_or_refused_in_words(tmp_path: Path) -> None:
    """An upgrade is installed, and the service has not been started since: the columns have their names from before."""
    path = tmp_path / "gateway.db"
    await reopened(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE submit RENAME COLUMN unique_subject TO sole")
        db.execute("DROP INDEX submit_by_subject")
    store = SqliteReader(path)
    await store.open()
    assert (await store.summary())["submit"]["ready"] == 0
    for read in (lambda: store._rows("SELECT unique_subject FROM submit"), lambda: store._tuples("SELECT unique_subject FROM submit")):
        with pytest.raises(StoreError, match=r"written by an earlier version \(no such column: unique_subject\); .* `gateway migrate`"):
            await read()
    with pytest.raises(StoreError, match="no such index: submit_by_subject"):
        await store._aside(lambda db: db.execute("SELECT 1 FROM submit INDEXED BY submit_by_subject").fetchall())
    await store.close()


async def test_the_reader_works_without_a_gateway(tmp_path: Path) -> None:
    await reopened(tmp_path / "gateway.db")
    for leftover in ("gateway.db-wal", "gateway.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    reader = SqliteReader(tmp_path / "gateway.db")
    await reader.open()
    assert (await reader.summary())["outbox"]["done"] == 0
    await reader.close()


async def test_the_reader_says_that_there_is_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="when the gateway is first started"):
        await SqliteReader(tmp_path / "gateway.db").open()


async def test_show_tells_the_whole_story(store: SqliteStore, tmp_path: Path, clock: ManualClock) -> None:
    await suite.accept(store, suite.incoming("o1"))
    await suite.prepare(store)
    refused = Settlement(
        status="dead", outcome="refused", http_status=422, detail="no such customer", reason="refused (422)", started_at_ms=clock.now_ms()
    )
    await suite.deliver(store, refused)
    await store.drop(["acme/o1/1"], "anna", "ordered by phone")
    reader = SqliteReader(tmp_path / "gateway.db")
    await reader.open()
    event, sent = await reader.show("o1")
    await reader.close()
    assert (event["key"], event["status"], event["outcome"]) == ("acme/o1", "done", "prepared")
    assert (sent["key"], sent["status"], sent["outcome"]) == ("acme/o1/1", "done", "dropped")
    assert (sent["tried"][0]["http_status"], sent["tried"][0]["detail"]) == (422, "no such customer")
    assert (sent["decided"][0]["who"], sent["decided"][0]["reason"]) == ("anna", "ordered by phone")


def test_the_reserve_is_real_space_and_can_be_given_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    assert reserve.hold()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20
    assert reserve.free()
    assert not reserve.free()


async def test_a_flipped_bit_on_the_way_to_the_erp_is_noticed(start: Any, erp: Any) -> None:
    running = await start(erp.url, target="concurrency = 1")
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason="test"), 0, 0.0)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: _has(running, "outbox", "ready"))
    await running.gateway._store._run(lambda db: db.execute("UPDATE outbox SET body = CAST(replace(body, 'o1', 'o2') AS BLOB)"))
    running.gateway._runtime.deliver["erp"].release()
    await running.until(lambda: _has(running, "outbox", "dead"))
    (row,) = await running.rows("outbox", status="dead")
    assert "SHA-256" in row["reason"]
    assert erp.orders == {}


async def _has(running: Any, queue: str, status: str) -> bool:
    return bool(await running.rows(queue, status=status))
