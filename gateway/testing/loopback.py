"""HTTP server of a simulator, and answers that break off."""

from __future__ import annotations

import contextlib
from typing import Self

from aiohttp import web


class LoopbackServer:
    """HTTP server in the process of a demo or a test; use it by `start` and `stop`, or by `async with`."""

    shutdown_s = 1.0
    _runner: web.AppRunner | None = None
    _port = 0
    address = ""

    def application(self) -> web.Application:
        """Return the routes. Called at each start."""
        raise NotImplementedError

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; after a `stop` on the same port again, unless another one is given."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=self.shutdown_s)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port or self._port, reuse_address=True).start()
        host, self._port = self._runner.addresses[0][:2]
        self.address = f"http://{host}:{self._port}"

    async def stop(self) -> None:
        """Close the server; what it holds stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def cut(request: web.Request, *, reset: bool = False) -> web.StreamResponse:
    """End the connection without an answer."""
    if request.transport is not None:
        if reset:
            request.transport.abort()
        else:
            request.transport.close()
    return web.Response(status=500)


async def half_answer(request: web.Request, status: int) -> web.StreamResponse:
    """End the connection inside the answer."""
    answer = web.StreamResponse(status=status, headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        await answer.write(b'{"id": "')
    return cut(request)
