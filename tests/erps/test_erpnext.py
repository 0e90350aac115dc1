"""ERPNext: codes, an own name that is unique, 417."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from gateway.testing.erps import ErpNext
from tests.erps.conftest import Connect, lines_of

PATH = "/api/v2/document/Sales%20Order"


def order(**more: Any) -> dict[str, Any]:
    item = {"item_code": "SKU-1", "qty": 2, "rate": Decimal("0.3500")}
    return {"customer": "C-100", "po_no": "PO-1", "delivery_date": "2026-12-24", "items": [item]} | more


@pytest.fixture
async def client(connect: Connect):
    client = await connect(ErpNext())
    client.headers = {"Authorization": f"token {ErpNext.key}:{ErpNext.secret}"}
    return client


async def test_it_gives_a_name_or_takes_ours(client) -> None:
    status, body, _ = await client.ask("POST", PATH, order())
    assert (status, body["data"]["name"][:12], body["data"]["docstatus"]) == (200, "SAL-ORD-2026", 0)
    assert (await client.ask("POST", PATH, order(name="gw-1")))[1]["data"]["name"] == "gw-1"
    assert lines_of(client.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]] * 2


async def test_our_name_twice_is_a_409(client) -> None:
    await client.ask("POST", PATH, order(name="gw-1"))
    status, body, _ = await client.ask("POST", PATH, order(name="gw-1"))
    assert (status, body["errors"][0]["type"]) == (409, "DuplicateEntryError")
    assert len(client.erp.made) == 1


async def test_without_a_name_the_purchase_order_may_come_twice_unless_the_setting_forbids_it(client) -> None:
    for _ in range(2):
        assert (await client.ask("POST", PATH, order()))[0] == 200
    client.erp.allow_multiple = False
    status, body, _ = await client.ask("POST", PATH, order())
    assert status == 417
    assert "already exists against Customer's Purchase Order PO-1" in body["errors"][0]["message"]
    assert (await client.ask("POST", PATH, order(customer="C-200")))[0] == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"customer": "NOPE"}, "Could not find Customer: NOPE"),
        ({"items": [{"item_code": "NOPE", "qty": 1, "rate": 1}]}, "Could not find Row #1: Item Code: NOPE"),
        ({"items": []}, "Value missing"),
        ({"delivery_date": None}, "Please enter Delivery Date"),
    ],
)
async def test_what_is_wrong_with_an_order_is_a_417(client, change: dict[str, Any], says: str) -> None:
    status, body, _ = await client.ask("POST", PATH, order(**change))
    assert status == 417
    assert says in body["errors"][0]["message"]


async def test_the_word_before_the_key_is_token(client) -> None:
    assert (await client.ask("POST", PATH, order(), Authorization=f"Bearer {ErpNext.key}:{ErpNext.secret}"))[0] == 401


async def test_it_is_found_by_name_and_by_purchase_order(client) -> None:
    await client.ask("POST", PATH, order(name="gw-1", po_no="PO'1"))
    assert (await client.ask("GET", f"{PATH}/gw-1"))[1]["data"]["po_no"] == "PO'1"
    assert (await client.ask("GET", f"{PATH}/gw-2"))[0] == 404
    fields, filters = quote('["name"]'), quote('[["po_no","=","PO\'1"],["docstatus","!=",2]]')
    _, body, _ = await client.ask("GET", f"{PATH}?fields={fields}&filters={filters}")
    assert body["data"] == [{"name": "gw-1"}]
