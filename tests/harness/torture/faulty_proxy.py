"""A network that breaks: a TCP proxy on loopback which treats each connection as one of 14 kinds of fault says (reliability.md 3).

TLS ends here, so that every kind happens inside of it, and a wrong certificate is only one more kind.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.raw_server import Certificate, certificate

KINDS = (
    "refused",
    "reset",
    "blackhole",
    "slow connect",
    "slow bytes",
    "cut before the body",
    "cut inside the body",
    "reply lost",
    "429",
    "5xx",
    "wrong content",
    "redirect",
    "TLS",
    "DNS",
)
END = b"\r\n\r\n"
HELLO = b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00"
PAGE = b"<!DOCTYPE html><html><title>Sign in</title><form method=post><input name=user></form></html>"
_CHUNK = 65536


class Identity:
    """What a proxy shows in TLS handshakes: a certificate that is trusted, and another one."""

    def __init__(self, folder: Path, names: str) -> None:
        self.trusted: Certificate = certificate(folder, name=names)
        self.serving = self.trusted.serving()
        self.posing = certificate(folder, name=names, days=3).serving()


class Proxy:
    """In front of one listener; `begin(kind)` ends what is open, and every connection after it meets the fault until `end()`.

    Args:
        upstream: The port behind it.
        identity: None: plain TCP, from senders to us; then what is wrong is what they send.
        elsewhere: Where redirects point to.

    Attributes:
        met: How many connections met the fault that began last; of some, four in ten are spared.
    """

    def __init__(
        self, upstream: Callable[[], int], dice: Random, *, elsewhere: Callable[[], str], identity: Identity | None = None
    ) -> None:
        self.port = 0
        self.kind: str | None = None
        self.met = 0
        self._share = 1.0
        self._upstream = upstream
        self._dice = dice
        self._identity = identity
        self._elsewhere = elsewhere
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http{'s' if self._identity else ''}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def begin(self, kind: str) -> None:
        assert kind in KINDS, kind
        self.kind, self.met, self._share = kind, 0, self._dice.choice((1.0, 0.6))
        if kind == "refused":
            await self.stop()
        await self.cut()

    async def end(self) -> None:
        """Connections from now on are well; those that met the fault go on with it."""
        self.kind = None
        if self._server is None:
            await self.start()

    async def cut(self) -> None:
        """End everything that is open."""
        tasks = dict(self._open)
        for task, writer in tasks.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = self.kind if self._dice.random() < self._share else None
        task = asyncio.create_task(self._serve(reader, writer, kind), name="proxy")
        self._open[task] = writer
        task.add_done_callback(lambda done: self._open.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str | None) -> None:
        self.met += kind is not None
        try:
            if kind == "slow connect":
                await asyncio.sleep(self._dice.uniform(0.05, 1.2))
            if self._identity is not None and not await self._shake_hands(writer, kind):
                return
            await self._carry(reader, writer, kind)
        except (OSError, EOFError, ssl.SSLError, asyncio.LimitOverrunError):
            pass  # somebody hung up, as people do here
        finally:
            writer.transport.abort()

    async def _shake_hands(self, writer: asyncio.StreamWriter, kind: str | None) -> bool:
        """Whether there is TLS now."""
        assert self._identity is not None
        shown = self._identity.serving
        if kind == "TLS":
            how = self._dice.choice(("stranger", "plain", "gone"))
            shown = self._identity.posing
            if how != "stranger":
                if how == "plain":
                    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    await writer.drain()
                    writer.close()
                    await asyncio.sleep(0.05)
                return False
        await writer.start_tls(shown)
        writer.transport.get_protocol()._over_ssl = True  # type: ignore[attr-defined]  # 3.11 forgets it, and warns at the end of each
        return True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str | None) -> None:
        match kind:
            case "blackhole":
                while await reader.read(_CHUNK):
                    pass
            case "reset" if self._dice.random() < 0.5:
                await reader.read(1)
                _reset(writer)
            case "wrong content" if self._identity is None:
                await self._forward(reader, writer, kind)
            case "429" | "5xx" | "wrong content" | "redirect":
                await self._answer(reader, writer, kind)
            case _:
                await self._forward(reader, writer, kind)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> None:
        """Something between the two answers, in one case of three after the request has had its effect."""
        asked = await _message(reader)
        if kind == "5xx" and self._dice.random() < 0.3:
            back, forth = await asyncio.open_connection("127.0.0.1", self._upstream())
            forth.write(asked)
            await back.read(1)
            forth.transport.abort()
        writer.write(self._said(kind))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def _said(self, kind: str) -> bytes:
        match kind:
            case "429":
                status, more, body = 429, "Retry-After: 1\r\n", b"{}"
            case "redirect":
                status, more, body = self._dice.choice((301, 302, 303, 307, 308)), f"Location: {self._elsewhere()}\r\n", b""
            case "wrong content":
                status, more, body = 200, "Content-Type: text/html\r\n", PAGE
            case _:
                status, more, body = self._dice.choice((500, 502, 503, 504)), "Content-Type: text/html\r\n", b"<html>oops</html>"
        return f"HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str | None) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._upstream())
        if kind == "TLS":  # from a plain side: whoever is behind us hears TLS
            forth.write(HELLO)
        if kind == "wrong content":  # on its way to us: the same request with something else in it
            head, _, body = (await _message(reader)).partition(END)
            forth.write(head + END + (PAGE * (len(body) // len(PAGE) + 1))[: len(body)])
        pace = self._dice.choice((1, 16, 64)) if kind == "slow bytes" else 0
        # What is still under way when its sender gives up is lost: no `settle_s` of a look-up would outlast these seconds else.
        there = asyncio.create_task(_pump(reader, forth, pace, ends=lambda: pace > 0 and reader._eof), name="proxy there")  # type: ignore[attr-defined]
        try:
            if kind in ("cut before the body", "cut inside the body", "reply lost", "reset"):
                await self._cut_off(back, writer, kind)
            else:
                await _pump(back, writer, pace)
        finally:
            there.cancel()
            forth.transport.abort()
            await asyncio.gather(there, return_exceptions=True)

    async def _cut_off(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> None:
        """The request arrived and had its effect; what is said about it does not arrive, or not whole."""
        if kind in ("reply lost", "reset"):
            await back.read(1)
        else:
            head = await back.readuntil(END)
            if kind == "cut before the body":
                head = head[: self._dice.randrange(1, len(head) + 1)]
            else:
                head += (await back.read(_CHUNK))[: self._dice.randrange(1, 12)]
            writer.write(head)
            await writer.drain()
        if kind == "reset":
            _reset(writer)
        else:
            writer.close()
            await asyncio.sleep(0.01)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: int, ends: Callable[[], bool] = lambda: False) -> None:
    """Carry until one side ends it; with a `pace`, so many bytes every few milliseconds."""
    while (data := await reader.read(pace or _CHUNK)) and not ends():
        writer.write(data)
        await writer.drain()
        if pace:
            await asyncio.sleep(0.003)
    with suppress(OSError):
        writer.write_eof() if writer.can_write_eof() else writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One whole request."""
    head = await reader.readuntil(END)
    lengths = [line.partition(b":")[2] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)


def _reset(writer: asyncio.StreamWriter) -> None:
    made = writer.get_extra_info("socket")
    if made is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
