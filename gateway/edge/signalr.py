"""One session with a SignalR hub: one try, from negotiation to its end. The only file that knows the hub protocol.

The WebSocket is aiohttp's, through `outbound`; the hub protocol's handshake and message classes are signalrcore's, record by
record. Nothing is invoked, so nothing of ours travels in messages. Sources: TransportProtocols.md and HubProtocol.md
(github.com/dotnet/aspnetcore, docs/specs), and what Microsoft's own hub was seen to do.
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
from gateway.edge.negotiation import Negotiation, judge
from gateway.edge.reconnect import Disconnected
from gateway.outbound.session import Unanswered, Unreached, Untrusted
from gateway.outbound.websocket import BadFrame, Broken, Closed, NoUpgrade, WebSocket, upgrade

_SEPARATOR = RECORD_SEPARATOR.encode()
_SEVERAL = 2  # a WebSocket message holds several records
_SAID = 200
_MOST_BROKEN = 100
_protocol = JsonHubProtocol(version=1)
_PING: str = _protocol.encode(PingMessage())


class HubListener(Protocol):
    """Who listens. `heard` and `online` return at once."""

    def on_connected(self) -> None:
        """The handshake is done; everything from now on arrives."""

    def on_activity(self) -> None:
        """The hub has said something, if only a ping."""

    async def on_call(self, target: str, arguments: bytes) -> None:
        """One call, its arguments as they came, as JSON; waits while there is no room."""

    async def on_bad_record(self, record: bytes, reason: str) -> None:
        """One record that makes no sense, as it came; waits while there is no room."""


class NullListener:
    """HubListener of somebody who does not want to listen."""

    def on_connected(self) -> None:
        """See `HubListener`."""

    def on_activity(self) -> None:
        """See `HubListener`."""

    async def on_call(self, target: str, arguments: bytes) -> None:
        """See `HubListener`."""

    async def on_bad_record(self, record: bytes, reason: str) -> None:
        """See `HubListener`."""


class _Wire(Struct):
    type: int | None = None
    target: Raw = Raw(b"null")
    arguments: Raw = Raw(b"[]")
    error: Raw = Raw(b"null")
    allowReconnect: Raw = Raw(b"null")


class _Call(Struct, frozen=True):
    """An invocation as every hub writes it. What is anything else, or of another kind, is for `decode` to say."""

    type: Literal[1]
    target: str
    arguments: Raw = Raw(b"[]")


_decoder = msgspec.json.Decoder(_Wire)
_call = msgspec.json.Decoder(_Call)


class Session:
    """One try; never used twice.

    Args:
        http: A session opened with `upgrades`; its cookies are forgotten at the start.
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
        """Connect and listen. A cancellation hangs up within a second or so.

        Raises:
            Disconnected: Always.
        """
        try:
            async with self._open() as socket:
                await self._live(socket)
        except Disconnected as ended:
            raise ended.without(self._negotiation.secrets) from ended.__cause__

    async def try_out(self) -> Disconnected | None:
        """Connect, and hang up at once; why it could not be done, or None."""
        try:
            async with self._open():
                return None
        except Disconnected as ended:
            return ended.without(self._negotiation.secrets)

    async def _live(self, socket: WebSocket) -> None:
        self._listener.on_connected()
        parts = {"read": self._read(socket), "ping": self._ping(socket), "watch": self._watch()}
        tasks = [asyncio.create_task(part, name=f"hub {name}") for name, part in parts.items()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[WebSocket]:
        socket: WebSocket | None = None
        try:
            try:
                async with asyncio.timeout(self._subscription.connect_timeout_s):
                    socket = await self._connect()
                    await self._shake_hands(socket)
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
            raise judge(error.status, error.headers, self._clock.now()) from error
        except Untrusted as error:
            raise Disconnected("untrusted", str(error)) from error
        except Unreached as error:
            raise Disconnected("unreachable", str(error)) from error
        except Unanswered as error:
            raise Disconnected("no_answer", str(error)) from error
        except PermanentError as error:
            raise Disconnected("not_a_hub", str(error)) from error

    async def _shake_hands(self, socket: WebSocket) -> None:
        try:
            await socket.send(_protocol.encode(_protocol.handshake_message()))
            answer = b""
            while _SEPARATOR not in answer:
                answer += await socket.receive()
                self._check_length(answer.partition(_SEPARATOR)[0])
        except (TransientError, PermanentError) as error:
            raise _end(error) from error
        first, _, self._rest = answer.partition(_SEPARATOR)
        try:
            is_record = _decoder.decode(first).type is not None
            response, _ = _protocol.decode_handshake(first.decode() + RECORD_SEPARATOR)
        except Exception as error:  # whatever an answer of another kind makes signalrcore do
            raise Disconnected("not_a_hub", "the answer to the handshake is not a hub's") from error
        if is_record:
            raise Disconnected("not_a_hub", "the hub sends a record in place of the answer to the handshake")
        if response.error:
            raise Disconnected("not_a_hub", f"it refuses the handshake: {said(response.error)}")

    async def _ping(self, socket: WebSocket) -> None:
        """Say that we are here, from the start and whatever else is going on; a hub drops a client that is silent."""
        while True:
            try:
                async with asyncio.timeout(self._subscription.connect_timeout_s):
                    await socket.send(_PING)
            except TimeoutError as error:
                raise Disconnected("broken", "the hub does not read") from error
            except TransientError:
                return  # the connection is gone; the reader finds its end, after what has still come
            await asyncio.sleep(self._subscription.keep_alive_s)

    async def _read(self, socket: WebSocket) -> None:
        time = asyncio.get_running_loop().time
        await self._records(b"")
        while True:
            # Round the receiving only: while there is no room for what came, the silence is ours.
            self._waiting_since = time()
            try:
                data = await socket.receive()
            except (TransientError, PermanentError) as error:
                raise _end(error) from error
            self._waiting_since = math.inf
            self._listener.on_activity()
            await self._records(data)

    async def _watch(self) -> None:
        """Notice a silent hub. One timer now and then: two of them an event, one made and one cancelled, cost as much as reading it."""
        time, patience_s = asyncio.get_running_loop().time, self._subscription.server_timeout_s
        while True:
            left_s = min(self._waiting_since, time()) + patience_s - time()
            if left_s <= 0:
                raise Disconnected("silent", f"nothing heard for {patience_s:g} s")
            await asyncio.sleep(left_s)

    async def _records(self, data: bytes) -> None:
        """Hand over each record as it is read, so that a bad one takes no good one with it."""
        *records, self._rest = (self._rest + data).split(_SEPARATOR)
        for record in records:
            if len(record) > self._subscription.max_message_bytes:
                await self._keep(record, self._too_long())
                continue
            try:
                call = _call.decode(record)
            except (ValueError, RecursionError):
                await self._other(record)
            else:
                self._broken = 0
                await self._listener.on_call(call.target, bytes(call.arguments))
        self._check_length(self._rest)

    async def _keep(self, record: bytes, reason: str) -> None:
        """A record that cannot be read is kept, and those behind it are read; a hub that sends nothing else is none."""
        self._broken += 1
        if self._broken > _MOST_BROKEN:
            raise Disconnected("protocol", f"more than {_MOST_BROKEN} records in a row are not the hub protocol's")
        await self._listener.on_bad_record(record, reason)

    async def _other(self, record: bytes) -> None:
        try:
            message = decode(record) if record else None
        except BadRecord as error:
            await self._keep(record, str(error))
            return
        if isinstance(message, InvocationMessage):
            await self._listener.on_call(message.target, message.arguments)
        elif isinstance(message, CloseMessage):
            text = f": {said(message.error)}" if message.error else ""
            if message.allow_reconnect is True:
                raise Disconnected("closed", f"the hub closes{text}")
            raise Disconnected("close_no_reconnect", f"the hub closes and does not ask us to come again{text}")

    def _check_length(self, record: bytes) -> None:
        if len(record) > self._subscription.max_message_bytes:
            raise Disconnected("protocol", self._too_long())

    def _too_long(self) -> str:
        return f"a message is longer than {self._subscription.max_message_bytes} bytes"


class BadRecord(Exception):
    """A record that makes no sense."""


def decode(record: bytes) -> object:
    """One record as signalrcore's message; None for what has no type, or one that we do not know.

    An invocation's arguments stay JSON, byte by byte: no number becomes a float on the way.

    Raises:
        BadRecord: It makes no sense.
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
        else:  # pings, and what answers calls that we never make
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


def said(text: object) -> str:
    """What a hub says for people, bounded and on one line."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:_SAID])


def _end(error: Exception) -> Disconnected:
    match error:
        case Closed(code=code):
            return Disconnected("closed", f"the hub closes the WebSocket ({code})" + (f": {said(error.said)}" if error.said else ""))
        case BadFrame():
            return Disconnected("protocol", str(error))
        case Broken():
            return Disconnected("broken", str(error))
    return Disconnected("broken", type(error).__name__)
