"""Dolibarr: a bare integer, separate lines, an order that is half done."""

from __future__ import annotations

from decimal import Decimal
from urllib.parse import quote

import pytest

from gateway.testing.erps import Dolibarr
from tests.erps.conftest import Connect, lines_of

API = "/api/index.php"
ORDER = {"socid": 7, "date": 1795200000, "ref_client": "PO-1", "ref_ext": "gw-1"}
LINE = {"fk_product": 3, "qty": 2, "subprice": Decimal("0.35")}


@pytest.fixture
async def client(connect: Connect):
    client = await connect(Dolibarr())
    client.headers = {"DOLAPIKEY": Dolibarr.key}
    return client


async def test_an_order_in_three_calls(client) -> None:
    status, id, _ = await client.ask("POST", f"{API}/orders", ORDER)
    assert (status, type(id)) == (200, int)
    assert isinstance((await client.ask("POST", f"{API}/orders/{id}/lines", LINE))[1], int)
    _, found, _ = await client.ask("GET", f"{API}/orders/ref_ext/gw-1")
    assert (len(found["lines"]), found["statut"], found["id"]) == (1, "0", str(id))
    assert (await client.ask("POST", f"{API}/orders/{id}/validate", {"notrigger": 0}))[0] == 200
    assert (await client.ask("POST", f"{API}/orders/{id}/validate", {"notrigger": 0}))[0] == 304
    assert lines_of(client.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]]
    assert client.erp.held()[0].state == "validated"


async def test_lines_in_the_create_depend_on_the_version(client) -> None:
    await client.ask("POST", f"{API}/orders", ORDER | {"lines": [LINE]})
    client.erp.takes_lines = True
    await client.ask("POST", f"{API}/orders", ORDER | {"lines": [LINE]})
    assert [len(held.lines) for held in client.erp.held()] == [0, 1]


async def test_the_external_reference_may_come_twice(client) -> None:
    for _ in range(2):
        assert (await client.ask("POST", f"{API}/orders", ORDER))[0] == 200
    assert len(client.erp.made) == 2


async def test_what_is_not_there_is_a_404(client) -> None:
    assert (await client.ask("GET", f"{API}/orders/ref_ext/gw-1"))[0] == 404
    assert (await client.ask("POST", f"{API}/orders/9/lines", LINE))[0] == 404


@pytest.mark.parametrize(("order", "status"), [({"date": 1}, 400), ({"socid": 999, "date": 1}, 500), ({"socid": 7, "date": "x"}, 500)])
async def test_it_says_400_for_a_missing_field_and_500_for_the_rest(client, order: dict[str, object], status: int) -> None:
    got, body, _ = await client.ask("POST", f"{API}/orders", order)
    assert (got, body["error"]["code"]) == (status, status)


async def test_codes_are_looked_up_by_a_filter(client) -> None:
    filters = quote("(t.ref:in:'SKU-1','SKU-2','NOPE')")
    _, found, _ = await client.ask("GET", f"{API}/products?sqlfilters={filters}")
    assert {row["ref"]: row["id"] for row in found} == {"SKU-1": "3", "SKU-2": "4"}
    assert (await client.ask("GET", f"{API}/products?sqlfilters={quote('(t.ref:in:(1))')}"))[0] == 400
    nobody = f"{API}/thirdparties?sqlfilters=" + quote("(t.code_client:=:'NOPE')")
    assert (await client.ask("GET", nobody))[:2] == (200, [])
    client.erp.empty_is_404 = True
    assert (await client.ask("GET", nobody))[0] == 404


async def test_it_wants_its_key(client) -> None:
    assert (await client.ask("POST", f"{API}/orders", ORDER, DOLAPIKEY="wrong"))[0] == 401
    assert (await client.ask("GET", f"{API}/status"))[0] == 200
