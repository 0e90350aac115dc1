"""Base of the SQLite store's parts: the writer, the clock, and the wakeups of the engine's workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from gateway.clock import Clock
from gateway.store.outcome import storable
from gateway.store.row_names import Queue
from gateway.store.sqlite.writer import Change, Connection, Writer

T = TypeVar("T")


class Core:
    """State that the parts share."""

    _writer: Writer
    _clock: Clock
    _restored_ms: int | None = None
    refusing: str | None = None  # why new orders are refused

    def __init__(self) -> None:
        self._wakeups: dict[tuple[Queue, str], asyncio.Event] = {}
        self._last_message_ms: dict[str, int] = {}

    async def _run(self, change: Change[T], patience_s: float | None = None) -> T:
        return await self._writer.run(change, patience_s)

    async def _first(self, sql: str, values: Sequence[object]) -> Any:
        """Return the first row of a query, or None."""
        return await self._run(lambda db: db.execute(sql, values).fetchone())

    async def run_outside_transaction(self, call: Change[T]) -> T:
        """Run on the writing connection what cannot run inside a transaction."""
        return await self._writer.run_outside_transaction(call)

    def _wake(self, queue: Queue, name: str) -> None:
        self._wakeup(queue, name).set()

    def _wake_all(self) -> None:
        for wakeup in self._wakeups.values():
            wakeup.set()

    def _wakeup(self, queue: Queue, name: str) -> asyncio.Event:
        return self._wakeups.setdefault((queue, name), asyncio.Event())

    async def wait(self, queue: Queue, name: str, timeout_s: float) -> None:
        wakeup = self._wakeup(queue, name)
        try:
            async with asyncio.timeout(timeout_s):
                await wakeup.wait()
        except TimeoutError:
            pass
        wakeup.clear()


def audit(
    db: Connection,
    now_ms: int,
    who: str,
    action: str,
    *,
    queue: Queue | None = None,
    row_id: int | None = None,
    key: str | None = None,
    reason: str | None = None,
) -> None:
    """Record an operator's decision; audit rows are never deleted."""
    db.execute(
        "INSERT INTO audit (at_ms, who, action, queue, row_id, key, reason) VALUES (?,?,?,?,?,?,?)",
        (now_ms, storable(who), action, queue, row_id, key, storable(reason) if reason else None),
    )
