"""A SignalR hub that can send any frame and break in any way: raw asyncio streams, JSON hub protocol over WebSockets.

Alone it is `python -m gateway.testing.hub`, with commands as in `control.py`. It follows Microsoft's TransportProtocols.md and
HubProtocol.md (github.com/dotnet/aspnetcore, docs/specs, read 2026-11-24), and `@microsoft/signalr` is its judge
(tests/edge/test_signalr_node.py). It keeps every request, handshake, ping and pong.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from gateway.testing.hub.frames import BINARY, CLOSE, PING, PONG, TEXT, accept_key, frame, read_frame

END = b"\x1e"
_LARGE = 100_000
_FRAMES_AT_ONCE = 100
Where = Literal["negotiate", "upgrade", "any"]
Mute = Literal["connect", "negotiate", "upgrade", "handshake", "half_header", "half_frame"]


def record(message: object) -> bytes:
    """Encode a hub message with its separator."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode() + END


def invocation(target: str, *arguments: object) -> bytes:
    """Encode the invocation of a client's method."""
    return record({"type": 1, "target": target, "arguments": list(arguments)})


class Heard(Struct, frozen=True):
    """Received request; header names in lower case."""

    where: Where
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Refusal(Struct, kw_only=True):
    """An answer other than the right one, for the next `times` requests."""

    where: Where
    status: int
    times: int
    body: bytes
    headers: dict[str, str]


