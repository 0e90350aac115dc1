"""A hand-made client of Tryton's REST application: aiohttp, and nothing of ours."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any

import aiohttp
from yarl import URL

_numbers = count(1)


def tagged(number: str) -> dict[str, str]:
    """Money as Tryton wants it."""
    return {"__class__": "Decimal", "decimal": number}


def day(year: int, month: int, number: int) -> dict[str, Any]:
    return {"__class__": "date", "year": year, "month": month, "day": number}


def encoded(value: Any, *, padded: bool = True) -> str:
    """JSON in base64url; Tryton wants the `=` at the end."""
    text = base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    return text if padded else text.rstrip("=")


class TrytonClient:
    """Asks, and gives back status and body: JSON decoded, a page as its text."""

    def __init__(self, models: str, key: str) -> None:
        self.models = models
        self.headers = {"Authorization": f"Bearer {key}", "X-Tryton-Context": encoded({"company": 1})}
        self._ids: dict[tuple[str, str], dict[str, Any]] = {}

    async def __aenter__(self) -> TrytonClient:
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = self.headers | {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        async with self.session.request(method, URL(f"{self.models}/{path}", encoded=True), data=data, headers=sent) as answer:
            return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())

    async def find(self, model: str, domain: list[Any], *fields: str) -> list[dict[str, Any]]:
        status, found = await self.ask("GET", f"{model}?d={encoded(domain)}" + "".join(f"&f={field}" for field in fields))
        assert status == 200, found
        return list(found)

    async def row(self, model: str, code: str, *fields: str) -> dict[str, Any]:
        """The one row with this code."""
        if (model, code) not in self._ids:
            (self._ids[model, code],) = await self.find(model, [["code", "=", code]], "code", *fields)
        return self._ids[model, code]

    async def sales(self, reference: str, customer: str = "C-100") -> list[dict[str, Any]]:
        domain = [["reference", "=", reference], ["party.code", "=", customer], ["state", "!=", "cancelled"]]
        return await self.find("sale.sale", domain, "number", "state", "reference")

    async def line(self, code: str = "SKU-1", quantity: Any = 2, price: Any = "0.3500", **more: Any) -> dict[str, Any]:
        article = await self.row("product.product", code, "sale_uom")
        money = tagged(price) if isinstance(price, str) else price
        return {"product": article["id"], "unit": article["sale_uom"], "quantity": quantity, "unit_price": money} | more

    async def sale(self, reference: str | None = None, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The body of an order of C-100; a reference of its own where none is given."""
        party = await self.row("party.party", "C-100", "addresses")
        currency = await self.row("currency.currency", "EUR")
        return {
            "company": 1,
            "party": party["id"],
            "invoice_address": party["addresses"][0],
            "shipment_address": party["addresses"][0],
            "currency": currency["id"],
            "reference": reference or f"PO-{next(_numbers)}",
            "sale_date": day(2026, 11, 24),
            "lines": [["create", list(lines) or [await self.line()]]],
        } | more

    async def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        return await self.ask("POST", "sale.sale?f=number&f=state&f=reference", body)

    async def press(self, id: int, button: str) -> tuple[int, Any]:
        return await self.ask("POST", f"sale.sale/{id}/{button}?f=state&f=number", {})
