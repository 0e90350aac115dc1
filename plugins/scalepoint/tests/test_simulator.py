"""The simulator refuses what Scalepoint's documents say it refuses."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from gateway_scalepoint.identity import JWT_BEARER, Pair
from gateway_scalepoint.simulator import ScalepointSimulator

from gateway.testing import ManualClock, Simulator


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def registered(simulator: ScalepointSimulator, pairs: Any) -> Pair:
    made: Pair = pairs("one")
    simulator.identity.registered[made.x5t] = made
    return made


def assertion(simulator: ScalepointSimulator, made: Pair, *, x5t: str | None = None, algorithm: str = "RS256", **changes: Any) -> str:
    at = int(simulator.now().timestamp())
    claims = {
        "iss": "example_supplier",
        "sub": "example_supplier",
        "aud": simulator.identity.audience,
        "jti": "1",
        "nbf": at,
        "exp": at + 60,
    }
    headers = {"x5t": made.x5t if x5t is None else x5t}
    return jwt.encode({**claims, **changes}, made.key, algorithm=algorithm, headers=headers)


async def token(session: aiohttp.ClientSession, simulator: ScalepointSimulator, signed: str, **changes: Any) -> tuple[int, Any]:
    form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": signed, "scope": "orders"}
    async with session.post(f"{simulator.address}/connect/token", data=form | changes) as answer:
        return answer.status, await answer.json()


def test_it_is_what_the_demo_expects(simulator: ScalepointSimulator) -> None:
    wanted: Simulator = simulator
    assert (wanted.title, wanted.acknowledged) == ("Scalepoint ClaimShop", None)


async def test_an_assertion_is_good_once(simulator: ScalepointSimulator, session: aiohttp.ClientSession, registered: Pair) -> None:
    signed = assertion(simulator, registered)
    status, answer = await token(session, simulator, signed)
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 3600)
    assert await token(session, simulator, signed) == (401, {"error": "invalid_client"})
    assert (await token(session, simulator, assertion(simulator, registered, jti="2")))[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example/token"},
        {"iss": "another"},
        {"sub": "another"},
        {"exp": 1711886400 - 31},
        {"nbf": 1711886400 + 31},
        {"jti": ""},
        {"x5t": "unknown"},
        {"algorithm": "RS512"},
    ],
    ids=str,
)
async def test_an_assertion_that_is_not_quite_right_is_an_invalid_client(
    simulator: ScalepointSimulator, session: aiohttp.ClientSession, registered: Pair, changes: dict[str, Any]
) -> None:
    assert await token(session, simulator, assertion(simulator, registered, **changes)) == (401, {"error": "invalid_client"})


async def test_a_key_that_is_not_registered_is_an_invalid_client(
    simulator: ScalepointSimulator, session: aiohttp.ClientSession, registered: Pair, pairs: Any
) -> None:
    assert (await token(session, simulator, assertion(simulator, pairs("two"))))[0] == 401
    assert (await token(session, simulator, assertion(simulator, pairs("two"), x5t=registered.x5t)))[0] == 401


async def test_tokens_are_for_one_scope_and_run_out(
    simulator: ScalepointSimulator, session: aiohttp.ClientSession, registered: Pair, clock: ManualClock
) -> None:
    one = simulator.new()
    _, answer = await token(session, simulator, assertion(simulator, registered))
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    order, receive = (simulator.settings()[key].partition("{")[0] for key in ("order_url", "receive_url"))

    async def get(url: str) -> int:
        async with session.get(url, headers=headers) as response:
            await response.read()
            return response.status

    assert [await get(order + one.event["orderToken"]), await get(order + "unknown"), await get(receive + "_1")] == [200, 404, 401]
    clock.advance(3600)
    assert await get(order + one.event["orderToken"]) == 401


async def test_it_runs_by_itself(tmp_path: Path) -> None:
    """Started by its command, it proves itself with what it wrote into the folder, and shows what to configure."""
    heard: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await heard.put((await request.read(), request.headers["Authorization"]))
        return web.json_response({})

    application = web.Application()
    application.router.add_post("/in/claims", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/in/claims"
    command = [sys.executable, "-m", "gateway_scalepoint.simulator", "--gateway", url, "--listen", "127.0.0.1:0", "--folder", str(tmp_path)]
    child = await asyncio.create_subprocess_exec(*command, "--script", stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            body, proof = await heard.get()
            assert child.stdout is not None
            said = [(await child.stdout.readline()).decode() for _ in range(3)]
    finally:
        child.terminate()
        await child.communicate()
        await runner.cleanup()
    assert proof == f"Bearer {(tmp_path / 'scalepoint-webhook').read_text().strip()}"
    assert json.loads(body)["eventType"] == "order_created"
    assert said[0].startswith("simulated Scalepoint at http://127.0.0.1:")
    assert said[1].startswith('order_url = "http://127.0.0.1:')
    assert (tmp_path / "scalepoint.jsonata").read_text("utf-8").startswith("/*")
