"""The loop round a step that works in turns: work while there is work, then wait until there may be some."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import StoreBusy
from gateway.store.base import Queue, Store

_LOOK_S = 5.0


class Step(Protocol):
    """`turn` leases, works and settles; it says whether there was anything to do."""

    async def turn(self) -> bool: ...


class Worker:
    """One step's task.

    A turn that is cut short leaves its rows leased; `Store.take_over` gives them back.
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
            except StoreBusy as error:
                await self._clock.sleep(min(error.retry_after_s, 1.0))
                continue
            finally:
                self._idle.set()
            if not busy and not self._stopping:
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
