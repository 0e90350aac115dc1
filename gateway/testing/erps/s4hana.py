"""SAP S/4HANA, OData V2: a write needs a CSRF token that is valid only with the cookies it came with.

Facts: erp_targets.md section 2, after SAP Help and the SAP Cloud SDK (CSRF fetching). Decimals are texts in V2.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, read, said
from gateway.testing.erps.odata import BadFilter, conditions, matches

_NEEDED = ("SalesOrderType", "SalesOrganization", "DistributionChannel", "OrganizationDivision", "SoldToParty")
_SERVICE = "/sap/opu/odata/sap/API_SALES_ORDER_SRV"


class S4Hana(ErpServer):
    """`API_SALES_ORDER_SRV`. `PurchaseOrderByCustomer` may repeat; repeatable requests are not switched on."""

    title = "S/4HANA"
    username, password = "GATEWAY", "constructed-s4-password"

    def __init__(self) -> None:
        super().__init__()
        self._tokens: dict[str, str] = {}

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        return [
            ("GET", f"{_SERVICE}/", "token", self._fetch),
            ("HEAD", f"{_SERVICE}/", "token", self._fetch),
            ("POST", f"{_SERVICE}/A_SalesOrder", "create", self._create),
            ("GET", f"{_SERVICE}/A_SalesOrder", "find", self._find),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=order["SalesOrder"],
                number=order["SalesOrder"],
                reference=order["PurchaseOrderByCustomer"],
                customer=order["SoldToParty"],
                state="",
                lines=tuple(
                    HeldLine(article=item["Material"], quantity=Decimal(item["RequestedQuantity"]), price=_price(item))
                    for item in order["to_Item"]
                ),
            )
            for order in self.made
        ]

    def expire_tokens(self) -> None:
        """End all sessions, and with them their tokens."""
        self._tokens.clear()

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        error = {"code": code or f"V1/{status}", "message": {"lang": "en", "value": message}, "innererror": {"errordetails": []}}
        return said(status, {"error": error})

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        if (no := self.stranger(request)) is not None:
            return no
        answer = said(200, {"d": {"EntitySets": ["A_SalesOrder"]}})
        if request.headers.get("X-CSRF-Token", "").lower() == "fetch":
            session, token = f"constructed-session-{self.new_id()}", f"constructed-csrf-{self.new_id()}"
            self._tokens[session] = token
            answer.headers["x-csrf-token"] = token
            answer.headers.add("Set-Cookie", f"SAP_SESSIONID_S4H_100={session}; path=/; HttpOnly")
            answer.headers.add("Set-Cookie", "sap-usercontext=sap-client=100; path=/")
        return answer

    async def _create(self, request: web.Request) -> web.StreamResponse:
        token = self._tokens.get(request.cookies.get("SAP_SESSIONID_S4H_100", ""))
        if token is None or request.headers.get("X-CSRF-Token") != token:
            return web.Response(status=403, text="CSRF token validation failed", headers={"x-csrf-token": "Required"})
        try:
            order = read(await request.read())
        except ValueError:
            return self.refusal(400, "Malformed request", code="/IWBEP/CM_MGW_RT/021")
        if (problem := self._problem(order)) is not None:
            return self.refusal(400, problem)
        number = str(self.new_id())
        self.made.append({"PurchaseOrderByCustomer": ""} | order | {"SalesOrder": number})
        return said(201, {"d": {name: value for name, value in self.made[-1].items() if name != "to_Item"}})

    def _problem(self, order: dict[str, Any]) -> str | None:
        for name in _NEEDED:
            if not order.get(name):
                return f"Enter {name}"
        if order["SoldToParty"] not in self.customers:
            return f"Sold-to party {order['SoldToParty']} does not exist"
        for item in order.get("to_Item", []):
            if item.get("Material") not in self.articles:
                return f"Material {item.get('Material')} is not defined for sales org."
            if not isinstance(item.get("RequestedQuantity"), str):
                return "Property 'RequestedQuantity' has invalid value: Edm.Decimal is written as a text"
        return None

    async def _find(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = conditions(request.query.get("$filter", ""))
            return said(200, {"d": {"results": [order for order in self.made if matches(order, wanted)]}})
        except BadFilter as error:
            return self.refusal(400, str(error))

    def stranger(self, request: web.Request) -> web.Response | None:
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return None if request.headers.get("Authorization") == f"Basic {pair}" else web.Response(status=401, text="Logon failed")


def _price(item: dict[str, Any]) -> Decimal:
    """Return an item's price condition, which is for one unit."""
    try:
        return Decimal(item["to_PricingElement"][0]["ConditionRateValue"])
    except (KeyError, IndexError, InvalidOperation):
        return Decimal(0)
