"""An ERP creates a pickup order through the door, the process killed after every commit point: one order, one mail to the patient.

The vendor is the plugin's simulator at its worst: it takes a number twice and makes two orders of it. The ERP does what the
contract says: it sends the same again under the same key until it is taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.testing import ErpSimulator
from gateway.testing.demo import simulators
from gateway.testing.toml import to_toml
from tests.ports import free_port

from .process import Process, driven
from .test_vendors import source

TOKEN = "token-of-the-erp-constructed"
# What the ERP has submitted, up to what the vendor's answer makes of the order for the ERP.
COMMIT_POINTS = ["accept_submission:1", "lease_submissions:1", "start_submission:1", "settle_submission:1", "prepared:1", "settle_outbox:1"]
ORDER = {
    "orderNumber": "RX-1",
    "customerDetails": {"fullName": "Constructed Person", "email": "person@example.org", "phoneNumber": "+49 30 000000"},
    "sendCustomerPickupMail": True,
    "articles": [{"scanCode": "4006381333931", "name": "Constructed", "quantityOrdered": 1}],
}


class Erp:
    """The ERP's side of the command API, and the cloud as a test sees it."""

    def __init__(self, gateway: Process, port: int, cloud: Any, session: aiohttp.ClientSession) -> None:
        self.gateway, self.cloud, self._session = gateway, cloud, session
        self._url = f"http://127.0.0.1:{port}"

    async def submit_command(self) -> str:
        """The id, once it is taken."""
        headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
        while True:
            status, said = await self._ask("POST", "/out/pickup_cloud/create_order", data=json.dumps(ORDER).encode(), headers=headers)
            if status in (200, 202):
                return str(said["id"])
            assert status in (0, 503), said
            await asyncio.sleep(0.01)

    async def done(self, id_: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                _, said = await self._ask("GET", f"/out/{id_}")
                if said and said["state"] in ("done", "dead", "held"):
                    return dict(said)
                await asyncio.sleep(0.05)

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        more["headers"] = {"Authorization": f"Bearer {TOKEN}", **more.get("headers", {})}
        try:
            async with self._session.request(method, self._url + path, timeout=aiohttp.ClientTimeout(total=10), **more) as answer:
                return answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None


@asynccontextmanager
async def whole(folder: Path, erp: ErpSimulator, *arguments: str) -> AsyncIterator[Erp]:
    cloud: Any = simulators()["pickup_cloud"]
    cloud.creations.duplicates = "twice"
    await cloud.start()
    port = free_port()
    caller = {"token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "commands": ["pickup_cloud/*"], "max_requests_per_second": 1000}
    tables: dict[str, Any] = {
        "submit": {"listen": f"127.0.0.1:{port}", "callers": {"erp": caller}},
        "targets": {"erp": {"url": erp.url}},
        "sources": {"pickup_cloud": source(cloud, folder)},
    }
    try:
        async with driven(folder, to_toml(tables), *arguments) as gateway, aiohttp.ClientSession() as session:
            yield Erp(gateway, port, cloud, session)
    finally:
        await cloud.stop()


def one_order(side: Erp, erp: ErpSimulator) -> bool:
    """What every journey ends with, and its mutant does not."""
    references = {message["order"]["order_ref"] for message in erp.messages()}
    return ([one.number for one in side.cloud.creations.made], side.cloud.creations.mailed, references) == (["RX-1"], ["RX-1"], {"RX-1"})


async def until(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("point", COMMIT_POINTS)
async def test_one_order_and_one_mail_after_a_kill_at(tmp_path: Path, erp: ErpSimulator, point: str) -> None:
    async with whole(tmp_path, erp, "--die-after", point) as side:
        await side.gateway.start("dying")
        handing_in = asyncio.create_task(side.submit_command())
        await side.gateway.gone()
        await side.gateway.start()
        id_ = await asyncio.wait_for(handing_in, 30)
        state = await side.done(id_)
        await erp.wait_for(1)
        assert (state["state"], state["answer"]["orderNumber"], await side.submit_command()) == ("done", "RX-1", id_)
        assert one_order(side, erp)


async def killed_before_the_answer(side: Erp) -> str:
    """The vendor has made the order, and nobody hears of it."""
    side.cloud.creations.arm("slow", after=True, delay_s=60)
    await side.gateway.start()
    id_ = await side.submit_command()
    await until(lambda: side.cloud.creations.made)
    await side.gateway.kill()
    await side.gateway.start()
    return id_


async def test_an_order_whose_answer_is_lost_with_the_process_is_found_by_its_number(tmp_path: Path, erp: ErpSimulator) -> None:
    async with whole(tmp_path, erp) as side:
        state = await side.done(await killed_before_the_answer(side))
        await erp.wait_for(1)
        assert (state["state"], state["attempts"], state["answer"]["orderNumber"]) == ("done", 1, "RX-1")
        assert one_order(side, erp)


async def test_an_order_whose_answer_is_lost_on_its_way_is_found_by_its_number(tmp_path: Path, erp: ErpSimulator) -> None:
    async with whole(tmp_path, erp) as side:
        side.cloud.creations.arm("lose_answer", after=True)
        await side.gateway.start()
        state = await side.done(await side.submit_command())
        await erp.wait_for(1)
        assert (state["state"], state["attempts"]) == ("done", 1)
        assert one_order(side, erp)


async def test_the_mutant_that_leaves_the_look_up_out_mails_the_patient_twice(tmp_path: Path, erp: ErpSimulator) -> None:
    async with whole(tmp_path, erp, "--mutant", "look_up_left_out") as side:
        await side.done(await killed_before_the_answer(side))
        await erp.wait_for(1)
        assert not one_order(side, erp)
        assert side.cloud.creations.mailed == ["RX-1", "RX-1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_shutdown_and_a_reload_hear_what_the_vendor_says(tmp_path: Path, erp: ErpSimulator, number: signal.Signals) -> None:
    async with whole(tmp_path, erp) as side:
        side.cloud.creations.arm("slow", after=True, delay_s=0.5)
        await side.gateway.start()
        id_ = await side.submit_command()
        await until(lambda: side.cloud.creations.made)
        if number == signal.SIGTERM:
            await side.gateway.kill(number)
            await side.gateway.start()
        else:
            os.kill(side.gateway.pid, number)
        state = await side.done(id_)
        await erp.wait_for(1)
        assert (state["state"], len(side.cloud.creations.heard)) == ("done", 1)
        assert one_order(side, erp)
