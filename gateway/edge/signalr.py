"""Session with a SignalR hub: one try, from negotiation to its end. Only this file knows the hub protocol.

The WebSocket is aiohttp's, through `outbound`; handshake and message classes are signalrcore's. The gateway invokes nothing.
Sources: TransportProtocols.md and HubProtocol.md (github.com/dotnet/aspnetcore, docs/specs), and tests of Microsoft's hub.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Protocol

import aiohttp
import msgspec
from msgspec import Raw, Struct
from signalrcore.messages.close_message import CloseMessage  # type: ignore[import-untyped]
from signalrcore.messages.invocation_message import InvocationMessage  # type: ignore[import-untyped]
from signalrcore.messages.message_type import MessageType  # type: ignore[import-untyped]
from signalrcore.messages.ping_message import PingMessage  # type: ignore[import-untyped]
from signalrcore.protocol.json_hub_protocol import JsonHubProtocol  # type: ignore[import-untyped]
from signalrcore.types import RECORD_SEPARATOR  # type: ignore[import-untyped]

from gateway.api.errors import PermanentError, TransientError, without_input
from gateway.api.subscription import Subscription
from gateway.clock import Clock
from gateway.edge.negotiation import Negotiation, status_error
from gateway.edge.reconnect import Disconnected
from gateway.edge.tasks import run_together
from gateway.outbound.session import Unanswered, Unreached, Untrusted
from gateway.outbound.websocket import BadFrame, Broken, Closed, NoUpgrade, WebSocket, upgrade

_SEPARATOR = RECORD_SEPARATOR.encode()
_SEVERAL = 2  # a WebSocket message holds several records
_LONGEST_TEXT = 200
_MOST_BROKEN = 100
_protocol = JsonHubProtocol(version=1)
_PING: str = _protocol.encode(PingMessage())


class HubListener(Protocol):
    """Receiver of a session's events. `on_connected` and `on_activity` return at once."""

    def on_connected(self) -> None:
        """Note that the handshake is done: every later event arrives."""

    def on_activity(self) -> None:
        """Note that the hub has sent something, if only a ping."""

    async def on_call(self, target: str, arguments: bytes) -> None:
        """Take one call, with its arguments as the JSON received; wait while there is no room."""

    async def on_bad_record(self, record: bytes, reason: str) -> None:
        """Take one bad record as received; wait while there is no room."""


class NullListener:
    """Listener that ignores everything."""

    def on_connected(self) -> None: ...
    def on_activity(self) -> None: ...
    async def on_call(self, target: str, arguments: bytes) -> None: ...
    async def on_bad_record(self, record: bytes, reason: str) -> None: ...


class _Wire(Struct):
    type: int | None = None
    target: Raw = Raw(b"null")
    arguments: Raw = Raw(b"[]")
    error: Raw = Raw(b"null")
    allowReconnect: Raw = Raw(b"null")


class _Call(Struct, frozen=True):
    """Invocation as every hub writes it, for speed; `decode` reads anything else."""

    type: Literal[1]
    target: str
    arguments: Raw = Raw(b"[]")


_decoder = msgspec.json.Decoder(_Wire)
_call = msgspec.json.Decoder(_Call)


