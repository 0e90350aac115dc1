"""Odoo 19's External JSON-2 API: named arguments in, the bare return value out, errors by the name of a Python class.

Facts: erp_targets.md section 2, after Odoo's documentation (External JSON-2 API, 19.0) and `odoo/exceptions.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from gateway.testing.erps.base import Handler, read, said
from gateway.testing.erps.odoo_models import (
    ACCESS_DENIED,
    LOCK_ERROR,
    MISSING_ERROR,
    USER_ERROR,
    VALIDATION_ERROR,
    OdooError,
    OdooModels,
    kind_of,
)

_STATUS = {
    USER_ERROR: 422,
    VALIDATION_ERROR: 422,
    MISSING_ERROR: 404,
    ACCESS_DENIED: 403,
    "odoo.exceptions.AccessError": 403,
    LOCK_ERROR: 409,
    "werkzeug.exceptions.Unauthorized": 401,
    "werkzeug.exceptions.NotFound": 404,
    "werkzeug.exceptions.BadRequest": 400,
}


class Odoo19(OdooModels):
    """`POST /json/2/{model}/{method}` with `Authorization: bearer KEY`; `key` is the API key, which may change while it runs."""

    title = "Odoo 19"

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        return [("POST", "/json/2/{model}/{method}", "call", self._call)]

    def operation(self, named: str, request: web.Request, body: bytes) -> str:
        return kind_of(request.match_info["model"], request.match_info["method"])

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        name = code or next((name for name, known in _STATUS.items() if known == status), "builtins.Exception")
        debug = f'Traceback (most recent call last):\n  File "odoo/http.py"\n{name}: {message}'
        return said(status, {"name": name, "message": message, "arguments": [message], "context": {}, "debug": debug})

    def stranger(self, request: web.Request) -> web.Response | None:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        return None if kind.lower() == "bearer" and key == self.key else self.refusal(401, "Invalid apikey")

    async def _call(self, request: web.Request) -> web.StreamResponse:
        try:
            arguments = read(await request.read())
        except ValueError:
            return self.refusal(400, "could not parse the body as json")
        try:
            return said(200, self.run(request.match_info["model"], request.match_info["method"], arguments))
        except OdooError as error:
            return self.refusal(_STATUS.get(error.name, 500), error.message, code=error.name)
