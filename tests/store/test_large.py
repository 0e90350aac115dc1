"""What an order costs does not depend on how many others there are: counted in steps of SQLite's machine, since a time would say
something about this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.store.outcome import Settlement
from gateway.store.row_names import statuses_of
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.connection import sqlite3_connect
from gateway.store.sqlite.reader import SqliteReader
from gateway.testing import ManualClock
from tests.store import conformance as suite

FEW, MANY = 3, 60
LATER = Settlement(status="ready", outcome="retry", due_in_s=3600)
Call = Callable[[], Awaitable[Any]]


class Steps:
    """Counts what a connection does."""

    def __init__(self) -> None:
        self.count = 0
        self.connections: list[sqlite3.Connection] = []

    def __call__(self) -> int:
        self.count += 1
        return 0

    def connect(self, path: Path) -> Any:
        db = sqlite3_connect(path)
        assert isinstance(db, sqlite3.Connection)
        db.set_progress_handler(self, 1)
        return db

    async def of(self, call: Call) -> int:
        before = self.count
        await call()
        return self.count - before


async def settled(store: SqliteStore, name: str, count: int, end: Settlement, *targets: str) -> None:
    """So many orders, prepared for the targets, and ended as told at the first of them."""
    for n in range(count):
        await suite.accept(store, suite.incoming(f"{name}{n}"))
    await suite.prepare(store, *targets)
    await suite.deliver(store, end, target=targets[0])


async def reading(folder: Path, clock: ManualClock, done: int) -> dict[str, int]:
    """The steps of everything that is shown, with so many delivered orders and one of every other kind."""
    folder.mkdir()
    store = SqliteStore(folder / "gateway.db", clock=clock)
    await store.open()
    await settled(store, "waits", 1, LATER, "erp")
    await settled(store, "held", 1, Settlement(status="held", outcome="held", reason="why"), "erp")
    await settled(store, "done", done, suite.DONE, "erp")
    await store.close()
    reader, steps = SqliteReader(folder / "gateway.db"), Steps()
    await reader.open()
    assert reader._db is not None
    await reader._db.set_progress_handler(steps, 1)
    calls: dict[str, Call] = {
        "summary": reader.summary,
        "sources": reader.sources,
        "orders": lambda: reader.orders(limit=2),
        "deliveries": lambda: reader.deliveries("erp", before=None, limit=2),
        "show": lambda: reader.show("waits0"),
    }
    for queue in ("inbox", "outbox", "acknowledgements", "submit"):
        for status in (None, *statuses_of(queue)):
            calls[f"{queue} {status}"] = lambda queue=queue, status=status: reader.rows(queue, status=status, limit=2)  # type: ignore[misc]
    counted = {name: await steps.of(call) for name, call in calls.items()}
    await reader.close()
    return counted


async def test_what_is_done_costs_no_reader_a_step(tmp_path: Path, clock: ManualClock) -> None:
    assert await reading(tmp_path / "few", clock, FEW) == await reading(tmp_path / "many", clock, MANY)


async def test_what_is_looked_for_far_down_is_found_in_reads_that_are_short(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "gateway.db", clock=clock)
    await store.open()
    await settled(store, "old", 3, suite.DONE, "old")
    await settled(store, "new", MANY, suite.DONE, "erp")
    await store.close()
    monkeypatch.setattr("gateway.store.sqlite.reader._SLICE", 7)
    reader, steps = SqliteReader(tmp_path / "gateway.db"), Steps()
    await reader.open()
    assert reader._db is not None
    await reader._db.set_progress_handler(steps, 1)
    read, longest = reader._rows, []

    async def counting(sql: str, values: Any = ()) -> Any:
        before = steps.count
        rows = await read(sql, values)
        longest.append(steps.count - before)
        return rows

    monkeypatch.setattr(reader, "_rows", counting)
    assert [row["row"] for row in await reader.rows("outbox", name="old")] == ["outbox:3", "outbox:2", "outbox:1"]
    assert [row["row"] for row in await reader.rows("outbox", status="done", name="old", limit=2)] == ["outbox:3", "outbox:2"]
    assert [row["id"] for row in await reader.deliveries("old", before=3, limit=9)] == [2, 1]
    assert len(await reader.orders()) == 50
    longest.clear()
    assert await reader.rows("inbox", name="nobody") == []
    assert max(longest) < sum(longest) / 4
    longest.clear()
    assert await reader.orders(source="nobody") == []
    assert max(longest) < sum(longest) / 4
    await reader.close()


async def working(folder: Path, clock: ManualClock, others: int) -> dict[str, int]:
    """The steps of one order's way, with so many others that are done, that wait for a later try, and whose target is down."""
    folder.mkdir()
    steps = Steps()
    store = SqliteStore(folder / "gateway.db", clock=clock, connect=steps.connect)
    await store.open()
    await settled(store, "done", others, suite.DONE, "erp")
    await settled(store, "later", others, LATER, "erp", "down")
    now = clock.now()

    async def taken() -> None:
        (row,) = await store.lease_outbox("erp", 10)
        await store.settle_outbox(row, suite.DONE, acknowledge=True)

    calls: dict[str, Call] = {
        "accept": lambda: suite.accept(store, suite.incoming("one")),
        "repeat": lambda: suite.accept(store, suite.incoming("one")),
        "prepare": lambda: suite.prepare(store),
        "next inbox": lambda: store.next_due_s("inbox", "acme"),
        "deliver": taken,
        "next outbox": lambda: store.next_due_s("outbox", "erp"),
        "revise": lambda: suite.accept(store, suite.incoming("one", "2")),
        "verdict": lambda: store.verdict("acme", "one"),
        "proof": store.commits,
        "size": store.used_bytes,
        "bodies": lambda: store.redact_bodies(now.replace(year=now.year - 1), 10),
        "checkpoint": store.checkpoint,
    }
    counted = {name: await steps.of(call) for name, call in calls.items()}
    await store.close()
    return counted


