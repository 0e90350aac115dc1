"""Decisions of operators about a whole target: pause it, release it, move what waits for it to another one."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from msgspec import Struct

from gateway.clock import from_ms
from gateway.store.outcome import storable
from gateway.store.sqlite.core import Core, audit
from gateway.store.sqlite.queues import ACTIVE, WAITING, advance, decode
from gateway.store.sqlite.writer import Connection
from gateway.store.targets import Moved, PausedTarget

PAUSED = "SELECT target, who, at_ms, reason FROM target_holds"
_ORDERS = f"""
    SELECT DISTINCT order_id FROM (
        SELECT order_id FROM outbox INDEXED BY outbox_active WHERE target = ?1 AND {ACTIVE}
        UNION ALL SELECT order_id FROM outbox INDEXED BY outbox_waiting WHERE {WAITING} AND target = ?1) ORDER BY order_id"""
_ROWS = """
    SELECT id, target, key, status, kind, maybe_delivered OR step > 0 FROM outbox INDEXED BY outbox_by_order
    WHERE order_id = ? AND target IN (?, ?) ORDER BY id"""
_MOVE = """
    UPDATE outbox SET target = ?1, due_at_ms = CASE WHEN status = 'ready' THEN NULL ELSE due_at_ms END,
                      attempts = CASE WHEN status = 'ready' THEN 0 ELSE attempts END,
                      first_attempt_ms = CASE WHEN status = 'ready' THEN NULL ELSE first_attempt_ms END
    WHERE id IN (SELECT value FROM json_each(?2))"""
_AT_ONCE = 200


class _Waiting(Struct, frozen=True):
    """Message of an order, at the old target or the new one."""

    id: int
    target: str
    key: str
    status: str
    kind: str
    begun: int


class _Way(Struct, frozen=True, kw_only=True):
    """Direction of a move, and what may go."""

    old: str
    new: str
    accepts: Collection[str]
    same_erp: bool


class Targets(Core):
    """Part of `SqliteStore`; `gateway.store.targets.TargetStore` describes the methods."""

    async def pause_target(self, target: str, who: str, reason: str | None) -> PausedTarget:
        now_ms = self._clock.now_ms()
        paused = PausedTarget(target=target, who=storable(who), at=from_ms(now_ms), reason=storable(reason) if reason else None)

        def change(db: Connection) -> PausedTarget:
            db.execute("INSERT OR REPLACE INTO target_holds VALUES (?,?,?,?)", (target, paused.who, now_ms, paused.reason))
            audit(db, now_ms, who, "target-hold", key=target, reason=paused.reason)
            return paused

        return await self._run(change)

    async def release_target(self, target: str, who: str) -> bool:
        now_ms = self._clock.now_ms()

        def change(db: Connection) -> bool:
            gone = db.execute("DELETE FROM target_holds WHERE target = ?", (target,)).rowcount
            audit(db, now_ms, who, "target-release", key=target)
            return bool(gone)

        return await self._run(change)

    async def paused_target(self, target: str) -> PausedTarget | None:
        found = await self._first(f"{PAUSED} WHERE target = ?", (target,))
        return found and decode(PausedTarget, found)

    async def move_target(self, old: str, new: str, who: str, *, accepts: Collection[str], same_erp: bool, dry_run: bool) -> list[Moved]:
        """Move some orders in each transaction, so that accepts wait no longer; the next call continues after a crash."""
        way, now_ms = _Way(old=old, new=new, accepts=accepts, same_erp=same_erp), self._clock.now_ms()
        orders: list[int] = [one for (one,) in await self._run(lambda db: db.execute(_ORDERS, (old,)).fetchall())]
        moved: list[Moved] = []
        if same_erp and not dry_run:
            await self._run(lambda db: _rename(db, old, new))
        for first in range(0, len(orders), _AT_ONCE):
            some = orders[first : first + _AT_ONCE]

            def change(db: Connection, some: Sequence[int] = some) -> list[Moved]:
                return [one for order_id in some for one in _move(db, order_id, way, who, now_ms, dry_run=dry_run)]

            moved += await self._run(change)
        self._wake("outbox", new)
        return moved


def _rename(db: Connection, old: str, new: str) -> None:
    db.execute("UPDATE target_renames SET new = ? WHERE new = ?", (new, old))
    db.execute("DELETE FROM target_renames WHERE old = ?", (new,))
    db.execute("INSERT OR REPLACE INTO target_renames VALUES (?,?)", (old, new))


def _move(db: Connection, order_id: int, way: _Way, who: str, now_ms: int, *, dry_run: bool) -> list[Moved]:
    """Move one order whole, or not at all: its messages keep their order, and overtake nothing that the new target has."""
    rows = [_Waiting(*found) for found in db.execute(_ROWS, (order_id, way.old, way.new)).fetchall()]
    mine = [row for row in rows if row.target == way.old and row.status != "done"]
    problem = _problem(mine, [row for row in rows if row.target == way.new], way)
    if problem is None and not dry_run:
        db.execute(_MOVE, (way.new, json.dumps([row.id for row in mine])))
        advance(db, now_ms, "outbox", order_id, way.new)
        for row in mine:
            audit(db, now_ms, who, "target-move", queue="outbox", row_id=row.id, key=row.key, reason=f"from {way.old} to {way.new}")
    return [Moved(row=f"outbox:{row.id}", key=row.key, status=row.status, problem=problem) for row in mine]


def _problem(mine: Sequence[_Waiting], theirs: Sequence[_Waiting], way: _Way) -> str | None:
    """Say why an order stays where it is."""
    new, there = way.new, {row.key for row in theirs}
    if any(row.status == "leased" for row in mine):
        return "it is being sent right now; try again"
    if both := [row.key for row in mine if row.key in there]:
        return f"{new} has {both[0]} already; end it here with `gateway drop`"
    if theirs and mine and theirs[-1].id > mine[0].id:
        return f"{new} has a later message of this order already ({theirs[-1].key}), which it would follow; end it here with `gateway drop`"
    if other := [row.kind for row in mine if row.kind not in way.accepts]:
        return f"{new} does not take {other[0]} (its `accepts`)"
    if not way.same_erp and any(row.begun or row.status == "unknown" for row in mine):
        return f"{way.old} may have it already; with --same-erp it goes, if {new} is the same ERP under another name"
    if any(row.status == "unknown" for row in mine) and any(row.status != "done" for row in theirs):
        return f"{new} still has an earlier message of it on its way; try again when that is done"
    return None
