"""Where the plain hooks of a source run, so that one that blocks holds up its own source only.

Plain hooks think, and take microseconds: on the event loop they cost least. Whether a connector keeps to that is seen by trying: the first
calls of each kind run in a thread of the source's own, and one that has always come back soon runs on the loop from then on. A kind
that once did not goes back into the thread, and stays there until a reload. Only one plain hook of a source runs at a time, wherever.

A thread cannot be killed, and code that keeps Python's lock (a regular expression without an end) stops everybody from any thread:
what a thread gives is time for the others, and a limit for whoever waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from gateway.errors import TransientError

T = TypeVar("T")

TRIALS = 20
SOON_S = 0.25
PATIENCE_S = 10.0

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Confined:
    """One source's. Its thread begins with the first call that needs it, and ends with the process or with `close`."""

    def __init__(self) -> None:
        self._proven: dict[str, int] = {}
        self._slow: set[str] = set()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._pending = 0
        self._thread: threading.Thread | None = None

    async def run(self, kind: str, call: Callable[[], T]) -> T:
        """What `call` returns or raises.

        Raises:
            TransientError: It, or one before it, has not come back within `PATIENCE_S`.
        """
        if self._pending or self._proven.get(kind, 0) < TRIALS:
            return await self._beside(kind, call)
        began = perf_counter()
        try:
            return call()
        finally:
            self._judge(kind, perf_counter() - began)

    def close(self) -> None:
        """End the thread once it has done what it has begun."""
        if self._thread is not None:
            self._jobs.put(None)

    async def _beside(self, kind: str, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def timed() -> T:
            began = perf_counter()
            try:
                return call()
            finally:
                self._judge(kind, perf_counter() - began)

        self._begin()
        self._pending += 1
        answer.add_done_callback(self._answered)
        self._jobs.put((timed, answer, loop))
        done, _ = await asyncio.wait([answer], timeout=PATIENCE_S)
        if not done:
            raise TransientError(f"the connector does not come back within {PATIENCE_S:.0f} s", retry_after_s=30.0)
        return answer.result()

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if not answer.cancelled():
            answer.exception()  # nobody may be waiting any more

    def _judge(self, kind: str, took_s: float) -> None:
        if took_s > SOON_S:
            self._slow.add(kind)
        self._proven[kind] = 0 if kind in self._slow else self._proven.get(kind, 0) + 1

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hooks", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, answer, loop = job
            result: Any = None
            problem: BaseException | None = None
            try:
                result = call()
            except BaseException as error:  # each is an answer of the connector's, and none is this thread's
                problem = error
            try:
                loop.call_soon_threadsafe(_give, answer, result, problem)
            except RuntimeError:  # the loop is closed: nobody waits
                return


def _give(answer: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if answer.done():
        return
    if problem is None:
        answer.set_result(result)
    else:
        answer.set_exception(problem)
