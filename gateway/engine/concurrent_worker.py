"""Worker that has several rows in flight: it leases what there is room for, and waits until there may be more."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from gateway.api.errors import StoreFailed
from gateway.clock import Clock
from gateway.engine.batch_worker import Worker
from gateway.store.base import Store
from gateway.store.row_names import Queue

Row = TypeVar("Row")

_CUT_SHORT_S = 5.0


class ConcurrentWorker(Worker, Generic[Row]):
    """Worker with a task for each row in flight.

    Args:
        failed: Log event for a mistake of ours.
    """

    def __init__(self, queue: Queue, name: str, store: Store, clock: Clock, *, log: logging.Logger, failed: str) -> None:
        super().__init__(queue, name, store, clock)
        self._log = log
        self._failed_as = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @abstractmethod
    def _allowance(self) -> int:
        """Return how many more rows may be in flight now."""

    @abstractmethod
    def _pause_s(self) -> float:
        """Return the seconds until there may be room again; 0 if that depends on the rows in flight."""

    @abstractmethod
    async def _lease(self, limit: int) -> Sequence[Row]:
        """Lease rows that are due."""

    @abstractmethod
    def _start(self, row: Row) -> None:
        """Start the work on a leased row, by `_spawn`."""

    async def run_once(self) -> int:
        """Lease rows while there is room, start on them, and return how many."""
        return await self._start_up_to(self._allowance())

    async def _start_up_to(self, limit: int) -> int:
        async with self._running:  # `drain` waits for the lease: its rows are in flight as well
            if limit <= 0 or self._stopping:
                return 0
            rows = await self._lease(limit)
            for row in rows:
                self._start(row)
            return len(rows)

    async def idle(self) -> None:
        """Return when nothing is in flight."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def drain(self, timeout_s: float) -> None:
        """Lease nothing more, give the rows in flight `timeout_s` to finish, then cancel them; each settles as far as it got."""
        self._stopping = True
        self._changed.set()
        async with self._running:
            pass
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CUT_SHORT_S)

    async def _wait(self) -> None:
        """Wait until a row is due, one in flight has finished, or a pause is over."""
        if self._allowance() > 0:
            await super()._wait()
            return
        pause_s = max(self._pause_s(), 0.0) or self.poll_s
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(pause_s, 0.01), self.poll_s)):
                await self._changed.wait()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str, row_id: int | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, row_id))

    def _finished(self, row_id: int | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error(self._failed_as, exc_info=error, extra={"queue": self._queue, "worker": self._name})
            if row_id is not None and not isinstance(error, StoreFailed):
                self._spawn(self._take_back(error, [row_id]), f"take back {self._queue}:{row_id}")
