"""A simulated Pickup Cloud, settings for it, and a gateway's parts around the plugin: store, intake, poller, prepare step."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import gateway_pickup_cloud
import pytest
from gateway_pickup_cloud.settings import Settings
from gateway_pickup_cloud.simulator import PickupCloudSimulator

from gateway import Secret, Url
from gateway.edge.push_buffer import PushBuffer
from gateway.plugin.connector import Connector
from gateway.service.gateway import Gateway
from gateway.testing import Bench, ErpSimulator, ManualClock, running_gateway, source_bench

TOKEN = "token-of-the-erp-constructed"
CALLER = {"token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "commands": ["pharmacy/*"], "max_requests_per_second": 1000}


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[PickupCloudSimulator]:
    async with PickupCloudSimulator(now=clock.now, prefix="c") as simulator:
        yield simulator


def make_settings(simulator: PickupCloudSimulator | None = None, **changes: Any) -> Settings:
    values: dict[str, Any] = {"api_key": Secret("constructed-key-do-not-use", origin="test")}
    if simulator is not None:
        values |= {"base_url": Url(simulator.address), "hub_url": Url(simulator.hub.url), "calls_per_minute": 6000}
    return Settings(**values | changes)


def make_connector(settings: Settings) -> Connector:
    connector = Connector(gateway_pickup_cloud, "pickup_cloud")
    connector.settings = settings
    return connector


class HubBench(Bench):
    """What its hub would push, goes straight to the intake."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._buffer = PushBuffer(self.source, self.store, self.metrics, self.clock)

    async def push(self, target: str, *arguments: Any) -> None:
        """One call of the hub, committed."""
        await self._buffer.put(json.dumps({"target": target, "arguments": arguments}, ensure_ascii=False).encode())
        await self._buffer._store_all([await self._buffer._read(self._buffer._waiting.popleft())])

    async def resync(self) -> None:
        await self.poller.round()

    async def outcomes(self) -> list[tuple[str, str | None]]:
        """Outcome and reason of every row, in the order in which they came."""
        return [(row["outcome"] or row["status"], row["reason"]) for row in await self.inbox()]


@pytest.fixture
async def bench(simulator: PickupCloudSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(forward_personal_data=True)`; what the simulator pushes goes straight to its intake."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> HubBench:
            settings = make_settings(simulator, **changes)
            made = await stack.enter_async_context(
                source_bench(gateway_pickup_cloud, settings, tmp_path, clock, name="pickup_cloud", kind=HubBench)
            )
            simulator.push = made.push  # type: ignore[method-assign]
            return made

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(simulator, time_zone="UTC")`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector


def at(hour: int, minute: int, day: int = 31) -> datetime:
    return datetime.fromisoformat(f"2024-03-{day:02}T{hour:02}:{minute:02}:00+00:00")


TEXT = (Path(__file__).parent / "vendor_examples.txt").read_text("utf-8")
_BODIES = {"curl": r"--data '\n(\{.*?\n\})\n'", "http": r"HTTP/1\.1\n.*?\n\n(\{.*?\})\n", "javascript": r"body: '(\{.*?\})'\n"}


@pytest.fixture(params=_BODIES)
def example(request: pytest.FixtureRequest) -> str:
    """The body of an example request of the vendor's page on recurrent orders, word for word (seed 001)."""
    found = re.search(_BODIES[request.param], TEXT, re.DOTALL)
    assert found is not None
    return found[1]


class Running:
    """A gateway, the cloud, and an ERP."""

    def __init__(self, gateway: Gateway, cloud: PickupCloudSimulator, erp: ErpSimulator, folder: Path) -> None:
        self.gateway, self.cloud, self.erp, self.folder = gateway, cloud, erp, folder

    async def get(self, path: str) -> Any:
        async with aiohttp.request("GET", f"http://127.0.0.1:{self.gateway.pages.port}{path}") as answer:
            return await answer.json()

    @property
    def door(self) -> tuple[str, str]:
        found = self.gateway._metrics.health.doors.get(("pharmacy", "realtime"))
        return (found.state, found.reason or "") if found else ("", "")

    async def submit_command(self, command: str, body: dict[str, Any] | str, key: str | None = None, **headers: str) -> tuple[int, Any]:
        """One command through the door; `key` is the idempotency key, by default the body's order number."""
        sent = body if isinstance(body, str) else json.dumps(body)
        given = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key or str(json.loads(sent)["orderNumber"])}
        given |= {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.out}/out/pharmacy/{command}"
        async with aiohttp.request("POST", url, data=sent.encode(), headers=given) as answer:
            return answer.status, await answer.json()

    async def submission(self, id: str) -> Any:
        """As its caller sees it."""
        async with aiohttp.request("GET", f"{self.out}/out/{id}", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            return await answer.json()

    @property
    def out(self) -> str:
        assert self.gateway.command_api.listener is not None
        return f"http://127.0.0.1:{self.gateway.command_api.listener.port}"

    async def until(self, condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    def arrived(self) -> list[tuple[str, str]]:
        return [(message["order"]["order_ref"], message["order"]["status"]) for message in self.erp.messages()]


@pytest.fixture
async def whole_gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await whole_gateway(cloud, api_key_in="bearer")`: a gateway with all its parts, which ends well."""
    async with AsyncExitStack() as stack:

        async def begin(cloud: PickupCloudSimulator, **settings: Any) -> Running:
            erp = await stack.enter_async_context(ErpSimulator())
            await stack.enter_async_context(cloud)
            source = cloud.source(tmp_path)
            source["settings"] |= settings
            submit = {"listen": "127.0.0.1:0", "callers": {"erp": CALLER}}
            gateway = running_gateway(gateway_pickup_cloud, source, tmp_path, erp.url, name="pharmacy", submit=submit)
            return Running(await stack.enter_async_context(gateway), cloud, erp, tmp_path)

        yield begin
