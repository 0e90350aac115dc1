"""Worker loop: lease rows and work on them while there are any, then wait; `BatchWorker` runs one batch at a time."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from gateway.api.errors import GatewayError, StoreBusy, StoreFailed
from gateway.clock import Clock
from gateway.store.base import Store
from gateway.store.row_names import Queue

T = TypeVar("T")
log = logging.getLogger("gateway.worker")

_AFTER_MISTAKE_S = 5.0


class Worker(ABC):
    """Task that works on the rows of one queue; `run()` is its body.

    Args:
        name: The source or the target whose rows it leases.
    """

    poll_s = 5.0

    def __init__(self, queue: Queue, name: str, store: Store, clock: Clock) -> None:
        self._queue = queue
        self._name = name
        self._store = store
        self._clock = clock
        self._stopping = False
        self._running = asyncio.Lock()

    @abstractmethod
    async def run_once(self) -> int:
        """Lease what is due, up to a limit, and work on it. Return 0 if there was nothing to lease."""

    async def run(self) -> None:
        """Work until `drain`."""
        while not self._stopping:
            try:
                if not await self.run_once() and not self._stopping:
                    await self._wait()
            except StoreBusy as error:
                await self._clock.sleep(min(error.retry_after_s, 1.0))

    async def _wait(self) -> None:
        """Wait until a row is due, at most for the polling interval."""
        due_s = await self._store.next_due_s(self._queue, self._name)
        if due_s is None or due_s > 0:
            await self._store.wait(self._queue, self._name, self.poll_s if due_s is None else min(due_s, self.poll_s))

    async def _take_back(self, error: BaseException, row_ids: Sequence[int] | None = None) -> None:
        """Release the leases of these rows, or of all, so that no row stays leased by an attempt that has ended."""
        said = str(error) if isinstance(error, GatewayError) else type(error).__name__
        reason = f"the result of the last attempt could not be stored ({said}); it is tried again, and the log says more"
        await retry_commit(self._clock, lambda: self._store.release_leases(self._queue, self._name, reason, row_ids))


class Step(Protocol):
    """Work of a `BatchWorker`: `run_once` leases a batch, works on it and settles it; False if nothing was due."""

    async def run_once(self) -> bool: ...


class BatchWorker(Worker):
    """Worker that runs a step batch by batch.

    A batch that is cut short leaves its rows leased, and `Store.release_all_leases` releases them. After an error it releases them itself.
    """

    def __init__(self, queue: Queue, name: str, step: Step, store: Store, clock: Clock) -> None:
        super().__init__(queue, name, store, clock)
        self._step = step

    async def run_once(self) -> int:
        async with self._running:
            try:
                return await self._step.run_once()
            except (StoreBusy, StoreFailed):
                raise
            except Exception as error:
                await self._survive(error)
                return True

    async def _wait(self) -> None:
        try:
            await super()._wait()
        except (StoreBusy, StoreFailed):
            raise
        except Exception as error:
            await self._survive(error)

    async def _survive(self, error: Exception) -> None:
        """Log it, release the leases and pause: a mistake of ours may not stop the others, nor go round at full speed."""
        log.error("batch.failed", exc_info=error, extra={"queue": self._queue, "worker": self._name})
        await self._take_back(error)
        await self._clock.sleep(_AFTER_MISTAKE_S)

    async def drain(self, timeout_s: float) -> None:
        """Start no further batch; wait at most `timeout_s` for the current one."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._running:
                pass


async def retry_commit(clock: Clock, commit: Callable[[], Awaitable[T]]) -> T:
    """Repeat a commit while the store is busy, and return its result: what was done outside cannot be done again."""
    while True:
        try:
            return await commit()
        except StoreBusy:
            await clock.sleep(1.0)


def now_for_ages(store: Store) -> datetime:
    """Return the time by which a row is too old, counted in time that has really passed.

    While the wall clock is in doubt, no row is too old.
    """
    return store.retention_time() or datetime.min.replace(tzinfo=UTC)
