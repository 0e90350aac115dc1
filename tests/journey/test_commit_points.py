"""An order from each door to its acknowledgement, the process killed right after every commit point on the way.

After the kill nobody has heard of what was committed: the sender got no answer, the ERP's answer went nowhere, the vendor's
confirmation was not noted. Then the gateway is started again, the vendor does what it would do, and the ERP is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.testing import ErpSimulator
from tests import acme

from .process import process, send_until_taken

# The transitions of one order's life, in their order (STYLE.md section 3).
COMMIT_POINTS = [
    "register:1",
    "accept:1",
    "lease_inbox:1",
    "prepared:1",
    "lease_outbox:1",
    "settle_outbox:1",
    "lease_acknowledgements:1",
    "settle_acknowledgements:1",
    "lease_acknowledgements:2",
    "settle_acknowledgements:2",
]


def long(*points: str) -> list[Any]:
    return [pytest.param(point, marks=pytest.mark.long) for point in points]


class Vendor:
    """Takes marks, and serves the orders that the poll door asks for."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, str]] = []
        self.waiting: list[str] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        marks = [(mark[0], mark[1]) for mark in await request.json()]
        self.marks += marks
        return web.json_response([mark[0] for mark in marks])

    async def page(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after") or 0)
        return web.json_response({"orders": self.waiting[after : after + 2], "next": min(after + 2, len(self.waiting))})


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    vendor = Vendor()
    application = web.Application()
    application.router.add_post("/marks", vendor.take)
    application.router.add_get("/orders", vendor.page)
    server = TestServer(application)
    await server.start_server()
    vendor.url = str(server.make_url("")).rstrip("/")
    yield vendor
    await server.close()


def settings(vendor: Vendor, **more: Any) -> str:
    lines = [f'base_url = "{vendor.url}"', 'acknowledge = ["stored", "delivered"]', *(f"{name} = {value}" for name, value in more.items())]
    return "\n".join(lines)


async def wait_until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def same_key_same_bytes(erp: ErpSimulator) -> bool:
    return all(len({heard.body for heard in erp.heard if heard.key == key}) == 1 for key in erp.orders)


@pytest.mark.parametrize("point", COMMIT_POINTS)
async def test_webhook_to_acknowledgement_survives_a_kill_after(tmp_path: Path, erp: ErpSimulator, vendor: Vendor, point: str) -> None:
    async with process(tmp_path, erp.url, "--die-after", point, settings=settings(vendor)) as gateway, aiohttp.ClientSession() as session:
        await gateway.start("dying")
        sending = asyncio.create_task(send_until_taken(session, gateway, acme.body("o1")))
        await gateway.gone()
        await gateway.start()
        await asyncio.wait_for(sending, 30)
        await erp.wait_for(1)
        await wait_until(lambda: len(set(vendor.marks)) == 2)
    assert list(erp.orders) == ["acme/o1/1"]
    assert same_key_same_bytes(erp)
    assert set(vendor.marks) == {("o1", "stored"), ("o1", "delivered")}


@pytest.mark.parametrize("point", ["accept:2", *long("accept:1", "accept:3", "prepared:1", "settle_outbox:2", "settle_acknowledgements:1")])
async def test_poll_to_acknowledgement_survives_a_kill_after(tmp_path: Path, erp: ErpSimulator, vendor: Vendor, point: str) -> None:
    vendor.waiting = [f"o{n}" for n in range(5)]
    more = settings(vendor, polls="true", poll_interval_s=0.2)
    async with process(tmp_path, erp.url, "--die-after", point, settings=more) as gateway:
        await gateway.start("dying")
        await gateway.gone()
        await gateway.start()
        await erp.wait_for(5)
        await wait_until(lambda: len(set(vendor.marks)) == 10)
    assert sorted(erp.orders) == [f"acme/o{n}/1" for n in range(5)]
    assert same_key_same_bytes(erp)


@pytest.mark.parametrize("point", ["settle_inbox:1", "prepared:2", *long("lease_inbox:2", "settle_outbox:2")])
async def test_a_revision_survives_a_kill_after(tmp_path: Path, erp: ErpSimulator, vendor: Vendor, point: str) -> None:
    policy = "hold" if point.startswith("settle_inbox") else "send"
    parts: dict[str, Any] = {"settings": settings(vendor), "source": f'on_revision = "{policy}"'}
    async with process(tmp_path, erp.url, "--die-after", point, **parts) as gateway, aiohttp.ClientSession() as session:
        await gateway.start("dying")

        async def send() -> None:
            await send_until_taken(session, gateway, acme.body("o1", 1))
            await erp.wait_for(1)
            await send_until_taken(session, gateway, acme.body("o1", 2))

        sending = asyncio.create_task(send())
        await gateway.gone()
        await gateway.start()
        await asyncio.wait_for(sending, 30)
        if policy == "hold":
            control = aiohttp.UnixConnector(str(tmp_path / "data" / "control.sock"))
            async with aiohttp.ClientSession(connector=control) as operator:
                released = {"action": "release", "who": "anna", "keys": ["o1@2"]}
                async with operator.post("http://gateway/control", json=released) as answer:
                    assert (await answer.json())["result"][0]["problem"] is None
        await erp.wait_for(2)
    assert erp.sequence == ["acme/o1/1", "acme/o1/2"]
    assert [message["kind"] for message in erp.messages()] == ["order.placed", "order.revised"]
    assert same_key_same_bytes(erp)


async def test_a_day_without_the_erp_loses_nothing(tmp_path: Path, erp: ErpSimulator, vendor: Vendor) -> None:
    """The day is made of restarts while the ERP is away: each is a new life with what the last one left."""
    await erp.stop()
    target = "retry = { base_s = 0.01, cap_s = 0.05 }\nbreaker = { failures = 2, cooldown_s = 0.05 }"
    async with process(tmp_path, erp.url, settings=settings(vendor), target=target) as gateway, aiohttp.ClientSession() as session:
        for life in range(6):
            await gateway.start()
            await send_until_taken(session, gateway, acme.body(f"o{life}"))
            await gateway.kill()
        await erp.start()
        await gateway.start()
        await erp.wait_for(6)
        await wait_until(lambda: len(set(vendor.marks)) == 12)
