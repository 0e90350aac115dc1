"""The loop round a step that works in turns: work while there is work, then wait until there may be some."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from gateway.api.errors import GatewayError, StoreBusy, StoreFailed
from gateway.clock import Clock
from gateway.store.base import Store
from gateway.store.row_names import Queue

T = TypeVar("T")
log = logging.getLogger("gateway.worker")

_LOOK_S = 5.0
_AFTER_MISTAKE_S = 5.0


class Step(Protocol):
    """`turn` leases, works and settles; it says whether there was anything to do."""

    async def turn(self) -> bool: ...


class Worker:
    """One step's task.

    A turn that is cut short leaves its rows leased; `Store.take_over` gives them back. What a turn that failed has left, goes back at once.
    """

    def __init__(self, queue: Queue, name: str, step: Step, store: Store, clock: Clock) -> None:
        self._queue = queue
        self._name = name
        self._step = step
        self._store = store
        self._clock = clock
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Work until `drain`."""
        while not self._stopping:
            self._idle.clear()
            try:
                busy = await self._step.turn()
                self._idle.set()
                if not busy and not self._stopping:
                    await self._wait()
            except StoreBusy as error:
                await self._clock.sleep(min(error.retry_after_s, 1.0))
                continue
            except StoreFailed:
                raise
            except Exception as error:  # a mistake of ours may not stop the others, nor go round at full speed
                log.error("turn.failed", exc_info=error, extra={"queue": self._queue, "lane": self._name})
                reason = unsettled(error)
                await retry_commit(self._clock, lambda reason=reason: self._store.take_back(self._queue, self._name, reason))  # type: ignore[misc]
                await self._clock.sleep(_AFTER_MISTAKE_S)
                continue
            finally:
                self._idle.set()

    async def _wait(self) -> None:
        due_s = await self._store.next_due_s(self._queue, self._name)
        if due_s is None or due_s > 0:
            await self._store.wait(self._queue, self._name, _LOOK_S if due_s is None else min(due_s, _LOOK_S))

    async def drain(self, timeout_s: float) -> None:
        """Begin no further turn; wait for the current one for at most `timeout_s`."""
        self._stopping = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass


async def retry_commit(clock: Clock, commit: Callable[[], Awaitable[T]]) -> T:
    """The result of a commit; a full disk is waited out, since what was done outside cannot be done again."""
    while True:
        try:
            return await commit()
        except StoreBusy:
            await clock.sleep(1.0)


def unsettled(error: BaseException) -> str:
    """Why a row is given back, for people: how its attempt ended could not be written."""
    said = str(error) if isinstance(error, GatewayError) else type(error).__name__
    return f"how the last try ended could not be written ({said}); it is tried again, and the log says more"


def now_for_ages(store: Store) -> datetime:
    """The time by which something has been tried for too long: that which has really passed, whatever the wall clock says.

    Where the wall clock is in doubt, nothing is too old.
    """
    return store.time_to_let_go() or datetime.min.replace(tzinfo=UTC)
