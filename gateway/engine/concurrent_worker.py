"""The loop round a step that has several rows under way at once: lease what there is room for, and wait until there may be more."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from typing import Any, Generic, TypeVar

from gateway.api.errors import StoreBusy, StoreFailed
from gateway.clock import Clock
from gateway.engine.batch_worker import retry_commit, unsettled
from gateway.store.base import Store
from gateway.store.row_names import Queue

Row = TypeVar("Row")

_LOOK_S = 5.0
_CUT_SHORT_S = 5.0


class Flight(ABC, Generic[Row]):
    """`run()` is its task. What is leased is under way until its own task ends, however that ends.

    Args:
        lane: The source or the target whose rows of `queue` it works on.
        failed: The name of the log record for a mistake of ours.
    """

    def __init__(self, queue: Queue, lane: str, store: Store, clock: Clock, *, log: logging.Logger, failed: str) -> None:
        self._queue = queue
        self._lane = lane
        self._store = store
        self._clock = clock
        self._log = log
        self._failed_as = failed
        self._quiet_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows: dict[asyncio.Task[None], int] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stopping = False

    @abstractmethod
    def _free(self) -> int:
        """How many more may be under way now."""

    @abstractmethod
    def _pause_s(self) -> float:
        """Seconds until there may be room again; 0 where that depends on what is under way."""

    @abstractmethod
    async def _leased(self, limit: int) -> Sequence[Row]:
        """Lease rows that are due."""

    @abstractmethod
    def _start(self, row: Row) -> None:
        """Begin with one of them, by `_spawn`."""

    async def run(self) -> None:
        """Work until `drain`."""
        while not self._stopping:
            try:
                if not await self.take():
                    await self._wait()
            except StoreBusy as error:
                await self._clock.sleep(min(error.retry_after_s, 1.0))

    async def take(self) -> int:
        """Lease what there is room for, and start on it; how many."""
        return await self._lease(self._free())

    async def _lease(self, limit: int) -> int:
        async with self._turn:  # `drain` waits for what is being leased: it is under way as well
            if limit <= 0 or self._stopping:
                return 0
            rows = await self._leased(limit)
            for row in rows:
                self._start(row)
            return len(rows)

    async def idle(self) -> None:
        """Return when nothing is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing more; let what is under way finish, then cut it short: it ends as what it is known to be by then."""
        self._stopping = True
        self._changed.set()
        async with self._turn:
            pass
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CUT_SHORT_S)

    async def _wait(self) -> None:
        """Until something may have changed: a row became ready, one came to its end, a pause is over."""
        if self._free() > 0:
            due_s = await self._store.next_due_s(self._queue, self._lane)
            if due_s is None or due_s > 0:
                await self._store.wait(self._queue, self._lane, _LOOK_S if due_s is None else min(due_s, _LOOK_S))
            return
        pause_s = max(self._pause_s(), 0.0) or _LOOK_S
        self._changed.clear()
        try:
            async with asyncio.timeout(min(max(pause_s, 0.01), _LOOK_S)):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _spawn(self, work: Coroutine[Any, Any, None], name: str, row_id: int | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        if row_id is not None:
            self._rows[task] = row_id
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        row_id = self._rows.pop(task, None)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error(self._failed_as, exc_info=error, extra={"queue": self._queue, "lane": self._lane})
            if row_id is not None and not isinstance(error, StoreFailed):
                self._spawn(self._take_back(row_id, unsettled(error)), f"take back {self._queue}:{row_id}")

    async def _take_back(self, row_id: int, reason: str) -> None:
        """No row stays leased by an attempt that has ended, whatever it ended with."""
        await retry_commit(self._clock, lambda: self._store.take_back(self._queue, self._lane, reason, [row_id]))
