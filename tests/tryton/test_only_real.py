"""What only the real server can show: a stalled process, a context, a lock-out, JSON-RPC."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tests.tryton.client import TrytonClient
from tests.tryton.conftest import LONG
from tests.tryton.server import TrytonServer

pytestmark = LONG


async def test_an_order_whose_client_gave_up_is_made_all_the_same(real: TrytonClient, trytond: TrytonServer) -> None:
    """SIGSTOP while the request is in its socket, then SIGCONT: a timeout is no failure."""
    body = await real.sale("PO-stalled")
    trytond.pause()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await real.create(body)
    finally:
        trytond.resume()
    async with asyncio.timeout(10):
        while not await real.sales("PO-stalled"):
            await asyncio.sleep(0.05)
    assert len(await real.sales("PO-stalled")) == 1


async def test_what_was_written_is_what_it_holds(real: TrytonClient) -> None:
    body = await real.sale("PO-read", await real.line("KG-1", 0.125, "12.3456"), await real.line("SKU-2", 3, "1.25"))
    id = (await real.create(body))[1]["id"]
    lines = await real.find("sale.line", [["sale", "=", id]], "quantity", "unit_price", "product.code")
    got = {(line["product"]["code"], line["quantity"], line["unit_price"]["decimal"]) for line in lines}
    assert got == {("KG-1", 0.125, "12.3456"), ("SKU-2", 3.0, "1.25")}


async def test_without_company_in_header_and_body_there_is_no_right(real: TrytonClient) -> None:
    body = await real.sale()
    del body["company"]
    assert (await real.ask("POST", "sale.sale?f=company", body))[0] == 200
    status, error = await real.ask("POST", "sale.sale", body, X_Tryton_Context="e30=")
    assert (status, "You are not allowed to create records" in error["message"]) == (400, True)


async def test_the_key_as_a_password_works_and_then_locks_its_name_out(real: TrytonClient) -> None:
    """HTTP Basic with the key is a failed login each time: slower and slower, and after `max_attempt` 429."""
    basic = "Basic " + base64.b64encode(f"lockout:{real.headers['Authorization'].removeprefix('Bearer ')}".encode()).decode()
    statuses: list[int] = []
    async with asyncio.timeout(60):
        while 429 not in statuses and len(statuses) < 6:
            statuses.append((await real.ask("GET", "party.party?f=code", Authorization=basic))[0])
    assert (statuses[0], statuses[-1]) == (200, 429)
    assert (await real.ask("GET", "party.party?f=code"))[0] == 200


async def test_json_rpc_says_its_errors_in_a_200(real: TrytonClient, trytond: TrytonServer) -> None:
    async def rpc(method: str, parameters: list[object], **headers: str) -> dict[str, Any]:
        url, body = f"{trytond.address}/erp/rpc/", {"id": 1, "method": method, "params": parameters}
        async with real.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
            return dict(await answer.json())

    login = await rpc("common.db.login", ["gateway", {"password": "gateway-constructed-1"}, "en"])
    user, token, *_ = login["result"]
    session = base64.b64encode(f"gateway:{user}:{token}".encode()).decode()
    context = {"company": 1}
    made = await rpc("model.sale.sale.create", [[await real.sale("PO-rpc")], context], Authorization=f"Session {session}")
    assert made["result"] == [sale["id"] for sale in await real.sales("PO-rpc")]
    wrong = await real.sale("PO-rpc-2", await real.line(price="12.34567"))
    error = (await rpc("model.sale.sale.create", [[wrong], context], Authorization=f"Session {session}"))["error"]
    assert error[0] == "UserError"
