"""What every listener does with what arrives, before it knows what it is: its path, its body within bounds, its pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from gateway.config.settings import HttpSettings
from gateway.edge.connections import connection_of

BODY_TIMEOUT_S = HttpSettings().body_timeout_s
COMMIT_TIMEOUT_S = 3.0
_SELDOM_S = 60.0
_MOST_NAMES = 1000


class TooLong(Exception):
    """A body over the limit."""


class NoRoom(Exception):
    """All that is unfinished is too large together, and this was the largest of whoever sent most."""


def path_of(request: web.BaseRequest) -> str:
    """The path as it was sent, nothing in it decoded."""
    return request.raw_path.partition("?")[0] if request.raw_path.startswith("/") else request.path


async def read_body(request: web.BaseRequest, limit: int, timeout_s: float) -> bytes:
    """The body, of which no more than the limit is read.

    Raises:
        TooLong: It says that it is longer, or is.
        NoRoom: It had to go for others.
        TimeoutError: It does not come; the connection is of no further use.
        ConnectionError, web.RequestPayloadError: It breaks off.
    """
    try:
        said = request.content_length
    except ValueError:  # thousands of zeros, which the parser takes and `int` does not
        said = limit + 1
    if said is not None and said > limit:
        raise TooLong
    content = request.content
    if content.is_eof() and content.total_bytes <= limit:
        return content.read_nowait()
    connection = connection_of(request)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s) as scope:
            if connection is not None:
                connection.enter("reading", scope)
            while chunk := await content.readany():
                body += chunk
                if len(body) > limit:
                    raise TooLong
    except TimeoutError:
        if connection is not None and connection.cut:
            raise NoRoom from None
        raise
    if connection is not None:
        connection.enter("answering")
    return bytes(body)


class LogThrottle:
    """For what strangers can cause as often as they like: one line a minute, with how many there were."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._told: dict[str, tuple[int, float]] = {}

    def since_last(self, name: str) -> int | None:
        """Count one more; how many since the last line where it is time for one."""
        if len(self._told) > _MOST_NAMES:
            self._told.clear()
        count, at = self._told.get(name, (0, -_SELDOM_S))
        if self._monotonic() - at < _SELDOM_S:
            self._told[name] = (count + 1, at)
            return None
        self._told[name] = (0, self._monotonic())
        return count + 1
