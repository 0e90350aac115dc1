"""Tryton's REST user application as trytond 8.2.1 was seen to answer (tests/tryton/ asks the real one the same things).

Ids, not codes; money as `{"__class__": "Decimal", "decimal": "0.35"}`; a user's mistake is a 400 in JSON, and a field that does not exist
or a date that is none a 500 in HTML, for good. `number` is null until the sale is quoted, and a button is not pressed twice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from html import escape
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, read, said

_SALE_FIELDS = {"company", "party", "invoice_address", "shipment_address", "currency", "reference", "sale_date", "lines", "comment"}
_SALE_FIELDS |= {"shipping_date", "description", "payment_term", "invoice_party", "shipment_party"}
_LINE_FIELDS = {"product", "unit", "quantity", "unit_price", "description", "note", "sequence", "type", "taxes"}
_BUTTONS = {"quote": ("draft", "quotation"), "confirm": ("quotation", "confirmed"), "cancel": ("draft", "cancelled")}
_PRICE_DIGITS = 4


class Tryton(ErpServer):
    """`/erp/rest/model/...` of one company, whose id is 1. `reference` may repeat."""

    title = "Tryton"
    database = "erp"
    key = "constructed-tryton-key"

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        model = f"/{self.database}/rest/model"
        return [
            ("POST", f"{model}/sale.sale", "create", self._create),
            ("GET", f"{model}/sale.sale", "find", self._search),
            ("POST", f"{model}/sale.sale/{{id}}/{{button}}", "step", self._press),
            ("GET", f"{model}/{{model}}", "codes", self._search),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=str(sale["id"]),
                number=sale["number"],
                reference=sale.get("reference") or "",
                customer=self.customer(sale["party"]) or "",
                state=sale["state"],
                lines=tuple(self._line(line) for line in sale["lines"]),
            )
            for sale in self.made
        ]

    def _line(self, line: dict[str, Any]) -> HeldLine:
        article = self.article(line["product"])
        assert article is not None
        return HeldLine(article=article.code, quantity=_decimal(line["quantity"]), price=_decimal(line["unit_price"]))

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        """400 of the application is JSON; every other status is a page."""
        if status == 400 and code != "html":
            return said(400, {"status": 400, "message": message, "description": ""})
        name = HTTPStatus(status).phrase
        page = f"<!doctype html>\n<html lang=en>\n<title>{status} {name}</title>\n<h1>{name}</h1>\n<p>{escape(message)}</p>\n"
        return web.Response(status=status, text=page, content_type="text/html")

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            sale = read(await request.read())
        except ValueError:
            return self.refusal(400, "Unable to read JSON request", code="html")
        try:
            made = self._checked(sale)
        except _UserError as error:
            return self.refusal(400, str(error))
        except _Broken as error:
            return self.refusal(500, str(error))
        self.made.append(made)
        return said(200, self._shown(made, request))

    def _checked(self, sale: dict[str, Any]) -> dict[str, Any]:
        for name in sale.keys() - _SALE_FIELDS:
            raise _Broken(f"'{name}'")
        try:
            day = sale.get("sale_date")
            if isinstance(day, str):
                date.fromisoformat(day)
            elif day is not None:
                date(*(day[part] for part in ("year", "month", "day")))
        except (ValueError, KeyError, TypeError):
            raise _Broken(f"Invalid isoformat string: {sale.get('sale_date')!r}") from None
        party = self.customer(sale.get("party"))
        for field, label in (("invoice_address", "Invoice Address"), ("shipment_address", "Shipment Address")):
            if party is None or (field in sale and sale[field] != _address(sale["party"])):
                record = f'in record "[{sale.get("reference")}]" of "Sale"'
                raise _UserError(f'The value "{sale.get(field)}" for field "{label}" {record} is not valid according to its domain.')
        if sale.get("currency", 1) not in self.currencies.values():
            raise _UserError('A value is required for field "Currency".')
        lines = [self._checked_line(line, sale) for command, given in sale.get("lines", []) if command == "create" for line in given]
        return sale | {"id": self.new_id(), "number": None, "state": "draft", "lines": lines}

    def _checked_line(self, line: dict[str, Any], sale: dict[str, Any]) -> dict[str, Any]:
        for name in line.keys() - _LINE_FIELDS:
            raise _Broken(f"'{name}'")
        article = self.article(line.get("product"))
        if article is None:
            raise _UserError(f'The value "{line.get("product")}" for field "Product" of "Sale Line" is not valid according to its domain.')
        record = f'in record "{line.get("quantity")} [{article.code}] {article.name} @ [{sale.get("reference")}]" of "Sale Line"'
        if not line.get("unit"):
            raise _UserError(f'A value is required for field "Unit" {record}.')
        for field, label, digits in (("quantity", "Quantity", article.decimals), ("unit_price", "Unit Price", _PRICE_DIGITS)):
            value = _as_server_reads(line.get(field), money=field == "unit_price")
            if value is None:
                raise _UserError(f'A value is required for field "{label}" {record}.')
            if value != round(value, digits):
                raise _UserError(
                    f'The number of digits in the value "\'{value}\'" for field "{label}" {record} exceeds the limit of "(None, {digits})".'
                )
        return dict(line)

    async def _press(self, request: web.Request) -> web.StreamResponse:
        try:
            read(await request.read())
        except ValueError:
            return self.refusal(400, "Unable to read JSON request", code="html")
        sale = next((sale for sale in self.made if str(sale["id"]) == request.match_info["id"]), None)
        if sale is None:
            return self.refusal(404, "The requested URL was not found on the server.")
        button = request.match_info["button"]
        if button not in _BUTTONS:
            return self.refusal(403, "You don't have the permission to access the requested resource.")
        before, after = _BUTTONS[button]
        if sale["state"] != before:
            return self.refusal(400, f'You can not call "{button}" on "{sale["number"]} [{sale.get("reference")}]" of "Sale".')
        sale |= {"state": after, "number": sale["number"] or str(len(self.made))}
        return said(200, self._shown(sale, request))

    async def _search(self, request: web.Request) -> web.StreamResponse:
        try:
            domain = read(base64.urlsafe_b64decode(request.query.get("d", "W10="))) if "d" in request.query else []
            base64.urlsafe_b64decode(request.headers.get("X-Tryton-Context", "e30="))
        except binascii.Error:
            return self.refusal(500, "Incorrect padding")
        model = request.match_info.get("model", "sale.sale")
        try:
            found = [row for row in self._rows(model) if all(_holds(row, *condition) for condition in domain)]
        except KeyError as error:
            return self.refusal(500, str(error))
        return said(200, [self._shown(row, request, model) for row in found])

    def _rows(self, model: str) -> list[dict[str, Any]]:
        if model == "party.party":
            return [{"id": id, "code": code, "name": code, "addresses": [_address(id)]} for code, id in self.customers.items()]
        if model == "product.product":
            return [{"id": a.id, "code": a.code, "name": a.name, "sale_uom": a.unit} for a in self.articles.values()]
        if model == "currency.currency":
            return [{"id": id, "code": code} for code, id in self.currencies.items()]
        if model == "sale.sale":
            return [sale | {"party.code": self.customer(sale["party"])} for sale in self.made]
        raise KeyError(model)

    def _shown(self, row: dict[str, Any], request: web.Request, model: str = "sale.sale") -> dict[str, Any]:
        return {"id": row["id"], "__name__": model} | {name: row.get(name) for name in request.query.getall("f", ["id"])}

    def stranger(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        return self.refusal(401, "The server could not verify that you are authorized to access the URL requested.")


class _UserError(Exception):
    """Tryton's own: 400 in JSON."""


class _Broken(Exception):
    """A Python error inside: 500 in HTML."""


def _address(party: int) -> int:
    return party + 100


def _decimal(value: Any) -> Decimal:
    return Decimal(value["decimal"]) if isinstance(value, dict) else Decimal(str(value))


def _as_server_reads(value: Any, *, money: bool) -> Decimal | None:
    """A number sent as a JSON number is a float to Tryton: 1.1 has 51 decimals, and as a price it is too long."""
    if value is None:
        return None
    try:
        return Decimal(float(value)) if money and isinstance(value, Decimal) else _decimal(value)
    except (InvalidOperation, KeyError):
        raise _Broken("[<class 'decimal.ConversionSyntax'>]") from None


def _holds(row: dict[str, Any], field: str, operator: str, value: Any) -> bool:
    found = row[field]
    if operator in ("=", "!="):
        return bool((found == value) == (operator == "="))
    if operator in ("in", "not in"):
        return (found in value) == (operator == "in")
    raise KeyError(operator)
