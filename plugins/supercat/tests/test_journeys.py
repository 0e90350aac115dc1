"""A whole gateway in this process against the simulated SuperCat and ERP, as configured for the demo."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import gateway_supercat
import pytest
from gateway_supercat.constructed import line
from gateway_supercat.simulator import SupercatSimulator

from gateway.service.gateway import Gateway
from gateway.testing import ErpSimulator, running_gateway


@pytest.fixture
async def live() -> AsyncIterator[SupercatSimulator]:
    """A simulator whose clock is the machine's, as the gateway's is."""
    async with SupercatSimulator() as simulator:
        yield simulator


@pytest.fixture
async def gateway(live: SupercatSimulator, erp: ErpSimulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    source = live.source(tmp_path)
    source["settings"]["poll_interval_s"] = 0.1
    async with running_gateway(gateway_supercat, source, tmp_path, erp.url, name="reps") as gateway:
        yield gateway


async def held(gateway: Gateway, count: int) -> list[Any]:
    rows: list[Any] = []
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while len(rows) < count:
            async with session.get(f"http://127.0.0.1:{gateway.pages.port}/api/inbox?status=held") as answer:
                rows = await answer.json()
    return rows


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_simulators_script_ends_as_it_says(gateway: Gateway, live: SupercatSimulator, erp: ErpSimulator) -> None:
    sent = await live.script("", "reps")
    placed = [one for one in sent if one.expected == "placed"]
    await erp.wait_for(len(placed))
    waiting = [one.order_ref for one in sent if one.expected == "held"]
    assert sorted(row["order_ref"] for row in await held(gateway, len(waiting))) == sorted(waiting)
    got = {m["order"]["order_ref"]: m["order"] for m in erp.messages()}
    assert {ref: (o["order_number"], len(o["lines"]), o["total"]) for ref, o in got.items()} == {
        one.order_ref: (one.order_number, one.lines, one.total) for one in placed
    }
    assert {flag for order in got.values() for flag in order["flags"]} == {"text_lines"}
    assert len(erp.messages()) == len(placed)
    assert {"placeholder_season": "Fall"}.items() <= next(o for o in got.values() if o["flags"])["extra"].items()
    await until(lambda: sum(one.order_ref in live.acknowledged for one in placed) >= len(placed) - 1)  # one is refused once
    assert [live.submitted[id].marked_by for id in live.history] == ["gateway", "gateway"]


async def test_case_3_in_a_running_gateway_neither_goes_that_came_together(
    gateway: Gateway, live: SupercatSimulator, erp: ErpSimulator
) -> None:
    pairs = [live.submit() for _ in range(20)]
    for first in pairs:
        live.submit(again=first, lines=[line(0, 4)])
    await held(gateway, len(pairs))
    other = live.submit()
    await erp.wait_for(1)
    assert [m["order"]["references"]["supercat_id"] for m in erp.messages()] == [str(other)]


async def test_orders_wait_while_the_erp_is_down_and_are_marked_when_it_has_them(
    gateway: Gateway, live: SupercatSimulator, erp: ErpSimulator
) -> None:
    await erp.stop()
    sent = [await live.place("", "reps") for _ in range(3)]
    await until(lambda: live.asked > 3)
    assert erp.orders == {}
    assert not {one.order_ref for one in sent} & set(live.acknowledged)
    await erp.start()
    await erp.wait_for(3)
    await until(lambda: {one.order_ref for one in sent} <= set(live.acknowledged))
    assert {m["order"]["order_ref"] for m in erp.messages()} == {one.order_ref for one in sent}


async def test_a_wrong_password_is_said_and_not_tried_again_until_somebody_says_so(
    gateway: Gateway, live: SupercatSimulator, erp: ErpSimulator
) -> None:
    async def ready(session: aiohttp.ClientSession) -> tuple[int, str]:
        async with session.get(f"http://127.0.0.1:{gateway.pages.port}/readyz") as answer:
            return answer.status, await answer.text()

    await until(lambda: live.asked > 0)
    live.password = "changed at SuperCat"
    live.submit()
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while (await ready(session))[0] == 200:
            await asyncio.sleep(0.02)
        for _ in range(4):
            gateway._runtime.pollers["reps"].resume()
            await asyncio.sleep(0.05)
        assert live.bad_sign_ins == 2
        status, said = await ready(session)
        assert (status, "refused the credentials 2 times" in said) == (503, True)
        live.password = "constructed-password"
        gateway._runtime.resume("reps")
        await erp.wait_for(1)
        while (await ready(session))[0] != 200:
            await asyncio.sleep(0.02)
