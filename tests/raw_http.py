"""HTTP by hand: bytes over a socket, for what no HTTP library would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from msgspec import Struct


class Reply(Struct, frozen=True):
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Write; a peer that has hung up already is not our business here."""
        with suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()

    async def reply(self, timeout_s: float = 5) -> Reply | None:
        """The next answer; None where the connection is closed instead."""
        try:
            async with asyncio.timeout(timeout_s):
                head = await self.reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").splitlines()
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Reply(int(first.split()[1]), headers, body)

    async def replies(self, timeout_s: float = 5) -> list[Reply]:
        """Every answer until the other side closes."""
        found = []
        while (reply := await self.reply(timeout_s)) is not None:
            found.append(reply)
        return found

    async def closed(self, timeout_s: float = 5) -> bytes:
        """What else comes until the other side closes. Raises TimeoutError where it does not."""
        async with asyncio.timeout(timeout_s):
            with suppress(ConnectionError):
                return await self.reader.read()
        return b""

    def reset(self) -> None:
        """Hang up without a goodbye."""
        self.writer.transport.abort()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection to this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def post(body: bytes = b"", *, path: str = "/in/acme", signature: str | None = None, headers: str = "", length: int | None = None) -> bytes:
    """A whole POST as bytes; `headers` are raw lines, each with its CRLF."""
    signed = "" if signature is None else f"X-Acme-Signature: {signature}\r\n"
    sized = f"Content-Length: {len(body) if length is None else length}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: gateway\r\n{signed}{sized}{headers}\r\n".encode("latin-1") + body


async def received(running: Any, outcome: str) -> float:
    """How often `/metrics` says that the webhook door met this outcome."""
    _, text = await running.get("/metrics")
    for line in text.splitlines():
        if line.startswith("gateway_received_total") and f'door="webhook",outcome="{outcome}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0
