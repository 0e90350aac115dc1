"""A listening aiohttp server with every limit set: idle and slow senders, connections, quiet errors (reliability.md, Input)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import http_parser, web
from aiohttp.web_protocol import RequestHandler

from gateway.errors import ConfigError

log = logging.getLogger("gateway.http")

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

IDLE_TIMEOUT_S = 15.0
NAME = "order-gateway"
_ERROR_HEADERS = {
    "Server": NAME,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
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
        answer = web.Response(status=status, text="bad request" if status < 500 else "internal error", headers=_ERROR_HEADERS)
        answer.force_close()
        return answer


class Listener:
    """One address that is listened on.

    Args:
        answers: An application; or, where one function answers everything, that function, without the cost of a router.
        max_connections: One more is closed at once.
        idle_timeout_s: For an idle connection and for the headers of a request.
    """

    def __init__(self, answers: web.Application | Handle, *, max_connections: int, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
        self._answers = answers
        self._runner: web.BaseRunner | None = None
        self._max_connections = max_connections
        self._idle_timeout_s = idle_timeout_s
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on TCP. Raises OSError where the address cannot be had."""
        await self._set_up()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._handler, host, port, backlog=1024, reuse_address=True)

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket."""
        await self._set_up()
        self._server = await asyncio.get_running_loop().create_unix_server(self._handler, path, backlog=64)

    async def _set_up(self) -> None:
        if isinstance(self._answers, web.Application):
            self._answers.on_response_prepare.append(_sign)
            self._runner = web.AppRunner(self._answers, handle_signals=False, access_log=None)
        else:
            self._runner = web.ServerRunner(web.Server(self._answers, access_log=None), handle_signals=False)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_handler = _without_expectations(server.request_handler)

    @property
    def port(self) -> int:
        """The TCP port in use."""
        assert self._server is not None
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def _handler(self) -> asyncio.Protocol:
        assert self._runner is not None
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
        if self._runner is None:
            return
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(timeout_s)
        await self._runner.cleanup()


async def _sign(_: web.Request, answer: web.StreamResponse) -> None:
    """No version numbers of what is underneath."""
    answer.headers["Server"] = NAME


def _without_expectations(handle: Handle) -> Handle:
    """Answer an `Expect` header that nobody can meet here: aiohttp repeats its value to the sender."""

    async def refuse(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=417, text="expectation failed", headers=_ERROR_HEADERS)

    def checked(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        expected = request.headers.get("Expect")
        return (handle if expected is None or expected.lower() == "100-continue" else refuse)(request)

    return checked


class _Refuse(asyncio.Protocol):
    """Over the limit: closed without a word, so that those inside are served."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def require_fast_parser() -> None:
    """Refuse to face a network with aiohttp's slow parser. Raises ConfigError."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(["aiohttp was installed without its C extensions, and its limits hold only with them; install its wheel"])
