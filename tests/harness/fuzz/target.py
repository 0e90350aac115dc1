"""What a fuzz target is: one parser or verifier, what it may raise, and bytes that it understands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")

LONGEST = 16 * 1024
TARGETS: dict[str, Target] = {}


class Target(Struct, frozen=True):
    """`run` returns, or raises one of `documented`; anything else is a defect.

    Attributes:
        corpus: What it understands, so that changed bytes get further than the first one.
    """

    name: str
    run: Callable[[bytes], object]
    documented: tuple[type[BaseException], ...]
    corpus: Callable[[], Iterable[bytes]]

    def feed(self, data: bytes) -> None:
        """One run. Raises whatever may not escape."""
        try:
            self.run(data)
        except self.documented:
            pass


def target(
    name: str, corpus: Callable[[], Iterable[bytes]], *documented: type[BaseException]
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    """Register a function of bytes."""

    def register(run: Callable[[bytes], object]) -> Callable[[bytes], object]:
        TARGETS[name] = Target(name, run, documented, cache(lambda: list(corpus())))
        return run

    return register


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def finish(work: Awaitable[T]) -> T:
    """The result of a coroutine that waits for nothing outside."""
    return _loop().run_until_complete(asyncio.ensure_future(work, loop=_loop()))


def text(data: bytes) -> str:
    """Any text, lone surrogates included."""
    return data.decode("utf-8", "surrogateescape")


def parts(data: bytes, count: int) -> list[bytes]:
    """So many pieces; a NUL ends each."""
    found = data.split(b"\0", count - 1)
    return found + [b""] * (count - len(found))


def is_plain(value: Any) -> bool:
    """Whether it is JSON as the rest of the gateway can carry it."""
    return value is None or isinstance(value, (str, bool, int, dict, list))