async def test_what_is_done_or_waits_costs_an_order_no_step(tmp_path: Path, clock: ManualClock) -> None:
    assert await working(tmp_path / "few", clock, FEW) == await working(tmp_path / "many", clock, MANY)


async def starting(folder: Path, clock: ManualClock, others: int) -> int:
    """The steps of a start after an end that left a row of two queues leased, with so many others that are done or wait."""
    folder.mkdir()
    store = SqliteStore(folder / "gateway.db", clock=clock)
    await store.open()
    await settled(store, "done", others, suite.DONE, "erp")
    await settled(store, "later", others, LATER, "erp", "down")
    await suite.accept(store, suite.incoming("one"), source="other")
    assert len(await store.lease_inbox("other", 10)) == len(await store.lease_outbox("down", 1)) == 1
    await store._writer.close()  # as a kill would: nothing is handed back
    store._lock.release()
    steps = Steps()
    store = SqliteStore(folder / "gateway.db", clock=clock, connect=steps.connect)
    await store.open()
    opened = steps.count
    assert [row.key for row in await store.lease_inbox("other", 10)] == ["one"]
    assert len(await store.lease_outbox("down", 100)) == others
    await store.close()
    return opened


async def test_a_start_looks_at_nothing_that_waits(tmp_path: Path, clock: ManualClock) -> None:
    assert await starting(tmp_path / "few", clock, FEW) == await starting(tmp_path / "many", clock, MANY)


@pytest.mark.parametrize(
    "sql", ["SELECT min(id) FROM inbox WHERE status = 'ready'", "SELECT * FROM inbox WHERE status = 'ready' ORDER BY id"]
)
async def test_what_reads_a_whole_table_would_be_counted(tmp_path: Path, clock: ManualClock, sql: str) -> None:
    counted = []
    for many in (FEW, MANY):
        (folder := tmp_path / str(many)).mkdir()
        steps = Steps()
        store = SqliteStore(folder / "gateway.db", clock=clock, connect=steps.connect)
        await store.open()
        await settled(store, "done", many, suite.DONE, "erp")
        counted.append(await steps.of(lambda store=store: store._run(lambda db: db.execute(sql).fetchall())))  # type: ignore[misc]
        await store.close()
    assert counted[1] > 2 * counted[0]
