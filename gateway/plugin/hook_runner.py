"""Runner of a source's plain hooks, on the event loop or in a thread, so that a hook that blocks delays its own source only.

Plain hooks should take microseconds, and are cheapest on the event loop. The first calls of each kind run in a thread of the source; a
kind that has always been quick runs on the loop from then on. A kind that was slow once goes back to the thread until a reload. Only one
plain hook of a source runs at a time.

A thread cannot be killed: one whose call does not return is abandoned, and the next call gets a new thread. The crash record counts the
abandoned call as a crash on its subject. Code that holds Python's lock (a regular expression without an end) stops every thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from gateway.api.errors import TransientError
from gateway.plugin.crash_record import CrashRecord

T = TypeVar("T")

TRIALS = 20
SOON_S = 0.25
PATIENCE_S = 10.0
MOST_LEFT_BEHIND = 8

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class HookRunner:
    """Runner of one source. Its thread starts with the first call that needs it, and ends with the process or with `close`."""

    def __init__(self, crash_record: CrashRecord | None = None) -> None:
        self._crash_record = crash_record
        self._left_behind: list[threading.Thread] = []
        self._proven: dict[str, int] = {}
        self._slow: set[str] = set()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._pending = 0
        self._thread: threading.Thread | None = None

    async def run(self, kind: str, call: Callable[[], T]) -> T:
        """Run `call`, and return or raise what it does.

        Raises:
            TransientError: It or an earlier call has not returned within `PATIENCE_S`, or too many never did.
        """
        if self._pending or self._proven.get(kind, 0) < TRIALS:
            return await self._beside(kind, call)
        return self._timed(kind, call)

    def close(self) -> None:
        """End the thread after its current calls."""
        if self._thread is not None:
            self._jobs.put(None)

    __del__ = close  # the thread holds no reference to it

    async def _beside(self, kind: str, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]  # a call that returned late ended its thread
        if len(self._left_behind) >= MOST_LEFT_BEHIND:
            raise TransientError(f"{len(self._left_behind)} calls of the connector never returned; restart the gateway", retry_after_s=60.0)
        thread = self._begun()
        self._pending += 1
        answer.add_done_callback(self._answered)
        self._jobs.put((partial(self._timed, kind, call), answer, loop))
        done, _ = await asyncio.wait([answer], timeout=PATIENCE_S)
        if done:
            return answer.result()
        answer.cancel()
        if thread is self._thread:
            self._leave_behind(thread)
        raise TransientError(f"the connector did not return within {PATIENCE_S:.0f} s")

    def _leave_behind(self, thread: threading.Thread) -> None:
        self._left_behind.append(thread)
        self._jobs.put(None)
        self._jobs, self._thread = SimpleQueue(), None
        if self._crash_record is not None and thread.ident is not None:
            self._crash_record.give_up(thread.ident)

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if not answer.cancelled():
            answer.exception()  # its caller may have stopped waiting

    def _timed(self, kind: str, call: Callable[[], T]) -> T:
        began = perf_counter()
        try:
            return call()
        finally:
            if perf_counter() - began > SOON_S:
                self._slow.add(kind)
            self._proven[kind] = 0 if kind in self._slow else self._proven.get(kind, 0) + 1

    def _begun(self) -> threading.Thread:
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=[self._jobs], name="hooks", daemon=True)
            self._thread.start()
        return self._thread


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        call, answer, loop = job
        if answer.cancelled():
            continue
        result: Any = None
        problem: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # the connector's error goes to the caller; the thread goes on
            problem = error
        try:
            loop.call_soon_threadsafe(_give, answer, result, problem)
        except RuntimeError:  # the loop is closed
            return
        del job, call, answer, result, problem  # an idle thread keeps nothing alive


def _give(answer: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if answer.done():
        return
    if problem is None:
        answer.set_result(result)
    else:
        answer.set_exception(problem)
