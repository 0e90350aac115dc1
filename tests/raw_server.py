"""The other side of our own requests: a server that answers, or does not, byte by byte as a test says."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from msgspec import Struct

Script = Callable[["Peer", asyncio.StreamWriter], Awaitable[None]]


class Heard(Struct, frozen=True):
    """One request as it came; header names in lower case, the last of a repeated one."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """Answers each request with the next of its scripts, the last one again and again."""

    def __init__(self, *scripts: bytes | Script) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self._scripts = list(scripts)
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self.tls = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls is not None
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError), closing(writer.transport):
            while True:
                self.heard.append(await _request(reader))
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                if isinstance(script, bytes):
                    writer.write(script)
                else:
                    await script(self, writer)
                if writer.is_closing():
                    break


async def _request(reader: asyncio.StreamReader) -> Heard:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8").splitlines()
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Heard(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def peer(*scripts: bytes | Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer on loopback while this is open."""
    made = Peer(*scripts)
    await made.start(tls)
    try:
        yield made
    finally:
        await made.stop()


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """A whole answer; `retry_after="5"` becomes a header."""
    lines = "".join(f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def says(data: bytes, *, then: Callable[[asyncio.StreamWriter], None] | None = None) -> Script:
    """Write this, then do that with the connection."""

    async def script(_: Peer, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then:
            then(writer)

    return script


def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silence(_: Peer, writer: asyncio.StreamWriter) -> None:
    """Take the request, and never say a word."""
    await asyncio.Event().wait()


class Certificate(Struct, frozen=True):
    """A self-signed certificate; `pem` is also what to trust."""

    pem: Path
    key: Path

    def serving(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem, self.key)
        return context


def certificate(folder: Path, *, name: str = "IP:127.0.0.1", days: int = 2) -> Certificate:
    """Make one with the `openssl` of this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    made = Certificate(folder / f"{days}.pem", folder / f"{days}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=constructed"]
    command += ["-addext", f"subjectAltName={name}", "-days", str(days), "-keyout", str(made.key), "-out", str(made.pem)]
    subprocess.run(command, check=True, capture_output=True)
    return made
