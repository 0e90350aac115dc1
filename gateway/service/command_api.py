"""API of `[submit]` while the gateway runs: its listener, and the same requests on the control socket for operators."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from gateway.api.errors import StoreBusy
from gateway.clock import Clock
from gateway.config.settings import Config, SubmitSettings
from gateway.edge.admission import Admission
from gateway.edge.callers import OPERATORS, Callers
from gateway.edge.server import Listener
from gateway.edge.submit import SubmitDoor
from gateway.metrics import Metrics
from gateway.service.runtime import Runtime
from gateway.store.base import Store

log = logging.getLogger("gateway.submit")

Listen = Callable[[Listener, tuple[str, int], str], Awaitable[None]]

_LONGEST_NAME = 200


class CommandApi:
    """Commands for vendors from callers and operators. The port is open only while a caller is configured."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, admission: Admission) -> None:
        self._store = store
        self._admission = admission
        self.door = SubmitDoor(store, metrics, clock, admission=admission)
        self.listener: Listener | None = None

    async def listen(self, settings: SubmitSettings, listen: Listen) -> None:
        """Open the port if a caller is configured. Raises ConfigError."""
        if settings.callers and self.listener is None:
            listener = Listener(self.door.receive, max_connections=settings.max_connections, admission=self._admission)
            await listen(listener, settings.address, "submit.listen")
            self.listener = listener

    def serve(self, runtime: Runtime) -> None:
        """Take commands for the sources of this configuration from now on."""
        settings = runtime.assembly.config.submit
        self.door.serve(runtime.sources, Callers(settings.callers), settings.max_body_bytes, runtime.broken.keys())

    async def close_if_unused(self, config: Config, timeout_s: float) -> None:
        """Close the port if no caller is configured any more."""
        if not config.submit.callers:
            await self._close_port(timeout_s)

    async def close(self, timeout_s: float) -> None:
        """Refuse new commands; requests under way are answered."""
        self.door.close()
        await self._close_port(timeout_s)

    async def _close_port(self, timeout_s: float) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            await listener.close(timeout_s)

    def add_to(self, control: web.Application) -> None:
        """Add the same requests to the control socket: an operator may submit every command, and the audit names the operator."""
        control.router.add_route("*", "/out/{tail:.*}", self._by_operator)

    async def _by_operator(self, request: web.Request) -> web.StreamResponse:
        answer, stored = await self.door.answer(request, OPERATORS)
        if stored is not None:
            who = unquote(request.headers.get("X-Operator", ""))[:_LONGEST_NAME] or "?"
            try:
                await self._store.note(who, "submit", stored, request.path.removeprefix("/out/"))
            except StoreBusy as error:  # the command is stored, and its caller says that it is an operator's
                log.warning("submit.not_noted", extra={"key": stored, "who": who, "reason": str(error)})
        return answer
