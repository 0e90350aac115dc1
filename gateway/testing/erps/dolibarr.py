"""Dolibarr: a header key, a bare integer for an answer, the lines one by one, then `validate`.

Facts: erp_targets.md section 2, and Dolibarr's `commande/class/api_orders.class.php` (`post`, `postLine`, `validate`: 304 when it is
validated already; `ref_ext/{ref_ext}`: 404). Lists answered 404 when empty in older versions and `[]` in newer ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, is_number, read, said

_FILTER = re.compile(r"\(t\.(\w+):(=|in):([^()]*)\)\Z")


class Dolibarr(ErpServer):
    """`/api/index.php`. An order may be half done: header there, lines not, or not validated.

    Attributes:
        takes_lines: Whether the lines of the create are taken; it depends on the version, and the safe way does not need it.
        empty_is_404: Whether a list that finds nothing is a 404, as in older versions.
    """

    title = "Dolibarr"
    key = "constructed-dolapikey"

    def __init__(self) -> None:
        super().__init__()
        self.takes_lines = False
        self.empty_is_404 = False

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        base = "/api/index.php"
        return [
            ("POST", f"{base}/orders", "create", self._create),
            ("GET", f"{base}/orders/ref_ext/{{ref}}", "find", self._by_reference),
            ("GET", f"{base}/orders/{{id}}", "read", self._by_id),
            ("POST", f"{base}/orders/{{id}}/lines", "line", self._line),
            ("POST", f"{base}/orders/{{id}}/validate", "step", self._validate),
            ("GET", f"{base}/products", "codes", self._products),
            ("GET", f"{base}/thirdparties", "codes", self._parties),
            ("GET", f"{base}/status", "check", self._status),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=str(order["id"]),
                number=order["ref"],
                reference=order.get("ref_client") or "",
                customer=self.customer(order["socid"]) or "",
                state=("draft", "validated")[order["statut"]],
                lines=tuple(self._held_line(line) for line in order["lines"]),
            )
            for order in self.made
        ]

    def _held_line(self, line: dict[str, Any]) -> HeldLine:
        article = self.article(line["fk_product"])
        assert article is not None
        return HeldLine(article=article.code, quantity=Decimal(str(line["qty"])), price=Decimal(str(line["subprice"])))

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        return said(status, {"error": {"code": status, "message": message}})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            order = read(await request.read())
        except ValueError:
            return self.refusal(400, "Bad Request: Syntax error")
        for field in ("socid", "date"):
            if field not in order:
                return self.refusal(400, f"Bad Request: {field} field missing")
        if self.customer(order["socid"]) is None or not is_number(order["date"]):
            return self.refusal(500, "Error creating order")
        id = self.new_id()
        lines = [line | {"id": self.new_id()} for line in order.get("lines", [])] if self.takes_lines else []
        self.made.append(order | {"id": id, "ref": f"(PROV{id})", "statut": 0, "lines": lines})
        return said(200, id)

    async def _line(self, request: web.Request) -> web.StreamResponse:
        if (order := self._order(request)) is None:
            return self.refusal(404, "Not Found: Order not found")
        line = read(await request.read())
        if self.article(line.get("fk_product")) is None or order["statut"] != 0:
            return self.refusal(400, "Bad Request: ErrorProductNotFound")
        order["lines"].append({"qty": 1, "subprice": 0} | line | {"id": self.new_id()})
        return said(200, order["lines"][-1]["id"])

    async def _validate(self, request: web.Request) -> web.StreamResponse:
        if (order := self._order(request)) is None:
            return self.refusal(404, "Not Found: Order not found")
        if order["statut"] != 0:
            return web.Response(status=304)
        if not order["lines"]:
            return self.refusal(500, "Error when validating Order: ErrorObjectMustHaveLinesToBeValidated")
        order |= {"statut": 1, "ref": f"CO2611-{order['id']:04}"}
        return said(200, _shown(order))

    async def _by_reference(self, request: web.Request) -> web.StreamResponse:
        found = next((order for order in self.made if order.get("ref_ext") == request.match_info["ref"]), None)
        return said(200, _shown(found)) if found is not None else self.refusal(404, "Not Found: Order not found")

    async def _by_id(self, request: web.Request) -> web.StreamResponse:
        found = self._order(request)
        return said(200, _shown(found)) if found is not None else self.refusal(404, "Not Found: Order not found")

    async def _products(self, request: web.Request) -> web.StreamResponse:
        return self._listed(request, [{"id": str(a.id), "ref": a.code, "label": a.name} for a in self.articles.values()])

    async def _parties(self, request: web.Request) -> web.StreamResponse:
        return self._listed(request, [{"id": str(id), "code_client": code, "name": code} for code, id in self.customers.items()])

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return said(200, {"success": {"code": 200, "dolibarr_version": "22.0.2", "access_locked": "0"}})

    def _listed(self, request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
        if (written := request.query.get("sqlfilters")) is not None:
            if (found := _FILTER.match(written)) is None or found[1] not in rows[0]:
                return self.refusal(400, "Bad Request: Error when validating parameter sqlfilters -> Bad syntax of the search string")
            wanted = [value.strip().strip("'") for value in found[3].split(",")]
            rows = [row for row in rows if row[found[1]] in wanted]
        return self.refusal(404, "Not Found: nothing found") if self.empty_is_404 and not rows else said(200, rows)

    def _order(self, request: web.Request) -> dict[str, Any] | None:
        return next((order for order in self.made if str(order["id"]) == request.match_info["id"]), None)

    def stranger(self, request: web.Request) -> web.Response | None:
        if request.headers.get("DOLAPIKEY") == self.key:
            return None
        return self.refusal(401, "Unauthorized: Failed to login to API. No parameter 'HTTP_DOLAPIKEY' on HTTP header, or a wrong one")


def _shown(order: dict[str, Any]) -> dict[str, Any]:
    """Return an order with its id and status as texts, as PHP shows them."""
    return order | {"id": str(order["id"]), "statut": str(order["statut"])}
