"""Simulated endpoint where suppliers publish events (vendors/scalepoint.md section 2).

The header's name and the answer's form are made up, because the vendor publishes neither.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from msgspec import Struct

from gateway_scalepoint.identity import Identity

TYPE_HEADER = "X-Event-Type"
SCOPE = "events"


class Published(Struct, frozen=True, kw_only=True):
    """Event that was accepted."""

    type: str
    payload: dict[str, Any]
    path: str


class Publishing:
    """Endpoint with controls for tests.

    Attributes:
        taken: All accepted events, repeats included.
        answers: Statuses of the next requests, whose events are not accepted.
        loses: Number of answers that are lost after the event was accepted.
    """

    def __init__(self, identity: Identity) -> None:
        self.taken: list[Published] = []
        self.answers: list[int] = []
        self.loses = 0
        self._identity = identity

    def open(self, application: web.Application) -> None:
        application.router.add_post("/api/events/v1/{country}/external/{tenant}/send", self._send)

    async def _send(self, request: web.Request) -> web.Response:
        if not self._identity.allows(request.headers.get("Authorization", ""), SCOPE):
            return web.Response(status=401)
        if self.answers:
            return web.json_response({"message": "constructed"}, status=self.answers.pop(0))
        kind, body = request.headers.get(TYPE_HEADER), await request.read()
        payload = json.loads(body)
        if not kind or payload.get("eventType") != kind:
            return web.json_response({"message": "the event type is missing, or not that of the header"}, status=400)
        self.taken.append(Published(type=kind, payload=payload, path=request.path))
        if self.loses:
            self.loses -= 1
            if request.transport is not None:
                request.transport.close()
        return web.json_response({"id": f"_{len(self.taken)}"}, status=202)
