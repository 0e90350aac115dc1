"""An ERP that answers as a test's function says, over real HTTP, and counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Erp:
    """An ERP with a door: it counts, and says who came how."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.handler: Handler | None = None
        self.flying = 0
        self.most = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.heard.append(
            (f"{request.method} {request.raw_path}", {k.lower(): v for k, v in request.headers.items()}, await request.read())
        )
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            assert self.handler is not None
            return await self.handler(request)
        finally:
            self.flying -= 1

    def count(self, what: str) -> int:
        return sum(line.split("?")[0] == what for line, _, _ in self.heard)


@asynccontextmanager
async def erp(handler: Handler, ssl: Any = None) -> AsyncIterator[Erp]:
    made = Erp()
    made.handler = handler
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl).start()
    made.url = f"http{'s' if ssl else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
