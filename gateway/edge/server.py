"""aiohttp server with every limit set: slow senders and readers, connections, quiet errors (reliability.md, Input)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import http_parser, web
from aiohttp.web_protocol import RequestHandler

from gateway.api.errors import ConfigError
from gateway.clock import SystemClock
from gateway.config.settings import HttpSettings
from gateway.edge import client_address
from gateway.edge.admission import Admission
from gateway.edge.connections import Connection, Connections, Limits, connection_of
from gateway.metrics import Metrics

log = logging.getLogger("gateway.http")

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

IDLE_TIMEOUT_S = HttpSettings().idle_timeout_s
_CHECK_EVERY_S = 1.0
_AT_ONCE = 64 * 1024
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
    """Handler that repeats no input: aiohttp's own error path logs and returns malformed header bytes, tokens included.

    Attributes:
        connection: Limits of this connection.
    """

    __slots__ = ("_admission", "_connections", "connection")
    connection: Connection

    def join(self, connections: Connections, admission: Admission, connection: Connection) -> None:
        """Count as one of the connections, before `connection_made`."""
        self._connections, self._admission, self.connection = connections, admission, connection
        connections.join(connection)

    def data_received(self, data: bytes) -> None:
        if data:
            self.connection.received(len(data))
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self.connection)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("request.failed", exc_info=exc, extra={"status": status, "method": request.method, "path": request.path[:200]})
        else:
            self._admission.refuse(
                "malformed", None if self.connection.is_proxy else self.connection.peer, status=status, error=type(exc).__name__
            )
        answer = web.Response(status=status, text="bad request" if status < 500 else "internal error", headers=_ERROR_HEADERS)
        answer.force_close()
        return answer


class Listener:
    """Server on one address.

    Args:
        answers: An application, or one function for everything, which saves the cost of a router.
        max_connections: For one more, another makes room, or it is closed at once.
        idle_timeout_s: For an idle connection and for the headers of a request; that of the admission's settings if None.
        admission: None for the default limits, without metrics.
        max_per_address: Of `max_connections`; None for all of them.
    """

    def __init__(
        self,
        answers: web.Application | Handle,
        *,
        max_connections: int,
        idle_timeout_s: float | None = None,
        admission: Admission | None = None,
        max_per_address: int | None = None,
    ) -> None:
        clock = SystemClock()
        self._admission = admission or Admission("http", Metrics(clock), clock, HttpSettings())
        self._answers = answers
        self._runner: web.BaseRunner | None = None
        self._max_connections = max_connections
        self._max_per_address = max_per_address or max_connections
        self._idle_timeout_s = self._admission.settings.idle_timeout_s if idle_timeout_s is None else idle_timeout_s
        self._server: asyncio.Server | None = None
        self._next_check: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on TCP. Raises OSError if the address cannot be used."""
        await self._set_up()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _NewConnection(self), host, port, backlog=1024, reuse_address=True)

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket."""
        await self._set_up()
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _NewConnection(self), path, backlog=64)

    async def _set_up(self) -> None:
        if isinstance(self._answers, web.Application):
            self._answers.on_response_prepare.append(_set_server_header)
            self._runner = web.AppRunner(self._answers, handle_signals=False, access_log=None)
        else:
            self._runner = web.ServerRunner(web.Server(self._answers, access_log=None), handle_signals=False)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_handler = _tracked(_without_expectations(server.request_handler))
        settings = self._admission.settings
        limits = Limits(
            connections=self._max_connections,
            per_address=self._max_per_address,
            unfinished_bytes=settings.unfinished_bytes,
            write_timeout_s=settings.write_timeout_s,
        )
        self.connections = Connections(limits, self._admission.note)
        self._check_once_a_second()

    def _check_once_a_second(self) -> None:
        self.connections.drop_unread()
        self._next_check = asyncio.get_running_loop().call_later(_CHECK_EVERY_S, self._check_once_a_second)

    @property
    def port(self) -> int:
        """TCP port in use."""
        assert self._server is not None
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def admit(self, transport: asyncio.Transport) -> None:
        """Serve a new connection, or close it at once if there is no room."""
        admission, address = self._admission, _address(transport)
        peer, is_proxy = client_address.name(address), admission.proxies.is_trusted(address)
        if not is_proxy and admission.refusals.exceeded(peer) == "address_rate":
            admission.note("address_rate")
        elif not self.connections.has_room(peer, is_proxy=is_proxy):
            admission.refusals.record_refused(None if is_proxy else peer)
        else:
            _drop_unsent_after(transport, admission.settings.write_timeout_s)
            transport.max_size = _AT_ONCE  # type: ignore[attr-defined]  # asyncio's: the most that it reads of one connection before the next
            handler = self._handler()
            connection = Connection(self.connections, handler, transport, peer, is_proxy=is_proxy)
            handler.join(self.connections, admission, connection)
            transport.set_protocol(handler)
            handler.connection_made(transport)
            return
        transport.abort()

    def _handler(self) -> QuietHandler:
        assert self._runner is not None
        server = self._runner.server
        assert server is not None
        return QuietHandler(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._idle_timeout_s,
            access_log=_SILENT,
            auto_decompress=False,  # a signature is over the bytes that were sent
            lingering_time=2.0,
            read_bufsize=_AT_ONCE,
        )

    def stop_listening(self) -> None:
        """Accept no new connection; open ones continue."""
        if self._server is not None:
            self._server.close()

    async def close(self, timeout_s: float) -> None:
        """Give requests in progress `timeout_s` to finish, then close every connection."""
        self.stop_listening()
        if self._next_check is not None:
            self._next_check.cancel()
        if self._runner is None:
            return
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(timeout_s)
        await self._runner.cleanup()


class _NewConnection(asyncio.Protocol):
    """Protocol of a connection until it is admitted."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._listener.admit(transport)


def _address(transport: asyncio.Transport) -> client_address.Address | None:
    """Return the other end; None on a Unix socket."""
    name = transport.get_extra_info("peername")
    return client_address.read(name[0]) if isinstance(name, tuple) else None


def _drop_unsent_after(transport: asyncio.Transport, timeout_s: float) -> None:
    """Set the time after which the kernel drops data that the other end does not take, even once the connection is closed."""
    with suppress(OSError):  # a Unix socket has no such thing
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))


async def _set_server_header(_: web.Request, answer: web.StreamResponse) -> None:
    """Replace aiohttp's header, which names versions."""
    answer.headers["Server"] = NAME


def _without_expectations(handle: Handle) -> Handle:
    """Refuse unknown `Expect` headers: aiohttp would repeat their value to the sender."""

    async def refuse(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=417, text="expectation failed", headers=_ERROR_HEADERS)

    def checked(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        expected = request.headers.get("Expect")
        return (handle if expected is None or expected.lower() == "100-continue" else refuse)(request)

    return checked


def _tracked(handle: Handle) -> Handle:
    """Tell the connection when a request begins and ends."""

    async def answered(request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        if connection is None:
            return await handle(request)
        connection.begin_request()
        try:
            return await handle(request)
        finally:
            connection.finish_request(has_more=not request.content.is_eof())

    return answered


def require_fast_parser() -> None:
    """Raise ConfigError if aiohttp has only its slow parser."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(["aiohttp was installed without its C extensions, and its limits hold only with them; install its wheel"])
