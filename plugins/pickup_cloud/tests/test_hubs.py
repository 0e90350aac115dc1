"""A whole gateway against the simulated cloud, whose hub is ours or a real ASP.NET Core one (`../shared/signalr-hub`).

The numbers of the edge cases are those of vendors/pickup_cloud.md, 4.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_pickup_cloud.constructed import article
from gateway_pickup_cloud.events import UNKNOWN
from gateway_pickup_cloud.simulator import PickupCloudSimulator

from gateway.testing.compare import compare
from gateway.testing.hub import invocation

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "signalr-hub" / "signalr-hub"


class RealHub:
    """Microsoft's hub as a process, with what the simulator wants of a hub."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.live: list[int] = []
        self._process: asyncio.subprocess.Process | None = None
        self._look: asyncio.Task[None] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hub"

    async def start(self, port: int = 0) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(REAL), "--port", str(self._port), "--key", self.key, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(20):
            while not await self._count():
                await asyncio.sleep(0.02)
        self._look = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        if self._process is not None and self._look is not None:
            self._look.cancel()
            self._process.kill()
            await self._process.wait()
            self.live, self._process = [], None

    async def send(self, target: str, *arguments: Any) -> None:
        if self._process is None:
            return
        body = {"target": target, "arguments": arguments}
        async with aiohttp.request("POST", f"http://127.0.0.1:{self._port}/control/send", json=body) as answer:
            assert answer.status == 200

    async def _count(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with aiohttp.request("GET", f"http://127.0.0.1:{self._port}/control/connections") as answer:
                self.live = list(range((await answer.json())["live"]))
                return True
        return False

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            await self._count()


@pytest.fixture
def start(whole_gateway: Callable[..., Any]) -> Callable[..., Any]:
    """`await start("ASP.NET Core", api_key_in="bearer")`"""

    async def begin(kind: str = "fault hub", cloud: PickupCloudSimulator | None = None, **settings: Any) -> Any:
        cloud = cloud or PickupCloudSimulator()
        cloud.hub.ping_s = 0.5
        if kind != "fault hub":
            if not REAL.exists():
                pytest.skip(f"the real hub is not beside this repository: {REAL.relative_to(ROOT.parent)}")
            cloud.hub = RealHub(cloud.api_key)  # type: ignore[assignment]
        return await whole_gateway(cloud, **settings)

    return begin


@pytest.mark.parametrize("kind", ["fault hub", "ASP.NET Core"])
async def test_the_simulators_script_ends_as_it_says(start: Any, kind: str) -> None:
    """Cases 1, 5, 6, 7, 8, 9, 10 and 11, and the sequence of 5.6, over a hub: the gap is the end of the hub's process."""
    running = await start(kind)
    sent = [("pharmacy", one) for one in await running.cloud.script("", "")]

    def verdicts() -> set[str]:
        return {row.verdict for row in compare(sent, running.erp.messages(), set())}

    with suppress(TimeoutError):
        await running.until(lambda: verdicts() == {"ok"})
    assert verdicts() == {"ok"}
    async with asyncio.timeout(15):
        while not (held := await running.get("/api/inbox?status=held")):
            await asyncio.sleep(0.05)
    assert [row["order_ref"] for row in held] == [one.order_ref for _, one in sent if one.expected == "held"]
    assert len(await running.get("/api/inbox?status=dead")) == 1
    flagged = [row["reason"] for row in await running.get("/api/inbox?status=done&limit=500") if row["outcome"] == "flagged"]
    assert sorted(flagged) == ["a notification that nobody knows", UNKNOWN]


@pytest.mark.parametrize("kind", ["fault hub", "ASP.NET Core"])
async def test_an_order_placed_over_a_hub_lives_on_by_itself(start: Any, kind: str) -> None:
    running = await start(kind)
    running.cloud.pace_s = 0.1
    sent = await running.cloud.place("", "")
    assert sent.answer == "taken"
    await running.until(lambda: len(running.arrived()) == 3)
    assert running.arrived() == [(sent.order_ref, status) for status in ("ready_for_input", "ready_for_pickup", "picked_up")]


@pytest.mark.parametrize(
    ("api_key_in", "key_in"),
    [({"header": "X-Other"}, "header:x-other"), ({"query": "code"}, "query:code"), ("bearer", "bearer")],
)
async def test_the_key_goes_where_the_settings_say(start: Any, api_key_in: Any, key_in: str) -> None:
    cloud = PickupCloudSimulator()
    cloud.hub.key_in = key_in
    running = await start(cloud=cloud, api_key_in=api_key_in)
    await running.until(lambda: running.door[0] == "up")
    assert [heard.where for heard in cloud.hub.heard] == ["negotiate", "upgrade"]


async def test_negotiation_can_be_left_out(start: Any) -> None:
    running = await start(negotiate=False)
    await running.until(lambda: running.door[0] == "up")
    assert [heard.where for heard in running.cloud.hub.heard] == ["upgrade"]


async def test_names_on_the_wire_are_settings(start: Any) -> None:
    running = await start(targets={"order": ["BestellungGeaendert"]})
    numbers = [running.cloud.create(article(0)) for _ in range(3)]
    await running.until(lambda: running.door[0] == "up")
    for number, name in zip(numbers, ("OrderStateChange", "BestellungGeaendert", "OrderStateChanged"), strict=True):
        await running.cloud.move(number, "READYFORINPUT", target=name)
    await running.until(lambda: len(running.arrived()) == 2)
    assert {ref for ref, _ in running.arrived()} == set(numbers[1:])


async def test_row_6_of_the_nasty_sequence_a_misspelt_name_is_an_alias(start: Any) -> None:
    running = await start()
    number = running.cloud.create(article(0))
    await running.until(lambda: running.door[0] == "up")
    await running.cloud.move(number, "READYFORINPUT", target="OrderStateChange")
    await running.until(lambda: running.arrived() == [(number, "ready_for_input")])


async def test_case_12_calls_in_the_handshakes_frame_and_many_in_one_are_all_taken(start: Any) -> None:
    cloud = PickupCloudSimulator()
    await cloud.start()
    numbers = [cloud.create(article(0)) for _ in range(20)]
    await cloud.stop()
    cloud.hub.welcome = [invocation("OrderStateChanged", number, "", "READYFORINPUT", "2024-03-31T10:00:00Z", None) for number in numbers]
    running = await start(cloud=cloud)
    await running.until(lambda: len(running.arrived()) == 20)
    await running.until(lambda: running.door[0] == "up")
    await asyncio.sleep(0)
    assert sorted(ref for ref, _ in running.arrived()) == sorted(numbers)


async def test_case_13_a_close_that_forbids_to_come_back_is_obeyed_for_a_while(start: Any) -> None:
    running = await start()
    await running.until(lambda: running.door[0] == "up")
    await running.cloud.hub.close("You are not wanted.", False)
    await running.until(lambda: running.door[0] == "down")
    assert "You are not wanted." in running.door[1]
    connections = running.cloud.hub.connections
    await asyncio.sleep(0.5)
    assert running.cloud.hub.connections == connections


async def test_case_13_a_key_that_is_refused_takes_the_doors_down_until_it_is_changed(start: Any) -> None:
    running = await start()
    await running.until(lambda: running.door[0] == "up")
    number = running.cloud.create(article(0))
    await running.cloud.move(number, "READYFORINPUT")
    await running.until(lambda: running.arrived())
    running.cloud.api_key = running.cloud.hub.key = "changed-at-the-vendor"
    await running.cloud.hub.close(None, True)
    await running.until(lambda: running.door[0] == "down" and "401" in running.door[1])
    (running.folder / "pickup-cloud").write_text("changed-at-the-vendor\n")
    await running.until(lambda: running.door[0] == "up", 20)
    await running.cloud.move(number, "READYFORPICKUP")
    await running.until(lambda: len(running.arrived()) == 2)


async def test_case_14_a_rest_side_that_does_not_answer_holds_nothing_up_at_the_hub(start: Any) -> None:
    running = await start()
    await running.until(lambda: running.door[0] == "up")
    running.cloud.refuses = [503] * 1000
    numbers = [running.cloud.create(article(0)) for _ in range(300)]
    for number in numbers:
        await running.cloud.move(number, "READYFORINPUT")
    await running.until(
        lambda: (
            running.gateway._metrics.registry.get_sample_value(
                "gateway_received_total", {"source": "pharmacy", "door": "realtime", "outcome": "stored"}
            )
            == 300
        )
    )
    assert running.arrived() == []
    running.cloud.refuses = []
    await running.until(lambda: len(running.arrived()) == 300, 30)
