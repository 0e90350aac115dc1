"""ERPNext on Frappe's API v2: `token key:secret`, a document's `name` may be ours, 417 for what it will not have.

Facts: erp_targets.md section 2, after Frappe's documentation (REST API) and frappe `utils/response.py` (`report_error`: version 2
answers `{"errors": [{"type", "message", "exception"}]}`), frappe issue 34090 (`name`), erpnext pull request 36590 (`po_no`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, read, said

_TYPE = {401: "AuthenticationError", 403: "PermissionError", 404: "DoesNotExistError", 409: "DuplicateEntryError"}
_TYPE |= {417: "ValidationError", 429: "RateLimitExceededError", 503: "SessionStopped"}


class ErpNext(ErpServer):
    """`/api/v2/document/Sales Order`. Codes, not ids.

    Attributes:
        allow_multiple: Selling Settings, "Allow Multiple Sales Orders Against a Customer's Purchase Order"; off, a repeated `po_no`
            of one customer is refused.
    """

    title = "ERPNext"
    key, secret = "constructed-key", "constructed-erpnext-secret"
    company = "Example Ltd"

    def __init__(self) -> None:
        super().__init__()
        self.allow_multiple = True

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        return [
            ("POST", "/api/v2/document/{doctype}", "create", self._create),
            ("GET", "/api/v2/document/{doctype}", "find", self._list),
            ("GET", "/api/v2/document/{doctype}/{name:.+}", "find", self._get),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=order["name"],
                number=order["name"],
                reference=order.get("po_no") or "",
                customer=order["customer"],
                state=("draft", "submitted", "cancelled")[order["docstatus"]],
                lines=tuple(HeldLine(article=i["item_code"], quantity=_exact(i["qty"]), price=_exact(i["rate"])) for i in order["items"]),
            )
            for order in self.made
        ]

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        kind = code or _TYPE.get(status, "Exception")
        return said(
            status, {"errors": [{"type": kind, "message": message, "exception": f"Traceback\nfrappe.exceptions.{kind}: {message}"}]}
        )

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            order = read(await request.read())
        except ValueError:
            return self.refusal(417, "Invalid JSON")
        if "name" in order and any(order["name"] == known["name"] for known in self.made):
            return self.refusal(409, f"Sales Order {order['name']} already exists")
        if (problem := self._problem(order)) is not None:
            return self.refusal(417, problem, code="LinkValidationError" if problem.startswith("Could not find") else "")
        name = str(order.get("name") or f"SAL-ORD-2026-{self.new_id():05}")
        self.made.append({"docstatus": 0} | order | {"name": name})
        return said(200, {"data": self.made[-1]})

    def _problem(self, order: dict[str, Any]) -> str | None:
        if "<" in str(order.get("name", "")) or ">" in str(order.get("name", "")):
            return "Name cannot contain special characters like '<', '>'"
        if order.get("customer") not in self.customers:
            return f"Could not find Customer: {order.get('customer')}"
        if not order.get("items"):
            return "Error: Value missing for Sales Order: Items"
        for n, item in enumerate(order["items"], 1):
            if item.get("item_code") not in self.articles:
                return f"Could not find Row #{n}: Item Code: {item.get('item_code')}"
        try:
            date.fromisoformat(order.get("delivery_date") or "")
        except ValueError:
            return "Please enter Delivery Date"
        if not self.allow_multiple and order.get("po_no"):
            for known in self.made:
                if (known.get("po_no"), known["customer"]) == (order["po_no"], order["customer"]) and known["docstatus"] < 2:
                    return f"Sales Order {known['name']} already exists against Customer's Purchase Order {order['po_no']}"
        return None

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        found = next((order for order in self.made if order["name"] == name), None)
        return said(200, {"data": found}) if found is not None else self.refusal(404, f"Sales Order {name} not found")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        fields = json.loads(request.query.get("fields", '["name"]'))
        filters = json.loads(request.query.get("filters", "[]"))
        found = [order for order in self.made if all(_holds(order.get(field), operator, value) for field, operator, value in filters)]
        return said(200, {"data": [{field: order.get(field) for field in fields} for order in found], "has_next_page": False})

    def stranger(self, request: web.Request) -> web.Response | None:
        """Check the key, which follows the word `token`; `Bearer` means OAuth."""
        if request.headers.get("Authorization") != f"token {self.key}:{self.secret}":
            return self.refusal(401, "Authentication failed" if "Authorization" in request.headers else "Login to access")
        doctype = request.match_info.get("doctype", "Sales Order")
        return None if doctype == "Sales Order" else self.refusal(404, f"DocType {doctype} not found")


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    if operator in ("=", "!="):
        return bool((value == wanted) == (operator == "="))
    return value in wanted if operator == "in" else False


def _exact(value: Any) -> Decimal:
    return Decimal(str(value))
