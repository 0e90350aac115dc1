"""Pickup Cloud on loopback, as its documents describe it: the hub, and orders over REST, created (`creations`) and asked for.

    PICKUP_CLOUD_API_KEY=constructed python -m gateway_pickup_cloud.simulator --script

A webshop with the same API key creates orders in it, staff and patients move them; the hub tells each connected client, once, and
REST shows how they stand. Where the documents are silent it does what vendors/pickup_cloud.md assumes. `hub` can break in any
way (`gateway.testing.hub`): drop, stall, refuse, restart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import secrets as random
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from msgspec import Struct

from gateway import Door, Status
from gateway.testing import LoopbackServer, Sent, Wish, demonstrate
from gateway.testing.hub import FaultHub
from gateway_pickup_cloud.constructed import CATALOGUE, article, midnight, response, ticks
from gateway_pickup_cloud.simulator_creations import ON_BEHALF, Creations

Layout = Literal["positional", "object", "camel"]

_PATIENCE_S = 40.0
_GIVE_UP_S = 3.0
_CHANGES, _HEARD_S = 8, 2.0
_LOOK_S = 0.02


class Cloud(Struct):
    """An order in the cloud. `shown` is what REST answers; None is a 404. `raw` is answered in its place."""

    number: str
    code: str
    shown: dict[str, Any] | None
    asked: int = 0
    raw: bytes | None = None


class PickupCloudSimulator(LoopbackServer):
    """`gateway.testing.Simulator` for Pickup Cloud, with controls for tests.

    Attributes:
        orders: What the cloud holds, by number.
        layout: How notifications are written: a list of arguments, one object, one object in camelCase.
        refuses: Statuses that the next REST calls are answered with.
        pace_s: Between two states of an order that `place` made.
        creations: Orders that are created over REST.
    """

    title = "BD Rowa Pickup Cloud"
    doors: Sequence[Door] = ("realtime",)
    acknowledged: Collection[str] | None = None
    acknowledging = True

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), prefix: str | None = None) -> None:
        self.api_key = "constructed-key-do-not-use"
        self.hub = FaultHub(key=self.api_key)
        self.orders: dict[str, Cloud] = {}
        self.layout: Layout = "positional"
        self.refuses: list[int] = []
        self.pace_s = 1.0
        self._now = now
        self._prefix = random.token_hex(3) if prefix is None else prefix
        self._count = itertools.count(1)
        self._lives: set[asyncio.Task[None]] = set()
        self.creations = Creations(self, now)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/api/v2/orders/by-ordernumber/{number}", self._status)
        self.creations.open(application)
        return application

    async def start(self, host: str = "127.0.0.1", port: int = 0, hub_port: int = 0) -> None:
        await super().start(host, port)
        self.hub.key = self.api_key
        await self.hub.start(hub_port)

    async def stop(self) -> None:
        await self.creations.close()
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        await self.hub.stop()
        await super().stop()

    def source(self, secrets: Path) -> dict[str, Any]:
        (secrets / "pickup-cloud").write_text(self.api_key + "\n")
        return {"connector": "pickup_cloud", "settings": {"api_key": {"file": str(secrets / "pickup-cloud")}} | self.settings()}

    def settings(self) -> dict[str, Any]:
        """Settings for this simulator, beside the key. Nothing here takes as long as it does in a pharmacy."""
        return {
            "base_url": self.address,
            "hub_url": self.hub.url,
            "reconnect": {"base_s": 0.1, "cap_s": 2.0},
            "resync_interval_s": 1.0,
            "calls_per_minute": 6000,
            "fetch_retry_s": [0.2],
            "fetch_give_up_s": _GIVE_UP_S,
            "on_behalf_of_path": f"api/{{api_version}}/{ON_BEHALF}",
        }

    # --- the cloud

    def create(self, *articles: dict[str, Any], number: str | None = None, state: str = "READYFORINPUT", **fields: Any) -> str:
        """Create an order without a push; return its number. An order that begins SCHEDULED is recurrent."""
        n = next(self._count)
        number = f"{self._prefix}-{n:04}" if number is None else number
        listed = [] if state == "SCHEDULED" else articles or [article(n % 4, 1 + n % 3)]
        shown = response(number, state=state, created=self._now(), articles=listed, code=n, **fields)
        self.orders[number] = Cloud(number=number, code=shown["pickupCode"], shown=shown)
        return number

    def shown(self, number: str) -> dict[str, Any] | None:
        """Return an order as REST shows it, or None."""
        return self.orders[number].shown if number in self.orders else None

    async def move(self, number: str, state: str, *, at: datetime | None = None, target: str = "OrderStateChanged") -> None:
        """Change the order and push its state."""
        at = at or self._now()
        shown = self.orders[number].shown
        if shown is not None:
            own = {"PICKEDUP": "pickedUpDate", "CANCELED": "canceledDate"}.get(state, "lastUpdateDate")
            shown |= {"state": state, "lastUpdateDate": ticks(at), own: ticks(at)}
        await self.tell(number, state, at=at, target=target)

    async def tell(self, number: str, state: str, *, at: datetime | None = None, target: str = "OrderStateChanged") -> None:
        """Push a state of an order, true or not."""
        written = None if at is None or state == "SCHEDULED" else ticks(at)
        said = {"OrderNumber": number, "PickupCode": self.orders[number].code, "OrderState": state, "OrderStateChangedDate": written}
        await self.push(target, *self._laid_out(said | {"ExtraData": ""}))

    async def tell_article(
        self, number: str, code: str, state: str, *, at: datetime | None = None, due: str | None = None, quantity: int = 1
    ) -> None:
        """Push a state of an article."""
        dto = {
            "ArticleId": code,
            "RequiredQuantity": quantity,
            "OrderArticleStateChangedDate": None if at is None or state == "SCHEDULED" else ticks(at),
            "DueDate": due,
            "OrderArticleState": state,
        }
        said = {"OrderNumber": number, "PickupCode": self.orders[number].code, "ArticleStatusChangedDto": _camel(dto, self.layout)}
        await self.push("OrderArticleStateChanged", *self._laid_out(said))

    def _laid_out(self, said: dict[str, Any]) -> list[Any]:
        return list(said.values()) if self.layout == "positional" else [_camel(said, self.layout)]

    async def push(self, target: str, *arguments: Any) -> None:
        """Push a notification to the connected clients; it is not repeated."""
        await self.hub.send(target, *arguments)

    async def listened(self) -> bool:
        """Wait for a connected client; return False on timeout."""
        return await _until(lambda: bool(self.hub.live), _PATIENCE_S)

    async def asked(self, number: str, times: int, timeout_s: float = _PATIENCE_S) -> bool:
        """Wait for `times` REST requests for an order; return False on timeout."""
        return await _until(lambda: self.orders[number].asked >= times, timeout_s)

    async def _status(self, request: web.Request) -> web.Response:
        await self.creations.catch_up()
        if self.refuses:
            return web.Response(status=self.refuses.pop(0))
        if request.headers.get("x-api-key") != self.api_key:
            return web.Response(status=401)
        order = self.orders.get(request.match_info["number"])
        if order is not None:
            order.asked += 1
        if order is None or order.shown is None:
            return web.Response(status=404)
        return web.Response(body=order.raw or json.dumps(order.shown, ensure_ascii=False).encode(), content_type="application/json")

    # --- what the ERP does

    def wishes(self, *, unkind: bool = False) -> Sequence[Wish]:
        """Return a one-time order, which the demo instance's trigger moves on, and a recurrent one, which staff do."""
        return self.creations.wishes(f"{self._prefix}-erp-{next(self._count):04}", unkind=unkind)

    def doubled(self) -> Sequence[str]:
        return self.creations.doubles()

    # --- what people do

    async def place(self, gateway_url: str, source: str, door: Door | None = None) -> Sent:
        """Place an order, which then changes by itself."""
        self.layout = ("positional", "object", "camel")[next(self._count) % 3]
        number = self.create()
        known = await self._begin(number)
        life = asyncio.create_task(self._live(number), name=f"life of {number}")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        return self._sent(number, "picked_up", answer="taken" if known else "failed")

    async def _live(self, number: str) -> None:
        for state in ("READYFORPICKUP", "PICKEDUP"):
            await asyncio.sleep(self.pace_s)
            await self.move(number, state)

    async def script(self, gateway_url: str, source: str) -> Sequence[Sent]:
        await self.listened()
        scenes = (
            self._a_whole_life,
            self._in_any_order,
            self._again_and_again,
            self._behind_our_back,
            self._cancelled,
            self._one_article_twice,
            self._not_ours,
            self._not_understood,
        )
        done = [await scene() for scene in scenes]
        last = self.create()  # notifications stay in order: once this one has come, so have all before it
        await self._begin(last, "PICKEDUP")
        return [*done, self._sent(last, "picked_up", note="the last one")]

    async def _begin(self, number: str, state: str = "READYFORINPUT") -> bool:
        """Push an order's first state until the gateway asks for it: the hub repeats nothing, so a push to a client that has
        just died is lost."""
        for _ in range(_CHANGES):
            await self.listened()
            await self.move(number, state)
            if await self.asked(number, 1, _HEARD_S):
                return True
        return False

    async def _a_whole_life(self) -> Sent:
        """Place an order with a number that is awkward in an address, pushes for each article, and an object in place of arguments."""
        self.layout = "camel"
        number = self.create(article(0, 2), article(1), number=f"WEB/{self._prefix} {next(self._count):04}#ä%?")
        await self._begin(number)
        for state in ("READYFORPICKUP", "PICKEDUP"):
            for place in (0, 1):
                await self.tell_article(number, CATALOGUE[place][0], state, at=self._now())
            await self.move(number, state)
        self.layout = "positional"
        return self._sent(number, "picked_up", note="every state of order and articles; a number to be encoded")

    async def _in_any_order(self) -> Sent:
        """vendors/pickup_cloud.md 5.6, 1 to 3 and 5."""
        number, at = self.create(article(2)), self._now()
        await self._begin(number, "PICKEDUP")
        await self.tell(number, "READYFORPICKUP", at=at - timedelta(minutes=7))
        await self.tell(number, "PICKEDUP", at=datetime.fromisoformat(self._date(number, "pickedUpDate")))
        await self.tell(number, "RETURNED", at=self._now())
        return self._sent(number, "picked_up", note="first seen when picked up; then late, again, unknown")

    async def _again_and_again(self) -> Sent:
        """Place a recurrent order, whose articles do not come back over REST, and begin its second interval (5.6, 4)."""
        number, code, today = self.create(state="SCHEDULED"), CATALOGUE[2][0], self._now()
        first, second = midnight(today, 1), midnight(today, 29)
        await self._begin(number, "SCHEDULED")
        await self.tell_article(number, code, "SCHEDULED", due=first, quantity=2)
        for state in ("READYFORINPUT", "READYFORPICKUP", "PICKEDUP"):
            await self.tell_article(number, code, state, at=self._now(), due=first, quantity=2)
            await self.move(number, state)
        await self.tell_article(number, code, "SCHEDULED", due=second, quantity=2)
        return self._sent(number, "picked_up", lines=2, note="recurrent: picked up once, scheduled again")

    async def _behind_our_back(self) -> Sent:
        """Change an order while the hub is away: REST requests find it, and a later push of it is no news."""
        number = self.create(article(3, 2))
        await self._begin(number)
        await self.hub.stop()
        at = self._now()
        await self.move(number, "READYFORPICKUP", at=at)
        await self.move(number, "PICKEDUP")
        await self.asked(number, self.orders[number].asked + 1)
        await self.hub.start()
        await self.listened()
        await self.tell(number, "READYFORPICKUP", at=at)
        await self.tell(number, "PICKEDUP", at=datetime.fromisoformat(self._date(number, "pickedUpDate")))
        return self._sent(number, "picked_up", door="poll", note="picked up while we were disconnected; told twice afterwards")

    async def _cancelled(self) -> Sent:
        number = self.create(article(1), article(3))
        await self._begin(number)
        await self.move(number, "CANCELED", target="OrderStateChange")
        return self._sent(number, "cancelled", note="cancelled by staff; told under a misspelt name")

    async def _one_article_twice(self) -> Sent:
        number = self.create(article(0, 2), article(0, 1))
        await self._begin(number)
        await self.tell_article(number, CATALOGUE[0][0], "READYFORPICKUP", at=self._now(), quantity=2)
        return self._sent(number, "ready_for_input", note="one article on two lines: whose state it is cannot be told")

    async def _not_ours(self) -> Sent:
        number = self.create()
        sent = self._sent(number, None, expected="held", note="REST does not know it: a person decides")
        self.orders[number].shown = None
        await self.tell(number, "READYFORINPUT", at=self._now())
        return sent

    async def _not_understood(self) -> Sent:
        number = self.create(number="9" * 201)
        await self.tell(number, "READYFORINPUT", at=self._now())
        await self.push("OrderRenamed", number, "new")
        return self._sent(number, None, expected="nothing", note="a number too long to be a name; a notification nobody knows")

    def _date(self, number: str, name: str) -> str:
        shown = self.orders[number].shown
        assert shown is not None
        return str(shown[name])

    def _sent(
        self,
        number: str,
        status: Status | None,
        *,
        door: Door = "realtime",
        answer: Literal["taken", "failed"] = "taken",
        expected: Literal["placed", "nothing", "held"] = "placed",
        lines: int | None = None,
        note: str = "",
    ) -> Sent:
        shown = self.orders[number].shown or {"articles": []}
        return Sent(
            order_ref=number,
            order_number=number if len(number) <= 200 else f"{number[:10]}...",
            door=door,
            answer=answer,
            expected=expected,
            lines=len(shown["articles"]) if lines is None else lines,
            total=None,
            status=status,
            note=note,
        )


