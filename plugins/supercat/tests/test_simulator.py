"""The simulator does what SuperCat's documents say it does, and fails in every way that vendors/supercat.md names."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from gateway_supercat.simulator import SupercatSimulator

from gateway.testing import Simulator

PATH = "ext/v2/orders/new_orders"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def call(
    session: aiohttp.ClientSession,
    simulator: SupercatSimulator,
    method: str = "GET",
    path: str = f"demo/{PATH}",
    password: str = "constructed-password",
    **more: Any,
) -> tuple[int, Any]:
    auth = aiohttp.encode_basic_auth("gateway", password)
    url = f"{simulator.address}/{path}"
    async with session.request(method, url, headers={"Authorization": auth}, allow_redirects=False, **more) as answer:
        body = await answer.read()
        return answer.status, json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body


def test_it_is_what_the_demo_expects(simulator: SupercatSimulator) -> None:
    wanted: Simulator = simulator
    assert (wanted.title, wanted.doors) == ("SuperCat eCat", ("poll",))


async def test_the_list_has_every_order_that_was_not_marked_and_forgets_none(
    simulator: SupercatSimulator, session: aiohttp.ClientSession
) -> None:
    assert await call(session, simulator) == (200, {"status": "success", "error": None, "data": []})
    first, second = simulator.submit(), simulator.submit()
    again = simulator.submit(again=first)
    for _ in range(2):
        status, answer = await call(session, simulator)
        assert (status, [one["id"] for one in answer["data"]]) == (200, [again, second, first])
    family = [simulator.submitted[id].record for id in (first, again)]
    assert family[1]["order_number"] == family[0]["order_number"] + "-1"
    assert family[1]["uuid"] == family[0]["uuid"]
    number = family[0]["order_number"]
    assert await call(session, simulator, "POST", json=[number, "unknown"]) == (
        200,
        {
            "status": "success",
            "error": None,
            "data": {number: {"success": True}, "unknown": {"success": False, "error": "constructed: no such order"}},
        },
    )
    assert [one["id"] for one in (await call(session, simulator))[1]["data"]] == [again, second]
    assert simulator.acknowledged == {family[0]["uuid"].lower()}
    simulator.reflag(first)
    assert len((await call(session, simulator))[1]["data"]) == 3
    simulator.another_poller()
    assert (await call(session, simulator))[1]["data"] == []
    assert simulator.acknowledged == set()


async def test_a_single_order_is_had_by_its_id(simulator: SupercatSimulator, session: aiohttp.ClientSession) -> None:
    id = simulator.submit()
    assert await call(session, simulator, path=f"demo/ext/v2/orders/{id}.json") == (200, simulator.submitted[id].record)
    assert (await call(session, simulator, path="demo/ext/v2/orders/7.json"))[0] == 404


async def test_bad_sign_ins_lock_the_account(simulator: SupercatSimulator, session: aiohttp.ClientSession) -> None:
    assert (await call(session, simulator, password="wrong"))[0] == 401
    assert (await call(session, simulator, path=f"other/{PATH}"))[0] == 401
    assert (await call(session, simulator))[0] == 200
    for _ in range(3):
        assert (await call(session, simulator, password="wrong"))[0] == 401
    assert (await call(session, simulator))[0] == 401
    simulator.unlock()
    assert (await call(session, simulator))[0] == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_it_fails_once_in_each_way(simulator: SupercatSimulator, session: aiohttp.ClientSession, method: Any) -> None:
    simulator.submit()
    simulator.fail_next("failure", "error", "page", "sign_in", "redirect", "no_data", "bare", "unavailable", "truncated", method=method)
    more: Any = {"json": []} if method == "POST" else {}
    got = [await call(session, simulator, method, **more) for _ in range(8)]
    assert [status for status, _ in got] == [200, 500, 200, 200, 302, 200, 200, 503]
    assert got[0][1] == {"status": "failure", "error": "constructed: temporarily unavailable", "data": None}
    assert b'type="password"' in got[3][1]
    with pytest.raises(json.JSONDecodeError):
        await call(session, simulator, method, **more)
    simulator.fail_next("broken_off", method=method)
    with pytest.raises(aiohttp.ClientError):
        await call(session, simulator, method, **more)
    assert (await call(session, simulator, method, **more))[0] == 200


async def test_what_the_gateway_tells_is_not_heard_for_a_while(simulator: SupercatSimulator, session: aiohttp.ClientSession) -> None:
    simulator.acknowledging = False
    assert (await call(session, simulator, "POST", json=["x"]))[0] == 503


async def test_it_runs_by_itself(session: aiohttp.ClientSession) -> None:
    """Started by its command, it asks for the password of the environment and shows what to configure."""
    command = [sys.executable, "-m", "gateway_supercat.simulator", "--listen", "127.0.0.1:0", "--org", "acme", "--password-env", "NAME"]
    child = await asyncio.create_subprocess_exec(*command, env=os.environ | {"NAME": "of the environment"}, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(20):
            said = [(await child.stdout.readline()).decode() for _ in range(9)]
            address = said[0].split(" at ")[1].split(";")[0]
            headers = {"Authorization": aiohttp.encode_basic_auth("gateway", "of the environment")}
            async with session.get(f"{address}/acme/{PATH}", headers=headers) as answer:
                assert (await answer.json())["status"] == "success"
    finally:
        child.terminate()
        await child.communicate()
    assert said[1] == f'base_url = "{address}"\n'
    assert "start = { after_id = 999999 }\n" in said
    assert said[8].startswith("mapping = ")
