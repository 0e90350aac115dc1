"""Limits of a request that hold for every listener, before its content is known: its path, its body, its log lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from aiohttp import StreamReader, web

from gateway.config.settings import HttpSettings
from gateway.edge.connections import connection_of

BODY_TIMEOUT_S = HttpSettings().body_timeout_s
COMMIT_TIMEOUT_S = 3.0
_LINE_EVERY_S = 60.0
_MOST_NAMES = 1000

BodyProblem = Literal["too_long", "slow_body", "broken_body", "unfinished_bodies"]
_STATUS: dict[BodyProblem, int] = {"too_long": 413, "slow_body": 408, "broken_body": 400, "unfinished_bodies": 503}


class BodyError(Exception):
    """Body that was not read whole; its connection is of no further use.

    Attributes:
        kind: `unfinished_bodies` if it had to make room for others, being the largest of the address that sent most.
        status: Answer to the sender.
    """

    def __init__(self, kind: BodyProblem) -> None:
        super().__init__(kind)
        self.kind = kind
        self.status = _STATUS[kind]


def path_of(request: web.BaseRequest) -> str:
    """Return the path as it was sent, with nothing in it decoded."""
    return request.raw_path.partition("?")[0] if request.raw_path.startswith("/") else request.path


async def read_body(request: web.BaseRequest, limit: int, timeout_s: float) -> bytes:
    """Return the body, and read no more than `limit` bytes of it. Raises BodyError."""
    try:
        declared = request.content_length
    except ValueError:  # thousands of zeros, which the parser takes and `int` does not
        declared = limit + 1
    if declared is not None and declared > limit:
        raise BodyError("too_long")
    content = request.content
    if content.is_eof() and content.total_bytes <= limit:
        return content.read_nowait()
    connection = connection_of(request)
    try:
        async with asyncio.timeout(timeout_s) as scope:
            if connection is not None:
                connection.enter("reading", scope)
            body = await _read_up_to(limit, content)
    except TimeoutError:
        if connection is not None and connection.cut:
            raise BodyError("unfinished_bodies") from None
        if request.transport:
            request.transport.abort()
        raise BodyError("slow_body") from None
    except (ConnectionError, web.RequestPayloadError):
        raise BodyError("broken_body") from None
    if connection is not None:
        connection.enter("answering")
    return body


async def _read_up_to(limit: int, content: StreamReader) -> bytes:
    body = bytearray()
    while chunk := await content.readany():
        body += chunk
        if len(body) > limit:
            raise BodyError("too_long")
    return bytes(body)


class LogThrottle:
    """Limit of one log line a minute, with a count, for what a sender can cause as often as it likes."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lines: dict[str, tuple[int, float]] = {}

    def since_last(self, name: str) -> int | None:
        """Count one more. Return how many there were since the last line, if it is time for one."""
        if len(self._lines) > _MOST_NAMES:
            self._lines.clear()
        count, at = self._lines.get(name, (0, -_LINE_EVERY_S))
        if self._monotonic() - at < _LINE_EVERY_S:
            self._lines[name] = (count + 1, at)
            return None
        self._lines[name] = (0, self._monotonic())
        return count + 1