class Line:
    """Upgraded connection, with all that the client sent on it."""

    def __init__(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = heard
        self.id = heard.query.get("id")
        self.reader = reader
        self.writer = writer
        self.handshake: dict[str, Any] | None = None
        self.online = False
        self.pings: list[float] = []
        self.pongs: list[bytes] = []
        self.records: list[bytes] = []
        self.close_code: int | None = None
        self.over = asyncio.Event()

    async def write(self, raw: bytes) -> None:
        """Send any bytes, unless the connection is gone."""
        with suppress(ConnectionError):
            self.writer.write(raw)
            await self.writer.drain()

    def fin(self) -> None:
        """End the TCP connection, without a word."""
        self.writer.transport.abort() if self.writer.get_extra_info("ssl_object") else self.writer.close()

    def rst(self) -> None:
        """Reset the TCP connection."""
        made = self.writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class FaultHub:
    """A hub on loopback. What is set on it holds for the connections that come after.

    Args:
        key: The credential, on negotiate and upgrade; without it, 401. None asks for nothing.
        key_in: `header:NAME`, `query:NAME` or `bearer`.
        ping_s: Between two pings of the hub; 0 never pings.
        client_timeout_s: A client that is silent for so long is sent away, timed from the handshake.

    Attributes:
        versions: Which `negotiateVersion` it answers; 0 is a request without one.
        negotiate_body: Answered in place of the right answer.
        redirect: URL and access token that negotiate answers with.
        cookie: Set by negotiate, and wanted by the upgrade.
        mute: Where it stops talking, for ever.
        delays_s: Before it answers, by where.
        handshake: Its answer to the handshake.
        welcome: Records in the same frame as that answer.
        then: Done with each connection right after the handshake.
    """

    def __init__(
        self,
        *,
        path: str = "/hub",
        key: str | None = None,
        key_in: str = "header:x-api-key",
        ping_s: float = 15,
        client_timeout_s: float = 30,
    ) -> None:
        self.path = path
        self.key = key
        self.key_in = key_in
        self.ping_s = ping_s
        self.client_timeout_s = client_timeout_s
        self.versions: tuple[int, ...] = (0, 1)
        self.negotiate_body: bytes | None = None
        self.redirect: tuple[str, str] | None = None
        self.cookie: str | None = None
        self.mute: Mute | None = None
        self.delays_s: dict[str, float] = {}
        self.handshake: bytes = b"{}" + END
        self.welcome: Sequence[bytes] = ()
        self.then: Callable[[Line], Awaitable[None]] | None = None
        self.heard: list[Heard] = []
        self.lines: list[Line] = []
        self.connections = 0
        self.port = 0
        self._tls: ssl.SSLContext | None = None
        self._refusals: list[Refusal] = []
        self._ids: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._stopped = False

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen; after a `stop` on the same port again, where none is given."""
        self._tls = tls or self._tls
        self._stopped = False
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port or self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop as a killed process does: TCP ends without a Close message and without a close frame."""
        self._stopped = True
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for line in self.live:
            line.fin()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}{self.path}"

    @property
    def live(self) -> list[Line]:
        """The connections that are past their handshake and not over."""
        return [line for line in self.lines if line.online and not line.over.is_set()]

    def refuse(self, where: Where, status: int, *, times: int = 1, body: bytes = b"", **headers: str) -> None:
        """Answer the next requests like this; `retry_after="5"` is a header."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        self._refusals.append(Refusal(where=where, status=status, times=times, body=body, headers=named))

    def accept_again(self) -> None:
        """Refuse nothing more."""
        self._refusals.clear()

    async def send(self, target: str, *arguments: object) -> None:
        """Invoke a method of every connected client."""
        await self.write(frame(invocation(target, *arguments)))

    async def burst(self, count: int, per_frame: int, target: str, make: Callable[[int], Sequence[object]]) -> None:
        """Send many invocations, encoded before the first byte is written."""
        frames = []
        for n in range(0, count, per_frame):
            frames.append(frame(b"".join(invocation(target, *make(one)) for one in range(n, min(n + per_frame, count)))))
            if n % _FRAMES_AT_ONCE < per_frame or len(frames[-1]) > _LARGE:
                await asyncio.sleep(0)  # pings go on
        for n in range(0, len(frames), _FRAMES_AT_ONCE):
            await self.write(b"".join(frames[n : n + _FRAMES_AT_ONCE]))

    async def write(self, raw: bytes) -> None:
        """Send any bytes to every connected client."""
        await asyncio.gather(*(line.write(raw) for line in self.live))

    async def close(self, error: str | None = None, allow_reconnect: bool | None = None, code: int | None = 1000) -> None:
        """Send a Close message; with `code` None, neither the WebSocket's close frame nor the end of TCP follows."""
        said: dict[str, object] = {"type": 7}
        if error is not None:
            said["error"] = error
        if allow_reconnect is not None:
            said["allowReconnect"] = allow_reconnect
        for line in self.live:
            await line.write(frame(record(said)))
            if code is not None:
                await line.write(frame(struct.pack(">H", code), CLOSE))
                line.fin()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait for what clients do. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what clients do has no event
                await asyncio.sleep(0.005)

    # --- connections

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopped:  # accepted in the moment of the end
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.mute == "connect":
                await asyncio.Event().wait()
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request; whether the connection is good for another."""
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
        said = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        upgrade = headers.get("upgrade", "").lower() == "websocket"
        heard = Heard("upgrade" if upgrade else "negotiate", method, parts.path, query, headers)
        if parts.path.startswith("/control/"):
            status, body = await self.control(heard, said)
            return await self._say(writer, status, body, {"Content-Type": "application/json"})
        self.heard.append(heard)
        await asyncio.sleep(self.delays_s.get(heard.where, 0))
        if self.mute == heard.where:
            await asyncio.Event().wait()
        status, body, more = self._answer(heard)
        if self.mute == "half_header" and upgrade:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgr")
            await asyncio.Event().wait()
        if status == 101 and not more:
            await self._upgraded(heard, reader, writer)
            return False
        return await self._say(writer, status, body, more) and not upgrade

    async def _say(self, writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str]) -> bool:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
        await writer.drain()
        return True

    async def control(self, heard: Heard, body: bytes) -> tuple[int, bytes]:
        """Answer a request under `/control/`; see `hub.control`."""
        return 404, b""

    def _answer(self, heard: Heard) -> tuple[int, bytes, dict[str, str]]:
        for refusal in self._refusals:
            if refusal.where in ("any", heard.where) and refusal.times > 0:
                refusal.times -= 1
                return refusal.status, refusal.body, refusal.headers
        if heard.path != (self.path if heard.where == "upgrade" else f"{self.path}/negotiate"):
            return 404, b"", {}
        if not self._is_genuine(heard):
            return 401, b"", {}
        return self._upgrade(heard) if heard.where == "upgrade" else self._negotiate(heard)

    def _is_genuine(self, heard: Heard) -> bool:
        if self.key is None:
            return True
        where, _, name = self.key_in.partition(":")
        if where == "bearer":
            return self.key in (heard.headers.get("authorization", "").removeprefix("Bearer "), heard.query.get("access_token"))
        return self.key == (heard.headers.get(name.lower()) if where == "header" else heard.query.get(name))

    def _negotiate(self, heard: Heard) -> tuple[int, bytes, dict[str, str]]:
        version = int(heard.query.get("negotiateVersion", "0"))
        if heard.method != "POST":
            return 405, b"", {}
        if version not in self.versions:
            return 400, b"", {}
        if self.negotiate_body is not None:
            return 200, self.negotiate_body, {}
        if self.redirect is not None:
            url, token = self.redirect
            return 200, json.dumps({"url": url, "accessToken": token}).encode(), {}
        token = secrets.token_urlsafe(16)  # Microsoft's client puts it into the address as it is
        self._ids.add(token)
        said: dict[str, object] = {"availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]}
        if version:
            said |= {"negotiateVersion": version, "connectionId": "not-this-one", "connectionToken": token}
        else:
            said["connectionId"] = token
        cookie = {"Set-Cookie": f"{self.cookie}; path=/"} if self.cookie else {}
        return 200, json.dumps(said).encode(), {"Content-Type": "application/json", **cookie}

    def _upgrade(self, heard: Heard) -> tuple[int, bytes, dict[str, str]]:
        id = heard.query.get("id")
        if id is not None and id not in self._ids:
            return 404, b"No Connection with that ID", {}
        if self.cookie and self.cookie not in heard.headers.get("cookie", "").split("; "):
            return 404, b"another server's", {}
        self._ids.discard(id or "")
        return 101, b"", {}

    # --- one line

    async def _upgraded(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accept = accept_key(heard.headers["sec-websocket-key"])
        head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        writer.write(head.encode())
        line = Line(heard, reader, writer)
        self.lines.append(line)
        pinging: asyncio.Task[None] | None = None
        try:
            said = bytearray()
            while END not in said:
                _, payload = await read_frame(reader)
                said += payload
            line.handshake = json.loads(said.partition(END)[0])
            await asyncio.sleep(self.delays_s.get("handshake", 0))
            if self.mute == "handshake":
                await asyncio.Event().wait()
            await line.write(frame(self.handshake + b"".join(self.welcome)))
            line.online = True
            if self.ping_s:
                pinging = asyncio.create_task(self._ping(line))
            if self.mute == "half_frame":
                await line.write(frame(record({"type": 6}) * 50)[:100])
                pinging = pinging and (pinging.cancel(), None)[1]
            if self.then is not None:
                await self.then(line)
            await self._listen(line)
        finally:
            line.over.set()
            if pinging is not None:
                pinging.cancel()

    async def _ping(self, line: Line) -> None:
        while True:
            await asyncio.sleep(self.ping_s)
            await line.write(frame(record({"type": 6})))

    async def _listen(self, line: Line) -> None:
        while True:
            try:
                async with asyncio.timeout(self.client_timeout_s):
                    opcode, payload = await read_frame(line.reader)
            except TimeoutError:
                await self.close("Connection closed with an error.", True)
                return
            if opcode == CLOSE:
                line.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
                await line.write(frame(payload[:2], CLOSE))
                return
            if opcode == PING:
                await line.write(frame(payload, PONG))
            elif opcode == PONG:
                line.pongs.append(payload)
            for one in filter(None, payload.split(END)) if opcode in (TEXT, BINARY) else ():
                if json.loads(one) == {"type": 6}:
                    line.pings.append(time.monotonic())
                else:
                    line.records.append(one)
