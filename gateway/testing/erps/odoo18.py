"""Odoo up to 18: JSON-RPC at `/jsonrpc`, the key inside the body, and every error of the application in a 200.

Facts: erp_targets.md section 2, after Odoo's documentation (External API, 18.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import Handler, read, said
from gateway.testing.erps.odoo_models import ACCESS_DENIED, LOCK_ERROR, USER_ERROR, OdooError, OdooModels, kind_of

_NAME = {401: ACCESS_DENIED, 409: LOCK_ERROR, 422: USER_ERROR}


class Odoo18(OdooModels):
    """`execute_kw` of the service `object`, with database, user id and key as its first arguments."""

    title = "Odoo 18"
    database = "prod"
    uid = 2

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        return [("POST", "/jsonrpc", "call", self._call)]

    def operation(self, named: str, request: web.Request, body: bytes) -> str:
        return kind_of(*_called(body))

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        """Return an error: the application's is a 200, that of the web server in front of it has its own status and HTML."""
        if status in _NAME or code:
            return _error(None, OdooError(code or _NAME[status], message))
        return web.Response(status=status, text=f"<html><body><h1>{status}</h1></body></html>", content_type="text/html")

    async def _call(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = read(await request.read())
            service, method, arguments = (asked["params"][name] for name in ("service", "method", "args"))
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="<h1>Bad Request</h1>", content_type="text/html")
        try:
            result = self._served(service, method, arguments)
        except OdooError as error:
            return _error(asked.get("id"), error)
        return said(200, {"jsonrpc": "2.0", "id": asked.get("id"), "result": result})

    def _served(self, service: str, method: str, arguments: list[Any]) -> Any:
        if (service, method) == ("common", "authenticate"):
            return self.uid if arguments[0] == self.database and arguments[2] == self.key else False
        if (service, method) != ("object", "execute_kw"):
            raise OdooError("builtins.Exception", f"Method not found: {service}.{method}")
        if len(arguments) < 6:
            raise OdooError("builtins.TypeError", "execute_kw() missing required positional arguments")
        database, uid, key, model, called, positional, *named = arguments
        if (database, uid, key) != (self.database, self.uid, self.key):
            raise OdooError(ACCESS_DENIED, "Access Denied")
        names = {"create": ["vals_list"], "search_read": ["domain", "fields"]}.get(called, ["ids"])
        return self.run(model, called, dict(zip(names, positional, strict=False)) | (named[0] if named else {}))


def _error(id: Any, error: OdooError) -> web.Response:
    debug = f'Traceback (most recent call last):\n  File "odoo/http.py"\n{error.name}: {error.message}'
    data = {"name": error.name, "message": error.message, "arguments": [error.message], "context": {}, "debug": debug}
    return said(200, {"jsonrpc": "2.0", "id": id, "error": {"code": 200, "message": "Odoo Server Error", "data": data}})


def _called(body: bytes) -> tuple[str, str]:
    try:
        parameters = read(body)["params"]
        if parameters["method"] == "execute_kw":
            return parameters["args"][3], parameters["args"][4]
        return "", parameters["method"]
    except (ValueError, KeyError, TypeError, IndexError):
        return "", ""
