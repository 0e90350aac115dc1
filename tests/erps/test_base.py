"""What every simulator can do to its client."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from gateway.testing.erps import ERPS, Dolibarr, ErpServer
from tests.erps.conftest import Connect

ORDER = {"socid": 7, "date": 1795200000, "ref_ext": "gw-1"}


@pytest.fixture
async def client(connect: Connect):
    client = await connect(Dolibarr())
    client.headers = {"DOLAPIKEY": client.erp.key}
    return client


@pytest.mark.parametrize("fault", ["lose_answer", "reset", "half_answer"])
async def test_it_takes_the_order_and_loses_the_answer(client, fault: str) -> None:
    client.erp.arm(fault)
    with pytest.raises(aiohttp.ClientError):
        await client.ask("POST", "/api/index.php/orders", ORDER)
    assert len(client.erp.made) == 1
    assert client.erp.asked[-1].status == 0


async def test_it_drops_a_request_unread(client) -> None:
    client.erp.arm("drop_before")
    with pytest.raises(aiohttp.ClientError):
        await client.ask("POST", "/api/index.php/orders", ORDER)
    assert client.erp.made == []


async def test_it_answers_a_status_without_doing_anything(client) -> None:
    client.erp.arm("status", status=429, headers={"Retry-After": "7"}, times=2)
    for _ in range(2):
        status, body, headers = await client.ask("POST", "/api/index.php/orders", ORDER)
        assert (status, headers["retry-after"], body["error"]["code"]) == (429, "7", 429)
    assert client.erp.made == []
    assert (await client.ask("POST", "/api/index.php/orders", ORDER))[0] == 200


async def test_a_fault_is_for_one_kind_of_request(client) -> None:
    client.erp.arm("status", status=503, on="find")
    assert (await client.ask("POST", "/api/index.php/orders", ORDER))[0] == 200
    assert (await client.ask("GET", "/api/index.php/orders/ref_ext/gw-1"))[0] == 503
    assert (await client.ask("GET", "/api/index.php/orders/ref_ext/gw-1"))[0] == 200
    assert (client.erp.count("create"), client.erp.count("find")) == (1, 2)


async def test_a_slow_one_goes_on_after_its_client_has_gone(client) -> None:
    client.erp.arm("slow", delay_s=0.2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.ask("POST", "/api/index.php/orders", ORDER)
    assert client.erp.made == []
    until = time.monotonic() + 5
    while not client.erp.made and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert len(client.erp.made) == 1


async def test_what_it_holds_outlives_a_stop(client) -> None:
    await client.ask("POST", "/api/index.php/orders", ORDER)
    address = client.erp.address
    await client.erp.stop()
    with pytest.raises(aiohttp.ClientError):
        await client.ask("POST", "/api/index.php/orders", ORDER)
    await client.erp.start()
    assert client.erp.address == address
    assert (await client.ask("GET", "/api/index.php/orders/ref_ext/gw-1"))[0] == 200


@pytest.mark.parametrize("name", ERPS)
def test_each_names_a_create_and_a_find(name: str) -> None:
    erp: ErpServer = ERPS[name]()
    named = {operation for _, _, operation, _ in erp.routes()}
    assert {"create", "find"} <= named or named == {"call"}
    assert erp.held() == []
