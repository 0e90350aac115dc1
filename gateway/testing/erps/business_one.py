"""SAP Business One, Service Layer: a login gives two cookies and both must come back; errors have negative SAP codes.

Facts: erp_targets.md section 2, after SAP Learning (Service Layer logins) and SAP KBA 2693418. What is marked (u) there is a
guess here too: 401 with code 301, -10 for a business rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, is_number, read, said
from gateway.testing.erps.odata import BadFilter, conditions, matches

_CODE = {401: "301", 400: "-10", 429: "-1", 500: "-1"}


class BusinessOne(ErpServer):
    """`/b1s/v2`. `NumAtCard` may repeat.

    Attributes:
        flat_errors: Whether an error's message is a text, as in newer versions, in place of `{"lang", "value"}`.
        logins, logouts: How many there were; a login is expensive.
    """

    title = "Business One"
    company, username, password = "SBODEMO", "gateway", "constructed-b1-password"

    def __init__(self) -> None:
        super().__init__()
        self.flat_errors = False
        self.logins = self.logouts = 0
        self._sessions: dict[str, str] = {}

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        return [
            ("POST", "/b1s/v2/Login", "token", self._login),
            ("POST", "/b1s/v2/Logout", "logout", self._logout),
            ("POST", "/b1s/v2/Orders", "create", self._create),
            ("GET", "/b1s/v2/Orders", "find", self._find),
            ("GET", "/b1s/v2/CompanyService_GetAdminInfo", "check", self._check),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=str(order["DocEntry"]),
                number=str(order["DocNum"]),
                reference=order["NumAtCard"] or "",
                customer=order["CardCode"],
                state=order["DocumentStatus"],
                lines=tuple(
                    HeldLine(article=line["ItemCode"], quantity=Decimal(line["Quantity"]), price=Decimal(line["UnitPrice"]))
                    for line in order["DocumentLines"]
                ),
            )
            for order in self.made
        ]

    def expire_sessions(self) -> None:
        """End all sessions, as 30 minutes or a restart do."""
        self._sessions.clear()

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        if status in (502, 503):
            return web.Response(status=status, text="<html><h1>Proxy Error</h1></html>", content_type="text/html")
        words = message if self.flat_errors else {"lang": "en-us", "value": message}
        number = code or _CODE.get(status, "-1")
        return said(status, {"error": {"code": number if self.flat_errors else int(number), "message": words}})

    async def _login(self, request: web.Request) -> web.StreamResponse:
        given = read(await request.read())
        self.logins += 1
        if (given.get("CompanyDB"), given.get("UserName"), given.get("Password")) != (self.company, self.username, self.password):
            return self.refusal(401, "Fail to get DB Credentials from SLD", code="-304")
        session, node = f"constructed-session-{self.new_id()}", f".node{self.logins % 3}"
        self._sessions[session] = node
        answer = said(200, {"SessionId": session, "Version": "1000270", "SessionTimeout": 30})
        answer.headers.add("Set-Cookie", f"B1SESSION={session}; path=/b1s; HttpOnly")
        answer.headers.add("Set-Cookie", f"ROUTEID={node}; path=/b1s")
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        self.logouts += 1
        self._sessions.pop(request.cookies.get("B1SESSION", ""), None)
        return web.Response(status=204)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            order = read(await request.read())
        except ValueError:
            return self.refusal(400, "Invalid JSON", code="-1000")
        if (problem := self._problem(order)) is not None:
            return self.refusal(400, problem[1], code=problem[0])
        id = self.new_id()
        more = {"DocEntry": id, "DocNum": 10_000 + id, "DocumentStatus": "bost_Open", "Cancelled": "tNO"}
        self.made.append({"NumAtCard": None} | order | more)
        return said(201, self.made[-1], {"Location": f"{self.address}/b1s/v2/Orders({id})"})

    def _problem(self, order: dict[str, Any]) -> tuple[str, str] | None:
        if order.get("CardCode") not in self.customers:
            return "-10", f"Invalid BP code '{order.get('CardCode')}' [ORDR.CardCode]"
        if not order.get("DocDueDate"):
            return "-10", "Enter valid delivery date [ORDR.DocDueDate]"
        for n, line in enumerate(order.get("DocumentLines", []), 1):
            if line.get("ItemCode") not in self.articles:
                return "-10", f"Invalid item number '{line.get('ItemCode')}' [RDR1.ItemCode][line: {n}]"
            if not all(is_number(line.get(name)) for name in ("Quantity", "UnitPrice")):
                return "-1013", "Invalid property value"
        return None if order.get("DocumentLines") else ("-5002", "No matching records found (ODBC -2028)")

    async def _find(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = conditions(request.query.get("$filter", ""))
            found = [order for order in self.made if matches(order, wanted)]
        except BadFilter as error:
            return self.refusal(400, str(error), code="-1000")
        return said(200, {"value": found})

    async def _check(self, request: web.Request) -> web.StreamResponse:
        return said(200, {"CompanyName": "Example"})

    def stranger(self, request: web.Request) -> web.Response | None:
        """Check session and ROUTEID: without it, the balancer chooses another node, which does not know the session."""
        node = self._sessions.get(request.cookies.get("B1SESSION", ""))
        if node is not None and request.cookies.get("ROUTEID") == node:
            return None
        return self.refusal(401, "Invalid session or session already timeout.", code="301")
