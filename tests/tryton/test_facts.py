"""What Tryton 8.2 does with an order that comes over REST: asked of the real server, and of the simulator that stands in for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.tryton.client import TrytonClient, encoded, tagged


async def test_a_created_sale_is_a_draft_without_a_number(tryton: TrytonClient) -> None:
    status, sale = await tryton.create(await tryton.sale("PO-draft"))
    assert (status, sale["state"], sale["number"], sale["reference"]) == (200, "draft", None, "PO-draft")
    assert isinstance(sale["id"], int)


async def test_one_reference_makes_as_many_sales_as_it_is_sent(tryton: TrytonClient) -> None:
    for _ in range(2):
        assert (await tryton.create(await tryton.sale("PO-twice")))[0] == 200
    assert len(await tryton.sales("PO-twice")) == 2
    assert await tryton.sales("PO-twice", "C-200") == []


async def test_quoting_gives_the_number_and_works_once(tryton: TrytonClient) -> None:
    _, sale = await tryton.create(await tryton.sale())
    status, quoted = await tryton.press(sale["id"], "quote")
    assert (status, quoted["state"], bool(quoted["number"])) == (200, "quotation", True)
    status, error = await tryton.press(sale["id"], "quote")
    assert (status, 'You can not call "quote"' in error["message"]) == (400, True)
    assert (await tryton.press(sale["id"], "confirm"))[1]["state"] == "confirmed"


async def test_a_button_wants_a_body(tryton: TrytonClient) -> None:
    _, sale = await tryton.create(await tryton.sale())
    status, page = await tryton.ask("POST", f"sale.sale/{sale['id']}/quote")
    assert (status, "Unable to read JSON request" in page) == (400, True)


async def test_texts_come_through_as_they_are(tryton: TrytonClient) -> None:
    reference = "PO-\"\\😀'/1"
    assert (await tryton.create(await tryton.sale(reference, comment='Zoë "x" \\ 😀')))[1]["reference"] == reference
    assert len(await tryton.sales(reference)) == 1


async def test_codes_become_ids_in_one_call(tryton: TrytonClient) -> None:
    found = await tryton.find("product.product", [["code", "in", ["SKU-1", "KG-1", "NOPE"]]], "code", "sale_uom")
    assert {row["code"] for row in found} == {"SKU-1", "KG-1"}
    assert all(isinstance(row["id"], int) and isinstance(row["sale_uom"], int) for row in found)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"price": 1.1}, 'for field "Unit Price"'),
        ({"price": "12.34567"}, 'for field "Unit Price"'),
        ({"quantity": 0.125}, 'for field "Quantity"'),
        ({"unit": None}, 'A value is required for field "Unit"'),
        ({"product": 999}, 'for field "Product"'),
    ],
)
async def test_a_line_that_it_will_not_have_is_a_400_in_json(tryton: TrytonClient, line: dict[str, Any], says: str) -> None:
    status, error = await tryton.create(await tryton.sale(None, await tryton.line(**line)))
    assert status == 400
    assert set(error) == {"status", "message", "description"}
    assert says in error["message"]


async def test_four_decimals_of_a_price_and_three_of_a_kilogram_are_kept(tryton: TrytonClient) -> None:
    body = await tryton.sale("PO-exact", await tryton.line("KG-1", 0.125, "12.3456"))
    assert (await tryton.create(body))[0] == 200


async def test_money_may_be_a_text_but_not_a_number(tryton: TrytonClient) -> None:
    for price in ("1.1", 1):
        line = await tryton.line() | {"unit_price": price}
        assert (await tryton.create(await tryton.sale(None, line)))[0] == 200


async def test_a_quantity_may_be_tagged(tryton: TrytonClient) -> None:
    assert (await tryton.create(await tryton.sale(None, await tryton.line("KG-1", tagged("0.125")))))[0] == 200


@pytest.mark.parametrize("wrong", [{"nonsense": 1}, {"sale_date": "24.11.2026"}])
async def test_a_field_or_date_that_is_none_is_a_500_for_good(tryton: TrytonClient, wrong: dict[str, Any]) -> None:
    body = await tryton.sale("PO-broken", **wrong)
    for _ in range(2):
        status, page = await tryton.create(body)
        assert (status, "<h1>Internal Server Error</h1>" in page) == (500, True)
    assert await tryton.sales("PO-broken") == []


async def test_an_iso_date_is_as_good_as_a_tagged_one(tryton: TrytonClient) -> None:
    assert (await tryton.create(await tryton.sale(None, sale_date="2026-11-24")))[0] == 200


async def test_unreadable_json_is_a_400_in_html(tryton: TrytonClient) -> None:
    status, page = await tryton.ask("POST", "sale.sale", b'{"a":')
    assert (status, page.startswith("<!doctype html>")) == (400, True)


async def test_a_wrong_key_is_a_401_each_time_and_locks_nobody_out(tryton: TrytonClient) -> None:
    for _ in range(8):
        assert (await tryton.ask("GET", "party.party?f=code", Authorization="Bearer wrong"))[0] == 401
    assert (await tryton.ask("GET", "party.party?f=code"))[0] == 200


async def test_base64_without_its_padding_is_a_500(tryton: TrytonClient) -> None:
    domain = [["code", "=", "C-1000"]]
    assert encoded(domain).endswith("=")
    assert (await tryton.ask("GET", f"party.party?f=code&d={encoded(domain)}"))[0] == 200
    assert (await tryton.ask("GET", f"party.party?f=code&d={encoded(domain, padded=False)}"))[0] == 500
    context = encoded({"company": 1}, padded=False)
    assert (await tryton.ask("GET", f"party.party?f=code&d={encoded(domain)}", X_Tryton_Context=context))[0] == 500


async def test_what_is_not_there_and_what_cannot_be_done(tryton: TrytonClient) -> None:
    assert (await tryton.press(999999, "quote"))[0] == 404
    _, sale = await tryton.create(await tryton.sale())
    assert (await tryton.ask("POST", f"sale.sale/{sale['id']}/explode", {}))[0] == 403
    assert (await tryton.ask("GET", "no.such.model?f=id"))[0] == 500


async def test_many_at_a_time_are_all_taken(tryton: TrytonClient) -> None:
    bodies = [await tryton.sale(f"PO-many-{n}") for n in range(16)]
    assert {status for status, _ in await asyncio.gather(*map(tryton.create, bodies))} == {200}
