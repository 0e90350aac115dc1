"""Tasks that a connector starts by itself: what would end the process ends in the task.

asyncio lets SystemExit and KeyboardInterrupt of any task through to the loop, and so ends everything. A hook's own are caught
where the hook is called; this is for the tasks that a hook makes, by `TaskGroup`, `gather` or `create_task`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

T = TypeVar("T")
_in_hook: ContextVar[bool] = ContextVar("in_hook", default=False)


@contextmanager
def inside_hook() -> Iterator[None]:
    """Tasks that are made in here are a connector's."""
    token = _in_hook.set(True)
    try:
        yield
    finally:
        _in_hook.reset(token)


def make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **named: Any
) -> asyncio.Task[T]:
    """The loop's task factory."""
    plain = cast("Coroutine[Any, Any, T]", coroutine)
    return asyncio.Task(_contain(plain) if _in_hook.get() else plain, loop=loop, **named)


async def _contain(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"a task of the connector ended with {type(error).__name__}") from error
