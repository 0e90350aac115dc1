"""`[submit]` while the gateway runs: the door, its listener, and the operators' own way to it through the control socket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from gateway.api.errors import StoreBusy
from gateway.clock import Clock
from gateway.config.settings import Config, SubmitSettings
from gateway.edge.admission import Gate
from gateway.edge.callers import OPERATORS, Callers
from gateway.edge.server import Listener
from gateway.edge.submit import SubmitDoor
from gateway.metrics import Metrics
from gateway.service.runtime import Runtime
from gateway.store.base import Store

log = logging.getLogger("gateway.submit")

Listen = Callable[[Listener, tuple[str, int], str], Awaitable[None]]

_LONGEST_NAME = 200


class WayBack:
    """What takes commands. It is listened for on the network only where there is a caller."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self.door = SubmitDoor(store, metrics, clock, body_timeout_s=gate.settings.body_timeout_s, gate=gate)
        self.listener: Listener | None = None

    async def listen(self, settings: SubmitSettings, listen: Listen) -> None:
        """Have the address where there is somebody to listen to. Raises ConfigError."""
        if settings.callers and self.listener is None:
            listener = Listener(self.door.receive, max_connections=settings.max_connections, gate=self._gate)
            await listen(listener, settings.address, "submit.listen")
            self.listener = listener

    def serve(self, runtime: Runtime) -> None:
        """Hand in at these sources from now on."""
        settings = runtime.assembly.config.submit
        self.door.serve(runtime.sources, Callers(settings.callers), settings.max_body_bytes, runtime.broken.keys())

    async def fall_silent(self, config: Config, timeout_s: float) -> None:
        """Let the address go where there is nobody left to listen to."""
        if not config.submit.callers:
            await self._hang_up(timeout_s)

    async def close(self, timeout_s: float) -> None:
        """Take nothing more; what is being answered is answered."""
        self.door.close()
        await self._hang_up(timeout_s)

    async def _hang_up(self, timeout_s: float) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            await listener.close(timeout_s)

    def add_to(self, control: web.Application) -> None:
        """The same requests on the control socket: who may open it may hand in everything, and the audit says who it was."""

        async def ask(request: web.Request) -> web.StreamResponse:
            answer, stored = await self.door.answer(request, OPERATORS)
            if stored is not None:
                who = unquote(request.headers.get("X-Operator", ""))[:_LONGEST_NAME] or "?"
                try:
                    await self._store.note(who, "submit", stored, request.path.removeprefix("/out/"))
                except StoreBusy as error:  # it is stored, and says that it is an operator's
                    log.warning("submit.not_noted", extra={"key": stored, "who": who, "reason": str(error)})
            return answer

        control.router.add_route("*", "/out/{tail:.*}", ask)
