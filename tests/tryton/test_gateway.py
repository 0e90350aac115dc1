"""`etc/targets/tryton.toml` through a real gateway into the real Tryton."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.api.order import Customer
from tests.erps.shop import HASTE, Shop, installed, line, order
from tests.tryton.client import TrytonClient
from tests.tryton.conftest import LONG
from tests.tryton.server import TrytonServer
from tests.tryton.tap import Tap

pytestmark = LONG


@pytest.fixture
async def tap(trytond: TrytonServer) -> AsyncIterator[Tap]:
    async with Tap(trytond.port) as tap:
        yield tap


@pytest.fixture
async def shop(trytond: TrytonServer, tap: Tap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "tryton-key").write_text(trytond.key + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    haste = HASTE | {"read_timeout_s": "2", "settle_s": "3"}
    async with Shop(installed(tmp_path, "tryton", {"base": f"{tap.address}/erp/rest/model"}, haste=haste)) as shop:
        yield shop


async def lines_of(real: TrytonClient, sale: int) -> set[tuple[str, float, str]]:
    lines = await real.find("sale.line", [["sale", "=", sale]], "quantity", "unit_price", "product.code")
    return {(one["product"]["code"], one["quantity"], one["unit_price"]["decimal"]) for one in lines}


async def test_an_order_becomes_a_quoted_sale(shop: Shop, real: TrytonClient) -> None:
    await shop.place(order("GW-1", line(), line(2, "SKU-2", "3", "12.3456"), line(3, "KG-1", "0.125", "8"), notes='Zoë "x" \\ 😀'))
    (row,) = await shop.settled(1)
    assert row["outcome"] == "delivered", row
    (sale,) = await real.sales("GW-1")
    assert (sale["state"], bool(sale["number"]), row["erp_id"]) == ("quotation", True, str(sale["id"]))
    assert await lines_of(real, sale["id"]) == {("SKU-1", 2.0, "0.3500"), ("SKU-2", 3.0, "12.3456"), ("KG-1", 0.125, "8")}


@pytest.mark.parametrize("number", ["GW'2", 'GW "2" \\ 2', "GW/2&x=2#3?%41", "GW-😀-é"])
async def test_any_order_number_is_found_again(shop: Shop, real: TrytonClient, number: str) -> None:
    await shop.place(order(number))
    await shop.settled(1)
    await shop.place(replace(order(number), order_ref="another"))
    rows = await shop.settled(2)
    assert [row["status"] for row in rows] == ["done", "held"]
    assert len(await real.sales(number)) == 1


@pytest.mark.parametrize("mark", [b"POST /erp/rest/model/sale.sale?", b"/quote?", b"GET /erp/rest/model/sale.sale?"])
async def test_one_sale_whatever_request_a_stalled_server_has_in_its_socket(
    shop: Shop, real: TrytonClient, trytond: TrytonServer, tap: Tap, mark: bytes
) -> None:
    """SIGSTOP, then the request arrives; SIGCONT when the gateway has given up on it: exactly one sale (erp_targets.md 7, test 1)."""
    number = f"GW-stalled-{mark.decode()}"
    tap.spring(mark, trytond.pause)
    try:
        await shop.place(order(number))
        await asyncio.wait_for(tap.sprung.wait(), 20)
        await asyncio.sleep(3)  # past read_timeout_s
        assert [row["status"] for row in await shop.rows()] != ["done"]
    finally:
        trytond.resume()
    rows = await shop.settled(1, timeout_s=30)
    assert [row["status"] for row in rows] == ["done"], rows
    (sale,) = await real.sales(number)
    assert (sale["state"], bool(sale["number"])) == ("quotation", True)


async def test_what_tryton_refuses_is_refused_in_its_words(shop: Shop, real: TrytonClient) -> None:
    await shop.place(order("GW-half", line(quantity="0.5")))
    await shop.place(order("GW-unknown", line(), line(2, "NOPE")))
    await shop.place(order("GW-nobody", customer=Customer(number="C-999")))
    rows = await shop.settled(3)
    assert [row["status"] for row in rows] == ["dead", "dead", "dead"], rows
    reasons = [row["reason"] for row in rows]
    assert 'for field "Quantity"' in await shop.words(rows[0]["row"])
    assert "line 2" in reasons[1]
    assert "NOPE" in reasons[1]
    assert "C-999" in reasons[2]
    assert await real.sales("GW-half") == []


async def test_a_change_waits_for_a_person(shop: Shop, real: TrytonClient) -> None:
    await shop.place(order("GW-changed"))
    await shop.settled(1)
    await shop.place(order("GW-changed", line(quantity="3"), revision=2))
    rows = await shop.settled(2)
    assert rows[1]["status"] == "held", rows[1]
    assert len(await real.sales("GW-changed")) == 1