class Session:
    """Connection to a hub, for one try.

    Args:
        http: HTTP session opened with `upgrades`; its cookies are cleared at the start.
    """

    def __init__(self, subscription: Subscription, listener: HubListener, http: aiohttp.ClientSession, clock: Clock) -> None:
        self._subscription = subscription
        self._listener = listener
        self._http = http
        self._clock = clock
        self._negotiation = Negotiation(subscription, http, clock)
        self._rest = b""
        self._broken = 0
        self._waiting_since = math.inf

    async def run(self) -> None:
        """Connect and listen. A cancellation closes the connection within a second or so.

        Raises:
            Disconnected: Always.
        """
        try:
            async with self._open() as socket:
                await self._live(socket)
        except Disconnected as ended:
            raise ended.without(self._negotiation.secrets) from ended.__cause__

    async def probe(self) -> Disconnected | None:
        """Connect and close; return the error, or None."""
        try:
            async with self._open():
                return None
        except Disconnected as ended:
            return ended.without(self._negotiation.secrets)

    async def _live(self, socket: WebSocket) -> None:
        self._listener.on_connected()
        parts = {"read": self._read(socket), "ping": self._ping(socket), "watch": self._watch()}
        tasks = [asyncio.create_task(part, name=f"hub {name}") for name, part in parts.items()]
        await run_together(tasks)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[WebSocket]:
        socket: WebSocket | None = None
        try:
            try:
                async with asyncio.timeout(self._subscription.connect_timeout_s):
                    socket = await self._connect()
                    await self._handshake(socket)
            except TimeoutError as error:
                raise Disconnected("no_answer", f"not online within {self._subscription.connect_timeout_s:g} s") from error
            yield socket
        finally:
            if socket is not None:
                await socket.close()

    async def _connect(self) -> WebSocket:
        self._http.cookie_jar.clear()
        try:
            url, headers = await self._negotiation.run()
            most = self._subscription.max_message_bytes * _SEVERAL
            return await upgrade(self._http, url, headers=headers, max_message_bytes=most)
        except NoUpgrade as error:
            raise status_error(error.status, error.headers, self._clock.now()) from error
        except Untrusted as error:
            raise Disconnected("untrusted", str(error)) from error
        except Unreached as error:
            raise Disconnected("unreachable", str(error)) from error
        except Unanswered as error:
            raise Disconnected("no_answer", str(error)) from error
        except PermanentError as error:
            raise Disconnected("not_a_hub", str(error)) from error

    async def _handshake(self, socket: WebSocket) -> None:
        try:
            await socket.send(_protocol.encode(_protocol.handshake_message()))
            answer = b""
            while _SEPARATOR not in answer:
                answer += await socket.receive()
                self._check_length(answer.partition(_SEPARATOR)[0])
        except (TransientError, PermanentError) as error:
            raise _disconnected(error) from error
        first, _, self._rest = answer.partition(_SEPARATOR)
        try:
            is_record = _decoder.decode(first).type is not None
            response, _ = _protocol.decode_handshake(first.decode() + RECORD_SEPARATOR)
        except Exception as error:  # whatever an answer of another kind makes signalrcore do
            raise Disconnected("not_a_hub", "the answer to the handshake is not a hub's") from error
        if is_record:
            raise Disconnected("not_a_hub", "the hub sends a record in place of the answer to the handshake")
        if response.error:
            raise Disconnected("not_a_hub", f"it refuses the handshake: {printable(response.error)}")

    async def _ping(self, socket: WebSocket) -> None:
        """Send pings at all times: a hub drops a silent client."""
        while True:
            try:
                async with asyncio.timeout(self._subscription.connect_timeout_s):
                    await socket.send(_PING)
            except TimeoutError as error:
                raise Disconnected("broken", "the hub does not read") from error
            except TransientError:
                return  # the connection is gone; the reader takes what has still come, then finds the end
            await asyncio.sleep(self._subscription.keep_alive_s)

    async def _read(self, socket: WebSocket) -> None:
        time = asyncio.get_running_loop().time
        await self._records(b"")
        while True:
            # Time only the receiving: while the listener has no room, the hub is not silent.
            self._waiting_since = time()
            try:
                data = await socket.receive()
            except (TransientError, PermanentError) as error:
                raise _disconnected(error) from error
            self._waiting_since = math.inf
            self._listener.on_activity()
            await self._records(data)

    async def _watch(self) -> None:
        """Raise Disconnected if the hub is silent. A timer for each event would cost as much as reading it."""
        time, patience_s = asyncio.get_running_loop().time, self._subscription.server_timeout_s
        while True:
            left_s = min(self._waiting_since, time()) + patience_s - time()
            if left_s <= 0:
                raise Disconnected("silent", f"nothing heard for {patience_s:g} s")
            await asyncio.sleep(left_s)

    async def _records(self, data: bytes) -> None:
        """Pass on each record as it is read, so that a bad one does not affect good ones."""
        *records, self._rest = (self._rest + data).split(_SEPARATOR)
        for record in records:
            if len(record) > self._subscription.max_message_bytes:
                await self._bad_record(record, self._too_long())
                continue
            try:
                call = _call.decode(record)
            except (ValueError, RecursionError):
                await self._read_other(record)
            else:
                self._broken = 0
                await self._listener.on_call(call.target, bytes(call.arguments))
        self._check_length(self._rest)

    async def _bad_record(self, record: bytes, reason: str) -> None:
        """Pass on a bad record, and read on; after too many in a row the other end is no hub."""
        self._broken += 1
        if self._broken > _MOST_BROKEN:
            raise Disconnected("protocol", f"more than {_MOST_BROKEN} records in a row are not the hub protocol's")
        await self._listener.on_bad_record(record, reason)

    async def _read_other(self, record: bytes) -> None:
        try:
            message = decode(record) if record else None
        except BadRecord as error:
            await self._bad_record(record, str(error))
            return
        if isinstance(message, InvocationMessage):
            await self._listener.on_call(message.target, message.arguments)
        elif isinstance(message, CloseMessage):
            text = f": {printable(message.error)}" if message.error else ""
            if message.allow_reconnect is True:
                raise Disconnected("closed", f"the hub closes{text}")
            raise Disconnected("close_no_reconnect", f"the hub closes and does not allow a reconnect{text}")

    def _check_length(self, record: bytes) -> None:
        if len(record) > self._subscription.max_message_bytes:
            raise Disconnected("protocol", self._too_long())

    def _too_long(self) -> str:
        return f"a message is longer than {self._subscription.max_message_bytes} bytes"


class BadRecord(Exception):
    """Record that is not the hub protocol's."""


def decode(record: bytes) -> object:
    """Return a record as signalrcore's message; None for a missing or unknown type. Raises BadRecord.

    An invocation's arguments stay JSON, byte by byte: no number becomes a float.
    """
    try:
        wire = _decoder.decode(record)
        if wire.type is None or not _is_known(wire.type):
            return None
        fields: dict[str, object] = {"type": wire.type}
        if wire.type == MessageType.invocation.value:
            fields |= {"target": msgspec.json.decode(wire.target, type=str), "arguments": bytes(wire.arguments)}
        elif wire.type == MessageType.close.value:
            error = msgspec.json.decode(wire.error)
            fields |= {"error": None if error is None else str(error), "allowReconnect": msgspec.json.decode(wire.allowReconnect)}
        else:  # pings, and answers to calls that we never make
            return PingMessage()
        return JsonHubProtocol.get_message(fields)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRecord(f"a record that is not the hub protocol's: {without_input(error)}") from error


def _is_known(type: int) -> bool:
    try:
        MessageType(type)
    except ValueError:
        return False
    return True


def printable(text: object) -> str:
    """Return a hub's text bounded and on one line."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:_LONGEST_TEXT])


def _disconnected(error: Exception) -> Disconnected:
    match error:
        case Closed(code=code):
            return Disconnected("closed", f"the hub closes the WebSocket ({code})" + (f": {printable(error.said)}" if error.said else ""))
        case BadFrame():
            return Disconnected("protocol", str(error))
        case Broken():
            return Disconnected("broken", str(error))
    return Disconnected("broken", type(error).__name__)
