"""Odoo 19 and 18: the same models, two protocols."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.testing.erps import Odoo18, Odoo19
from tests.erps.conftest import Connect, lines_of


def values(reference: str = "PO-1", **more: Any) -> dict[str, Any]:
    line = {"product_id": 3, "product_uom_qty": 2, "price_unit": Decimal("0.35")}
    return {"partner_id": 7, "client_order_ref": reference, "order_line": [[0, 0, line]]} | more


@pytest.fixture
async def odoo19(connect: Connect):
    client = await connect(Odoo19())
    client.headers = {"Authorization": f"bearer {client.erp.key}"}
    return client


@pytest.fixture
async def odoo18(connect: Connect):
    return await connect(Odoo18())


async def call(client, model: str, method: str, *arguments: Any, key: str = Odoo18.key) -> dict[str, Any]:
    params = {"service": "object", "method": "execute_kw", "args": ["prod", 2, key, model, method, list(arguments)]}
    status, body, _ = await client.ask("POST", "/jsonrpc", {"jsonrpc": "2.0", "method": "call", "id": 5, "params": params})
    assert status == 200
    return body


async def test_19_creates_with_a_bare_list_of_ids(odoo19) -> None:
    status, ids, _ = await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values()]})
    assert (status, ids) == (200, [odoo19.erp.made[0]["id"]])
    assert lines_of(odoo19.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]]
    assert (odoo19.erp.held()[0].reference, odoo19.erp.held()[0].customer) == ("PO-1", "C-100")


async def test_19_takes_the_same_reference_twice_and_finds_both(odoo19) -> None:
    for _ in range(2):
        await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values()]})
    domain = [["client_order_ref", "=", "PO-1"], ["partner_id.ref", "=", "C-100"], ["state", "!=", "cancel"]]
    status, found, _ = await odoo19.ask("POST", "/json/2/sale.order/search_read", {"domain": domain, "fields": ["name", "state"]})
    assert status == 200
    assert [order["state"] for order in found] == ["draft", "draft"]


async def test_19_finds_ids_by_code(odoo19) -> None:
    body = {"domain": [["default_code", "in", ["SKU-1", "SKU-2", "NOPE"]]], "fields": ["default_code"]}
    _, found, _ = await odoo19.ask("POST", "/json/2/product.product/search_read", body)
    assert {row["default_code"]: row["id"] for row in found} == {"SKU-1": 3, "SKU-2": 4}


@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        ({"partner_id": False}, 422, "odoo.exceptions.ValidationError"),
        ({"partner_id": 999}, 404, "odoo.exceptions.MissingError"),
        ({"nonsense": 1}, 500, "builtins.ValueError"),
    ],
)
async def test_19_says_no_by_status_and_name(odoo19, change: dict[str, Any], status: int, name: str) -> None:
    got, error, _ = await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values(**change)]})
    assert (got, error["name"]) == (status, name)
    assert "Traceback" in error["debug"]
    assert odoo19.erp.made == []


async def test_19_wants_its_key_and_takes_a_new_one(odoo19) -> None:
    odoo19.erp.key = "rotated"
    status, error, _ = await odoo19.ask("POST", "/json/2/sale.order/search_read", {"domain": []})
    assert (status, error["message"]) == (401, "Invalid apikey")
    assert (await odoo19.ask("POST", "/json/2/sale.order/search_read", {"domain": []}, Authorization="Bearer rotated"))[0] == 200


async def test_19_locks_are_409(odoo19) -> None:
    odoo19.erp.arm("status", status=409)
    status, error, _ = await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values()]})
    assert (status, error["name"]) == (409, "odoo.exceptions.LockError")


async def test_19_confirms_once(odoo19) -> None:
    _, ids, _ = await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values()]})
    assert (await odoo19.ask("POST", "/json/2/sale.order/action_confirm", {"ids": ids}))[:2] == (200, True)
    status, error, _ = await odoo19.ask("POST", "/json/2/sale.order/action_confirm", {"ids": ids})
    assert (status, error["name"]) == (422, "odoo.exceptions.UserError")
    assert odoo19.erp.held()[0].state == "sale"


async def test_numbers_are_rounded_without_a_word(odoo19) -> None:
    line = {"product_id": 5, "product_uom_qty": Decimal("0.125"), "price_unit": Decimal("12.3456")}
    await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values(order_line=[[0, 0, line]])]})
    odoo19.erp.price_digits, odoo19.erp.quantity_digits = 4, 3
    await odoo19.ask("POST", "/json/2/sale.order/create", {"vals_list": [values(order_line=[[0, 0, line]])]})
    assert lines_of(odoo19.erp) == [
        [("KG-1", Decimal("0.13"), Decimal("12.35"))],
        [("KG-1", Decimal("0.125"), Decimal("12.3456"))],
    ]


async def test_18_answers_200_with_a_result(odoo18) -> None:
    body = await call(odoo18, "sale.order", "create", values())
    assert body == {"jsonrpc": "2.0", "id": 5, "result": odoo18.erp.made[0]["id"]}
    assert (await call(odoo18, "sale.order", "create", [values()]))["result"] == [odoo18.erp.made[1]["id"]]
    assert len(odoo18.erp.held()) == 2
    assert odoo18.erp.count("create") == 2


async def test_18_answers_200_with_an_error(odoo18) -> None:
    body = await call(odoo18, "sale.order", "create", values(partner_id=999))
    assert body["error"]["data"]["name"] == "odoo.exceptions.MissingError"
    assert "result" not in body
    refused = await call(odoo18, "sale.order", "create", values(), key="wrong")
    assert refused["error"]["data"]["name"] == "odoo.exceptions.AccessDenied"
    assert odoo18.erp.made == []


async def test_18_signs_in_by_the_common_service(odoo18) -> None:
    async def sign_in(key: str) -> Any:
        params = {"service": "common", "method": "authenticate", "args": ["prod", "gateway", key, {}]}
        return (await odoo18.ask("POST", "/jsonrpc", {"jsonrpc": "2.0", "method": "call", "params": params}))[1]["result"]

    assert (await sign_in(odoo18.erp.key), await sign_in("wrong")) == (2, False)


async def test_18_finds_by_reference(odoo18) -> None:
    await call(odoo18, "sale.order", "create", values("PO-'\"\\1"))
    found = await call(odoo18, "sale.order", "search_read", [["client_order_ref", "=", "PO-'\"\\1"]], ["name"])
    assert [row["id"] for row in found["result"]] == [odoo18.erp.made[0]["id"]]