def _camel(said: dict[str, Any], layout: Layout) -> dict[str, Any]:
    return {name[0].lower() + name[1:]: value for name, value in said.items()} if layout == "camel" else said


async def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what clients do has no event
                await asyncio.sleep(_LOOK_S)
    return condition()


async def _serve(options: argparse.Namespace) -> None:
    simulator = PickupCloudSimulator()
    simulator.api_key = os.environ.get(options.key_env, simulator.api_key)
    host, _, port = options.listen.rpartition(":")
    await simulator.start(host, int(port), options.hub_port)
    print(f"simulated Pickup Cloud at {simulator.address}; settings of the source, beside the key:")
    await demonstrate(simulator, simulator.settings(), script=options.script, every_s=options.every)


def main() -> None:
    """Run the simulator from the command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway_pickup_cloud.simulator", description="A simulated Pickup Cloud.")
    parser.add_argument("--listen", default="127.0.0.1:9104", metavar="ADDRESS:PORT", help="where its REST API listens")
    parser.add_argument("--hub-port", type=int, default=9105, metavar="PORT", help="where its hub listens, on loopback")
    parser.add_argument("--key-env", default="PICKUP_CLOUD_API_KEY", metavar="NAME", help="variable with the API key")
    parser.add_argument("--every", type=float, default=5, metavar="SECONDS", help="between two orders")
    parser.add_argument("--script", action="store_true", help="first the special cases, each once")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
