"""Dynamics 365 Business Central, API v2.0: OAuth2 client credentials, OData, an order with its lines in one request.

Facts: erp_targets.md section 2, after Microsoft Learn (Create salesOrders, salesOrderLines, API limits, OData error codes).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, is_number, read, said
from gateway.testing.erps.odata import BadFilter, conditions, matches

_CODE = {401: "Authentication_InvalidCredentials", 403: "Authorization_RequestDenied", 404: "BadRequest_ResourceNotFound"}
_CODE |= {400: "BadRequest", 429: "Application_TooManyRequests", 503: "Internal_ServerError", 504: "Internal_OperationTimeout"}
_FIELDS = {"customerNumber", "externalDocumentNumber", "orderDate", "requestedDeliveryDate", "currencyCode", "salesOrderLines"}
_LINE_FIELDS = {"lineType", "lineObjectNumber", "description", "quantity", "unitPrice", "unitOfMeasureCode", "sequence"}
_LONGEST_NUMBER = 35


class BusinessCentral(ErpServer):
    """Token endpoint and company API on one address. `externalDocumentNumber` may repeat.

    Attributes:
        token_s: How long a token lives.
    """

    title = "Business Central"
    tenant = "11111111-2222-3333-4444-555555555555"
    company = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    scope = "https://api.businesscentral.dynamics.com/.default"
    client_id, client_secret = "constructed-client", "constructed-bc-secret"

    def __init__(self) -> None:
        super().__init__()
        self.token_s = 3600
        self._tokens: set[str] = set()

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        orders = f"/v2.0/{self.tenant}/production/api/v2.0/companies({self.company})/salesOrders"
        return [
            ("POST", f"/{self.tenant}/oauth2/v2.0/token", "token", self._token),
            ("POST", orders, "create", self._create),
            ("GET", orders, "find", self._find),
            ("GET", orders.removesuffix("/salesOrders"), "check", self._company),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=order["id"],
                number=order["number"],
                reference=order["externalDocumentNumber"],
                customer=order["customerNumber"],
                state=order["status"],
                lines=tuple(
                    HeldLine(article=line["lineObjectNumber"], quantity=Decimal(line["quantity"]), price=Decimal(line["unitPrice"]))
                    for line in order["salesOrderLines"]
                ),
            )
            for order in self.made
        ]

    def expire_tokens(self) -> None:
        """End all tokens."""
        self._tokens.clear()

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        wait = {"Retry-After": "1"} if status == 429 else None
        error = {"code": code or _CODE.get(status, "Unknown"), "message": f"{message}  CorrelationId:  {uuid.UUID(int=len(self.asked))}."}
        return said(status, {"error": error}, wait)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        given = dict(await request.post())
        wanted = {"grant_type": "client_credentials", "scope": self.scope}
        if any(given.get(name) != value for name, value in wanted.items()):
            return said(400, {"error": "invalid_request", "error_description": "AADSTS900144"})
        if (given.get("client_id"), given.get("client_secret")) != (self.client_id, self.client_secret):
            return said(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
        token = f"constructed-token-{self.new_id()}"
        self._tokens.add(token)
        return said(200, {"token_type": "Bearer", "expires_in": self.token_s, "access_token": token})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            order = read(await request.read())
        except ValueError:
            return self.refusal(400, "Invalid JSON.")
        if (problem := self._problem(order)) is not None:
            return self.refusal(400, problem[1], code=problem[0])
        id, number = str(uuid.UUID(int=self.new_id())), f"S-ORD{101000 + self.new_id()}"
        self.made.append(order | {"id": id, "number": number, "status": "Draft", "salesOrderLines": order.get("salesOrderLines", [])})
        return said(201, {"@odata.etag": 'W/"constructed"'} | self.made[-1])

    def _problem(self, order: dict[str, Any]) -> tuple[str, str] | None:
        for name in order.keys() - _FIELDS:
            return "BadRequest", f"The property '{name}' does not exist on type 'Microsoft.NAV.salesOrder'."
        if order.get("customerNumber") not in self.customers:
            return (
                "Internal_RecordNotFound",
                f"The field Customer No. of table Sales Header contains a value ({order.get('customerNumber')})",
            )
        if len(order.get("externalDocumentNumber", "")) > _LONGEST_NUMBER:
            return (
                "Application_StringExceededLength",
                f"The length of the string must be less than or equal to {_LONGEST_NUMBER} characters.",
            )
        for line in order.get("salesOrderLines", []):
            for name in line.keys() - _LINE_FIELDS:
                return "BadRequest", f"The property '{name}' does not exist on type 'Microsoft.NAV.salesOrderLine'."
            if line.get("lineObjectNumber") not in self.articles:
                return "Application_DialogException", f"The Item does not exist. No.='{line.get('lineObjectNumber')}'"
            for name in ("quantity", "unitPrice"):
                if not is_number(line.get(name)):
                    return "BadRequest", f"Cannot convert the literal of '{name}' to the expected type 'Edm.Decimal'."
        return None

    async def _find(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = conditions(request.query.get("$filter", ""))
            found = [order for order in self.made if matches(order, wanted)]
        except BadFilter as error:
            return self.refusal(400, str(error))
        return said(200, {"@odata.context": "constructed", "value": found})

    async def _company(self, request: web.Request) -> web.StreamResponse:
        return said(200, {"id": self.company, "name": "Example"})

    def stranger(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return None if token in self._tokens else self.refusal(401, "The credentials provided are incorrect")
