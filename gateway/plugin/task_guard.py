"""Async hooks, step by step, and the tasks that a connector starts by itself: what would end the process ends in the task.

asyncio lets SystemExit and KeyboardInterrupt of any task through to the loop, and so ends everything. A hook's own are caught
where the hook is called; this is for the tasks that a hook makes, by `TaskGroup`, `gather` or `create_task`. Between two awaits a hook
has the loop to itself: each such step is noted, in its tasks as well.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Steps(Protocol):
    """The recorder of the steps of one hook's call."""

    def enter(self) -> Any:
        """A step begins; what was under way before."""

    def leave(self, before: Any) -> None:
        """It is over."""


_in_hook: ContextVar[Steps | None] = ContextVar("in_hook", default=None)


@contextmanager
def inside_hook(steps: Steps) -> Iterator[None]:
    """Tasks that are made in here are a connector's."""
    token = _in_hook.set(steps)
    try:
        yield
    finally:
        _in_hook.reset(token)


@types.coroutine
def stepped(work: Awaitable[T], steps: Steps) -> Generator[Any, Any, T]:
    """Await `work` and note each of its steps."""
    going = work.__await__()
    sent: Any = None
    thrown: BaseException | None = None
    while True:
        before = steps.enter()
        try:
            waited = going.send(sent) if thrown is None else going.throw(thrown)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            steps.leave(before)
        try:
            sent, thrown = (yield waited), None
        except BaseException as error:  # a cancellation: the work's own to see
            sent, thrown = None, error


def make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **named: Any
) -> asyncio.Task[T]:
    """The loop's task factory."""
    plain, steps = cast("Coroutine[Any, Any, T]", coroutine), _in_hook.get()
    return asyncio.Task(plain if steps is None else _contain(plain, steps), loop=loop, **named)


async def _contain(coroutine: Coroutine[Any, Any, T], steps: Steps) -> T:
    try:
        return await stepped(coroutine, steps)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"a task of the connector ended with {type(error).__name__}") from error
