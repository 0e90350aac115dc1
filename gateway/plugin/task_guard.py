"""Guard for the tasks that a hook creates, and a recorder of its steps.

asyncio passes SystemExit and KeyboardInterrupt of any task to the loop, which ends the process. `hook_guard.py` catches those of a hook
itself; this module catches those of the tasks that it creates with `TaskGroup`, `gather` or `create_task`. Between two awaits a
hook has the loop to itself: each such step is recorded, in its tasks, too.
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
    """Recorder of the steps of one call of a hook."""

    def enter(self) -> Any:
        """Record that a step begins; return the step that ran before."""

    def leave(self, before: Any) -> None:
        """Record that the step is over."""


_in_hook: ContextVar[Steps | None] = ContextVar("in_hook", default=None)


@contextmanager
def inside_hook(steps: Steps) -> Iterator[None]:
    """Guard the tasks that are created in this context."""
    token = _in_hook.set(steps)
    try:
        yield
    finally:
        _in_hook.reset(token)


@types.coroutine
def stepped(work: Awaitable[T], steps: Steps) -> Generator[Any, Any, T]:
    """Await `work` and record each of its steps."""
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
        except BaseException as error:  # a cancellation, which the work must see
            sent, thrown = None, error


def make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **named: Any
) -> asyncio.Task[T]:
    """Create a task; this is the loop's task factory."""
    plain, steps = cast("Coroutine[Any, Any, T]", coroutine), _in_hook.get()
    return asyncio.Task(plain if steps is None else _contain(plain, steps), loop=loop, **named)


async def _contain(coroutine: Coroutine[Any, Any, T], steps: Steps) -> T:
    try:
        return await stepped(coroutine, steps)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"a task of the connector ended with {type(error).__name__}") from error
