"""Transactions that share their statements leave exactly the rows that each by itself would have left."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.store.arrivals import NewEvent
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore, accept, bulk_insert, bulk_settle
from gateway.testing import ManualClock
from tests.store import conformance as suite

_ENDS = (
    *[Settlement(status="done", outcome="delivered", http_status=201, detail="taken", started_at_ms=5, duration_ms=7)] * 6,
    Settlement(status="done", outcome="duplicate", erp_id="SO-1", erp_number="1", maybe_delivered=True),
    Settlement(status="done", outcome="delivered", cleared=True),
    Settlement(status="ready", outcome="retry", reason="later", due_in_s=1),
    Settlement(status="dead", outcome="refused", reason="no"),
    Settlement(status="held", outcome="held", reason="a person decides"),
)
_TABLES = ("orders", "inbox", "outbox", "acknowledgements", "attempts", "cursors")


async def life(path: Path, seed: int) -> dict[str, list[Any]]:
    """A few rounds of many calls at once: new orders, repeats, versions, dead letters; the rows that are left."""
    path.mkdir()
    dice, clock = random.Random(seed), ManualClock()
    store = SqliteStore(path / "gateway.db", clock=clock)
    await store.open()
    await store.register(["acme"])
    new = iter(range(10_000))
    for _ in range(6):
        clock.advance(2)
        await asyncio.gather(*(_accept(store, dice, new) for _ in range(40)))
        rows = await store.lease_inbox("acme", 100)
        await store.prepared([suite.message(row, "erp", "other") for row in rows if row.order_ref is not None])
        clock.advance(2)
        for target in ("erp", "other"):
            leased = await store.lease_outbox(target, 60)
            await asyncio.gather(*(store.settle_outbox(row, dice.choice(_ENDS), acknowledge=True) for row in leased))
    await store.close()
    with closing(sqlite3.connect(path / "gateway.db")) as db:
        left = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES}
        leases = db.execute("SELECT count(*) FROM outbox WHERE lease IS NOT NULL").fetchone()[0]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert leases == 0
    return left


async def _accept(store: SqliteStore, dice: random.Random, new: Any) -> None:
    events = [_event(dice, new) for _ in range(dice.choice((1, 1, 1, 1, 1, 6)))]
    await store.accept("acme", "webhook", events, cursor=events[0].order_ref if dice.random() < 0.1 else None)


def _event(dice: random.Random, new: Any) -> NewEvent:
    known = dice.random() < 0.04
    ref = f"o{dice.randrange(100)}" if known else f"o{next(new)}"
    more: dict[str, Any] = {"acknowledge": "stored"} if dice.random() < 0.5 else {}
    if dice.random() < 0.02:
        more = {"ignored": "of another kind"}
    if not known and dice.random() < 0.05:
        more["key"] = f"k{int(ref[1:]) // 25}"  # a connector that names events of two orders alike, often in one commit
    if dice.random() < 0.2:
        more["sequence"] = dice.randrange(5)
    return suite.incoming(ref, dice.choice("12"), **more)


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (accept, bulk_insert, bulk_settle):
        monkeypatch.setattr(part, "_FEW", 10**9)


@pytest.mark.parametrize("seed", range(6))
async def test_together_is_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    together = await life(tmp_path / "together", seed)
    alone(monkeypatch)
    by_itself = await life(tmp_path / "alone", seed)
    for table in _TABLES:
        assert together[table] == by_itself[table]
    assert len(together["orders"]) > 150
    assert {row[6] for row in together["outbox"]} >= {"done", "held", "dead"}


@pytest.mark.parametrize("seed", range(4))
async def test_a_crowd_is_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(accept, "_MANY", 4)
        patch.setattr(accept, "_CROWDS", (16, 8))
        together = await life(tmp_path / "together", seed)
    alone(monkeypatch)
    assert together == await life(tmp_path / "alone", seed)


async def test_one_that_is_known_among_many_costs_no_other_its_place(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db", clock=ManualClock())
    await store.open()
    events = [suite.incoming(f"o{n}") for n in range(1000)]
    await store.accept("acme", "realtime", [events[300]])
    accepted = await store.accept("acme", "realtime", events)
    assert [one.outcome for one in accepted] == ["repeat" if n == 300 else "stored" for n in range(1000)]
    await store.close()
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as db:
        refs = "SELECT order_ref FROM inbox JOIN orders ON orders.id = order_id WHERE inbox.id > 1 ORDER BY inbox.id"
        assert [ref for (ref,) in db.execute(refs)] == [f"o{n}" for n in range(1000) if n != 300]
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (1000,)


async def test_they_do_share_their_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[str] = []

    def watched(part: Any, name: str) -> None:
        real = getattr(part, name)

        def call(db: Any, many: Any, *rest: Any) -> Any:
            done = real(db, many, *rest)
            if done is not False and len(many) >= 6:
                shared.append(name)
            return done

        monkeypatch.setattr(part, name, call)

    for part, name in ((accept, "_all_new"), (bulk_insert, "_all_first"), (bulk_settle, "_ended_well")):
        watched(part, name)
    await life(tmp_path / "watched", 1)
    assert {"_all_new", "_all_first", "_ended_well"} == set(shared)


@pytest.mark.parametrize(
    ("part", "name", "fault"),
    [
        (accept, "_NEW_EVENTS", lambda sql: sql.replace("content, sha256", "sha256, content")),
        (accept, "_NOT_THESE_ORDERS", lambda sql: sql.replace("id > ?", "id > ? + 1000000")),
        pytest.param(accept, "_NOT_THESE_EVENTS", lambda sql: sql.replace("id > ?", "id > ? + 1000000"), marks=pytest.mark.long),
        (
            bulk_insert,
            "_OUTBOX",
            lambda sql: sql.replace("key, kind", "kind, key"),
        ),
        (bulk_settle, "_ENDED_WELL", lambda sql: sql.replace("maybe_delivered OR column3", "maybe_delivered")),
        (bulk_settle, "_WAITS", lambda sql: sql.replace("due_at_ms IS NULL", "due_at_ms = 0")),
    ],
)
async def test_known_bad_mutant_a_statement_that_does_something_else_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Any, name: str, fault: Any
) -> None:
    differs = False
    for seed in range(12):
        with monkeypatch.context() as patch:
            alone(patch)
            right = await life(tmp_path / f"right{seed}", seed)
        with monkeypatch.context() as patch:
            changed = fault(getattr(part, name))
            assert changed != getattr(part, name)
            patch.setattr(part, name, changed)
            try:
                differs = await life(tmp_path / f"wrong{seed}", seed) != right
            except Exception:
                differs = True
        if differs:
            return
    assert differs
