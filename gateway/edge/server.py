"""A listening aiohttp server with every limit set: idle and slow senders, connections, quiet errors (reliability.md, Input)."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

log = logging.getLogger("gateway.http")

IDLE_TIMEOUT_S = 15.0
_SILENT = logging.getLogger("gateway.http.access")
_SILENT.disabled = True


class QuietHandler(RequestHandler):
    """Says nothing of what it was sent: aiohttp's own error path logs and returns malformed header bytes, tokens included."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("request.failed", exc_info=exc, extra={"status": status, "method": request.method, "path": request.path[:200]})
        else:
            log.warning("request.refused", extra={"status": status, "error": type(exc).__name__})
        answer = web.Response(status=status, text="bad request" if status < 500 else "internal error")
        answer.force_close()
        return answer


class Listener:
    """One address that is listened on.

    Args:
        application: What answers.
        max_connections: One more is closed at once.
        idle_timeout_s: For an idle connection and for the headers of a request.
    """

    def __init__(self, application: web.Application, *, max_connections: int, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None)
        self._max_connections = max_connections
        self._idle_timeout_s = idle_timeout_s
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on TCP. Raises OSError where the address cannot be had."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._handler, host, port, backlog=1024, reuse_address=True)

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket."""
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_unix_server(self._handler, path, backlog=64)

    @property
    def port(self) -> int:
        """The TCP port in use."""
        assert self._server is not None
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def _handler(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= self._max_connections:
            return _Refuse()
        return QuietHandler(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._idle_timeout_s,
            access_log=_SILENT,
            auto_decompress=False,  # a signature is over the bytes that were sent
            lingering_time=2.0,
        )

    def stop_listening(self) -> None:
        """Take no new connection; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def close(self, timeout_s: float) -> None:
        """Let what is being answered finish, for at most `timeout_s`, then close every connection."""
        self.stop_listening()
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(timeout_s)
        await self._runner.cleanup()


class _Refuse(asyncio.Protocol):
    """Over the limit: closed without a word, so that those inside are served."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
