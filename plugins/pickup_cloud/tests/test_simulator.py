"""The simulator does what Pickup Cloud's documents say, and refuses what they say it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
from gateway_pickup_cloud.constructed import article
from gateway_pickup_cloud.simulator import PickupCloudSimulator

from gateway.testing import ManualClock, Simulator


async def status(simulator: PickupCloudSimulator, number: str, key: str | None = None) -> tuple[int, Any]:
    url = f"{simulator.address}/api/v2/orders/by-ordernumber/{quote(number, safe='')}"
    async with aiohttp.request("GET", url, headers={"x-api-key": simulator.api_key if key is None else key}) as answer:
        return answer.status, await answer.json() if answer.status == 200 else None


class Listener:
    """A SignalR client as simple as can be: negotiates, shakes hands, keeps what it is told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._left: list[Any] = []

    @classmethod
    async def connect(cls, simulator: PickupCloudSimulator, session: aiohttp.ClientSession) -> Listener:
        headers = {"x-api-key": simulator.api_key}
        async with session.post(f"{simulator.hub.url}/negotiate?negotiateVersion=1", headers=headers) as answer:
            token = (await answer.json(content_type=None))["connectionToken"]
        socket = await session.ws_connect(simulator.hub.url, params={"id": token}, headers=headers)
        await socket.send_str('{"protocol":"json","version":1}\x1e')
        made = cls(socket)
        assert await made.next() == {}
        return made

    async def next(self) -> Any:
        """The next message that is no ping."""
        while True:
            if not self._left:
                self._left = [json.loads(one) for one in (await self.socket.receive_str(timeout=5)).split("\x1e") if one]
            message = self._left.pop(0)
            if message != {"type": 6}:
                return message


def test_it_is_what_the_demo_expects(simulator: PickupCloudSimulator) -> None:
    wanted: Simulator = simulator
    assert (wanted.title, wanted.doors, wanted.acknowledged) == ("BD Rowa Pickup Cloud", ("realtime",), None)


async def test_the_status_of_an_order_is_for_the_right_key_only(simulator: PickupCloudSimulator) -> None:
    number = simulator.create(article(0, 2), number="WEB/2024 00042#ä")
    code, shown = await status(simulator, number)
    assert (code, shown["orderNumber"], shown["state"], shown["articles"][0]["quantityOrdered"]) == (200, number, "READYFORINPUT", 2)
    assert shown["creationDate"] == "2024-03-31T12:00:00.0000007+00:00"
    assert (await status(simulator, number, "wrong"))[0] == 401
    assert (await status(simulator, "another"))[0] == 404


async def test_recurrent_orders_begin_scheduled_and_show_no_articles(simulator: PickupCloudSimulator) -> None:
    """Seed 001."""
    number = simulator.create(article(2, interval=28), state="SCHEDULED")
    _, shown = await status(simulator, number)
    assert (shown["state"], shown["articles"], shown["lastUpdateDate"]) == ("SCHEDULED", [], None)


async def test_whoever_listens_is_told_and_rest_shows_the_same(simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    async with aiohttp.ClientSession() as session:
        listener = await Listener.connect(simulator, session)
        number = simulator.create(article(0))
        clock.advance(60)
        await simulator.move(number, "PICKEDUP")
        message = await listener.next()
        code = simulator.orders[number].code
        assert message == {
            "type": 1,
            "target": "OrderStateChanged",
            "arguments": [number, code, "PICKEDUP", "2024-03-31T12:01:00.0000007+00:00", ""],
        }
        _, shown = await status(simulator, number)
        assert (shown["state"], shown["pickedUpDate"], shown["pickupCode"]) == ("PICKEDUP", message["arguments"][3], code)
        simulator.layout = "camel"
        await simulator.tell_article(number, article(0)["scanCode"], "SCHEDULED", due="2024-04-28T00:00:00")
        (said,) = (await listener.next())["arguments"]
        assert said["articleStatusChangedDto"] == {
            "articleId": article(0)["scanCode"],
            "requiredQuantity": 1,
            "orderArticleStateChangedDate": None,
            "dueDate": "2024-04-28T00:00:00",
            "orderArticleState": "SCHEDULED",
        }


async def test_what_nobody_listens_to_is_not_said_again(simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    async with aiohttp.ClientSession() as session:
        number = simulator.create()
        await simulator.move(number, "READYFORINPUT")
        listener = await Listener.connect(simulator, session)
        await simulator.tell(number, "PICKEDUP", at=clock.now() + timedelta(minutes=1))
        assert (await listener.next())["arguments"][2] == "PICKEDUP"
        await listener.socket.close()


async def test_an_order_of_which_nobody_hears_has_failed(simulator: PickupCloudSimulator, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway_pickup_cloud.simulator._PATIENCE_S", 0.01)
    monkeypatch.setattr("gateway_pickup_cloud.simulator._HEARD_S", 0.01)
    assert (await simulator.place("", "")).answer == "failed"


async def test_it_runs_by_itself() -> None:
    """Started by its command, it takes the key of the environment and shows what to configure."""
    command = [sys.executable, "-m", "gateway_pickup_cloud.simulator", "--listen", "127.0.0.1:0", "--hub-port", "0", "--key-env", "NAME"]
    child = await asyncio.create_subprocess_exec(*command, env=os.environ | {"NAME": "from-outside"}, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(20):
            said = [(await child.stdout.readline()).decode() for _ in range(3)]
        hub_url = said[2].split('"')[1]
        async with aiohttp.request("POST", f"{hub_url}/negotiate?negotiateVersion=1", headers={"x-api-key": "from-outside"}) as answer:
            assert answer.status == 200
    finally:
        child.terminate()
        await child.communicate()
    assert said[0].startswith("simulated Pickup Cloud at http://127.0.0.1:")
    assert said[1].startswith('base_url = "http://127.0.0.1:')
