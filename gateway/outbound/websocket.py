"""WebSockets on a session of `session.py`, with the same TLS, address check and errors. Messages are bytes."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import WSMsgType

from gateway.api.errors import PermanentError, TransientError
from gateway.outbound.session import Unanswered, translated_errors

_CLOSE_S = 1.0
_TOO_BIG = 1009


class NoUpgrade(TransientError):
    """The other side answered the upgrade with another status; `headers` find a name in any letter case."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the upgrade is answered {status}")
        self.status = status
        self.headers = headers


class Closed(TransientError):
    """The other side sent a close frame, with `code` and `said`."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"closed ({code})")
        self.code = code
        self.said = said


class Broken(TransientError):
    """The connection ended without a close frame."""


class BadFrame(PermanentError):
    """The frame is malformed, or the message exceeds the limit."""


class WebSocket:
    """Open WebSocket for one reader and one sender. It answers pings and ignores pongs."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        """Return the next message, text or binary.

        Raises:
            Closed, Broken, BadFrame: There is none.
        """
        try:
            message = await self._socket.receive()
        except (OSError, aiohttp.ClientError) as error:  # the pong could not be written
            raise Broken("the connection broke") from error
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data
            return data if isinstance(data, bytes) else bytes(data, "utf-8")
        if message.type is WSMsgType.CLOSE:
            raise Closed(int(message.data or 1005), str(message.extra or ""))
        if isinstance(message.data, aiohttp.WebSocketError):
            raise BadFrame("a message over the limit" if message.data.code == _TOO_BIG else "no WebSocket frame") from message.data
        if isinstance(message.data, BaseException):
            raise Broken("the connection broke") from message.data
        raise Broken("the connection ended without a word")

    async def send(self, text: str) -> None:
        """Send a text message; wait while the other side does not read. Raises Broken."""
        try:
            await self._socket.send_str(text)
        except (OSError, aiohttp.ClientError) as error:
            raise Broken("the connection broke") from error

    async def close(self) -> None:
        """Send a close frame, wait a moment for the answer, and close."""
        await self._socket.close()


async def upgrade(session: aiohttp.ClientSession, url: str, *, headers: Mapping[str, str], max_message_bytes: int) -> WebSocket:
    """Open a WebSocket. Only connecting has a deadline; put one around the call.

    Args:
        session: Opened with `upgrades`, so that it follows no redirect.
        max_message_bytes: A longer message is a BadFrame.
    Raises:
        Unreached, Untrusted, Unanswered: No connection, or no answer.
        NoUpgrade: Another answer.
    """
    with translated_errors():
        try:
            socket = await session.ws_connect(
                url,
                headers=headers,
                max_msg_size=max_message_bytes + 1,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
            )
        except aiohttp.WSServerHandshakeError as error:
            # Without its text, which holds the whole address.
            if error.status == 101:
                raise Unanswered("the answer is no WebSocket's") from None
            raise NoUpgrade(error.status, error.headers or {}) from None
    return WebSocket(socket)
