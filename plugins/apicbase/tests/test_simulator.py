"""The simulator refuses what Apicbase's documents say it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gateway_apicbase.settings import LIST_PATH
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway.testing import ManualClock, Simulator


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def token(session: aiohttp.ClientSession, simulator: ApicbaseSimulator, **changes: Any) -> tuple[int, Any]:
    fields = {"grant_type": "client_credentials", "client_id": simulator.client_id, "client_secret": simulator.client_secret}
    form = fields | {"scope": "supplier"} | changes
    async with session.post(f"{simulator.address}/oauth/token/", data=form) as answer:
        return answer.status, await answer.json()


async def call(session: aiohttp.ClientSession, simulator: ApicbaseSimulator, method: str = "GET", bearer: str = "", **more: Any) -> Any:
    if not bearer:
        bearer = (await token(session, simulator))[1]["access_token"]
    url = f"{simulator.address}/{LIST_PATH}"
    async with session.request(method, url, headers={"Authorization": f"Bearer {bearer}"}, **more) as answer:
        return answer.status, await answer.json(), answer.headers


def test_it_is_what_the_demo_expects(simulator: ApicbaseSimulator) -> None:
    wanted: Simulator = simulator
    assert wanted.title == "Apicbase"


async def test_tokens_last_a_week_and_are_for_the_right_client_only(simulator: ApicbaseSimulator, session: aiohttp.ClientSession) -> None:
    status, answer = await token(session, simulator)
    assert (status, answer["expires_in"], answer["token_type"], answer["scope"]) == (200, 604800, "Bearer", "supplier")
    for wrong in ({"client_secret": "x"}, {"client_id": "x"}, {"grant_type": "password"}, {"scope": "library"}):
        assert (await token(session, simulator, **wrong))[0] == 401
    assert (await call(session, simulator, bearer=answer["access_token"]))[0] == 200
    assert (await call(session, simulator, bearer="made-up"))[0] == 401
    simulator.expire_tokens()
    assert (await call(session, simulator, bearer=answer["access_token"]))[0] == 401


async def test_list_is_newest_first_and_ten_a_page_unless_asked_otherwise(
    simulator: ApicbaseSimulator, session: aiohttp.ClientSession, clock: ManualClock
) -> None:
    ids = [simulator.enlist(simulator.new(ordered_on=clock.now() + timedelta(seconds=n))) for n in range(250)]
    _, page, _ = await call(session, simulator)
    assert [row["id"] for row in page["results"]] == ids[::-1][:10]
    assert (page["count"], page["previous"]) == (250, None)
    assert "page=2" in page["next"]
    _, page, _ = await call(session, simulator, params={"ordering": "ordered_on", "page_size": "500"})
    assert [row["id"] for row in page["results"]] == ids[:200]
    after = {"ordering": "ordered_on", "ordered_on__gt": simulator.listed[ids[247]].order["ordered_on"]}
    _, page, _ = await call(session, simulator, params=after)
    assert [row["id"] for row in page["results"]] == ids[248:]
    assert page["next"] is None
    simulator.deliver(ids[0])
    _, page, _ = await call(session, simulator, params={"status": "DELIVERED"})
    assert [row["id"] for row in page["results"]] == ids[:1]
    assert (await call(session, simulator, params={"page": "26"}))[0] == 404


async def test_marks_are_one_way(simulator: ApicbaseSimulator, session: aiohttp.ClientSession) -> None:
    id = simulator.enlist(simulator.new())
    status, answer, _ = await call(session, simulator, "PATCH", json={"id": id, "fetched_by_supplier": True})
    assert (status, answer["fetched_by_supplier_at"]) == (200, "2024-03-31T12:00:00Z")
    assert (await call(session, simulator, "PATCH", json={"id": id, "fetched_by_supplier": False}))[0] == 400
    assert json.loads(simulator.listed[id].text())["fetched_by_supplier"] is True
    assert (await call(session, simulator, "PATCH", json={"id": "unknown", "viewed_by_supplier": True}))[0] == 404


async def test_more_than_a_hundred_calls_a_minute_are_a_429(simulator: ApicbaseSimulator, session: aiohttp.ClientSession) -> None:
    _, answer = await token(session, simulator)
    got = [await call(session, simulator, bearer=answer["access_token"]) for _ in range(100)]
    assert [status for status, _, _ in got] == [200] * 99 + [429]
    assert 1 <= int(got[-1][2]["Retry-After"]) <= 60


async def test_a_customer_keeps_pressing_send_while_nothing_answers(simulator: ApicbaseSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_apicbase.simulator._PAUSE_S", 0)
    order = simulator.new()
    assert await simulator.press_send("http://127.0.0.1:9/in/apicbase", order) == "failed"
    assert simulator.listed == {}


async def test_it_runs_by_itself() -> None:
    """Started by its command, it signs with the secret of the environment and shows what to configure."""
    heard: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await heard.put((await request.read(), request.headers["X-APIC-WEBHOOK-SIGNATURE"]))
        return web.json_response({})

    application = web.Application()
    application.router.add_post("/in/apicbase", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    command = [sys.executable, "-m", "gateway_apicbase.simulator", "--gateway", f"http://127.0.0.1:{port}/in/apicbase", "--script"]
    child = await asyncio.create_subprocess_exec(
        *command,
        "--listen",
        "127.0.0.1:0",
        "--secret-env",
        "NAME",
        env=os.environ | {"NAME": "secret of the environment"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            body, signature = await heard.get()
            assert child.stdout is not None
            said = [(await child.stdout.readline()).decode() for _ in range(3)]
    finally:
        child.terminate()
        await child.communicate()
        await runner.cleanup()
    signer = ApicbaseSimulator()
    signer.webhook_secret = "secret of the environment"
    assert signature == signer.sign(body)
    assert said[0].startswith("simulated Apicbase at http://127.0.0.1:")
    assert said[1] == 'currency = "EUR"\n'
