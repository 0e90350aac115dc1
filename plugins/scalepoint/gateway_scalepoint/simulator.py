"""Simulator of Scalepoint on loopback, as documented (vendors/scalepoint.md): events by webhook and long poll, orders by token.

    python -m gateway_scalepoint.simulator --gateway http://127.0.0.1:8080/in/claims --folder secrets

It writes keys, secrets and an example mapping to the folder, and prints the settings of a matching source. Then it makes orders and
prints the gateway's answers. The documents are silent on the fields of an order and on repeats of webhooks; these are assumed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import secrets as random
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct

from gateway import Door
from gateway.testing import LoopbackServer, Sent, demonstrate
from gateway_scalepoint.constructed import event, foreign, order
from gateway_scalepoint.identity import Identity, utc_now
from gateway_scalepoint.simulator_publishing import TYPE_HEADER, Publishing

Answer = Literal["taken", "refused", "failed"]
Shape = Literal["list", "object", "wrapper", "two"]

TENANT = "exampletenant"
AUDIENCE = "order-gateway"
_PATIENCE = 60
_PAUSE_S = 0.5


class Placed(Struct):
    """Order at Scalepoint.

    Attributes:
        late: Number of requests that do not find it yet.
        absent: Form of that answer.
    """

    order: dict[str, Any]
    event: dict[str, Any]
    shape: Shape = "list"
    late: int = 0
    absent: Literal["404", "empty"] = "404"

    def body(self) -> bytes:
        one = self.order
        shapes: dict[Shape, Any] = {"list": [one], "object": one, "wrapper": {"data": [one], "meta": {}}, "two": [one, one]}
        return _exact.encode(shapes[self.shape])


class ScalepointSimulator(LoopbackServer):
    """Simulator of Scalepoint (`gateway.testing.Simulator`), with controls for tests.

    Attributes:
        now: Clock, which a test may replace.
        identity: Authorization server.
        publishing: Events that suppliers publish.
        placed: All orders by token in lower case.
        asked: Path and query of all authorized calls of the two APIs.
        hold_s: Time that a long poll stays open without news.
        webhook_kind: Authentication of its webhooks; set it before `source`.
    """

    title = "Scalepoint ClaimShop"
    doors: Sequence[Door] = ("webhook", "poll")
    acknowledged = None
    acknowledging = True
    shutdown_s = 0.1  # long polls would wait until their end

    def __init__(self, *, now: Callable[[], datetime] = utc_now, prefix: str | None = None) -> None:
        self.now = now
        self.identity = Identity(lambda: self.now())
        self.publishing = Publishing(self.identity)
        self.webhook_kind: Literal["bearer", "basic", "jwt"] = "bearer"
        self.webhook_secret = "constructed-secret-do-not-use"  # noqa: S105 - it guards nothing
        self.placed: dict[str, Placed] = {}
        self.asked: list[str] = []
        self.hold_s = 25.0
        self._prefix = random.token_hex(4) if prefix is None else prefix
        self._count = 0
        self._events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._faults: deque[tuple[int, bytes]] = deque()
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/connect/token", self._token)
        application.router.add_get("/jwks", self._keys)
        application.router.add_get("/api/Orders", self._order)
        application.router.add_get(f"/api/events/v1/dk/external/{TENANT}/receive", self._receive)
        self.publishing.open(application)
        return application

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        await super().start(host, port)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))
        self.identity.audience = f"{self.address}/connect/token"

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        await super().stop()

    def source(self, secrets: Path) -> dict[str, Any]:
        pair = self.identity.register()
        for name, text in (("key", pair.key), ("cert", pair.certificate), ("webhook", self.webhook_secret)):
            (secrets / f"scalepoint-{name}").write_text(text + "\n")
        for name in ("scalepoint.jsonata", "publish.jsonata"):
            (secrets / name).write_text(files("gateway_scalepoint").joinpath(f"examples/{name}").read_text("utf-8"), "utf-8")
        settings = self.settings() | {
            "webhook_auth": self._webhook_auth({"file": str(secrets / "scalepoint-webhook")}),
            "private_key": {"file": str(secrets / "scalepoint-key")},
            "certificate": {"file": str(secrets / "scalepoint-cert")},
            "mapping": str(secrets / "scalepoint.jsonata"),
            "publish_payload": str(secrets / "publish.jsonata"),
        }
        return {"connector": "scalepoint", "settings": settings}

    def settings(self) -> dict[str, Any]:
        """Return its `[sources.NAME.settings]` without those that are files."""
        return {
            "order_url": f"{self.address}/api/Orders?ExternalId={{orderToken}}",
            "token_url": f"{self.address}/connect/token",
            "client_id": self.identity.client_id,
            "scope": "orders",
            "receive_url": f"{self.address}/api/events/v1/dk/external/{TENANT}/receive?lastEventId={{lastEventId}}",
            "publish_url": f"{self.address}/api/events/v1/{{country}}/external/{{tenant}}/send",
            "publish_country": "dk",
            "publish_tenant": TENANT,
            "publish_type_header": TYPE_HEADER,
            "start": {"after_event": "_900000"},
            "poll_interval_s": 0.5,
            "fetch_retry_s": [0.2, 0.5, 1, 2],
            "currency": "DKK",
        }

    def _webhook_auth(self, secret: Any) -> dict[str, Any]:
        if self.webhook_kind == "jwt":
            return {"kind": "jwt", "issuer": self.address, "audience": AUDIENCE, "jwks_url": f"{self.address}/jwks", "scope": "events.push"}
        if self.webhook_kind == "basic":
            return {"kind": "basic", "username": "scalepoint", "password": secret}
        return {"kind": "bearer", "token": secret}

    async def place(self, gateway_url: str, source: str, door: Door | None = None) -> Sent:
        n = self._count
        one = self.new(lines=[(n % 5, 1 + n % 3), ((n + 2) % 5, 1)][: 1 + n % 2])
        if door == "poll" or (door is None and n % 3 == 2):
            self.publish(one.event)
            return _sent(one, "poll", "taken", "placed")
        return _sent(one, "webhook", await self.push(f"{gateway_url}/in/{source}", one.event), "placed")

    async def script(self, gateway_url: str, source: str) -> Sequence[Sent]:
        url, done = f"{gateway_url}/in/{source}", []

        async def webhook(one: Placed, note: str, expected: Literal["placed", "held"] = "placed") -> None:
            done.append(_sent(one, "webhook", await self.push(url, one.event), expected, note))

        def poll(one: Placed, note: str) -> None:
            self.publish(one.event)
            done.append(_sent(one, "poll", "taken", "placed", note))

        await webhook(self.new(), "a list with one order")
        await webhook(self.new(shape="object", lines=[(1, 1)]), "an order by itself, with one line")
        poll(self.new(shape="wrapper", lines=[(2, 2), (3, 1)]), "an order in a wrapper")
        await webhook(self.new(late=2), "not there yet, twice")
        poll(self.new(late=1, absent="empty"), "not there yet: an empty list")
        both = self.new(lines=[(3, 4)])
        self.publish(both.event)
        await self.push(url, both.event)
        await webhook(both, "sent twice, and through the other door as well")
        again = self.new(lines=[(0, 2)])
        await webhook(again, "then another event of the same order, which is as it was")
        await self.push(url, self.again(again))
        await webhook(self.new(claim=1, lines=[(1, 1)]), "a second order of the first claim")
        await webhook(self.new(payloadVersion="2.0.0"), "a new major version of the event, flagged")
        await webhook(self.new(shape="two"), "two orders for one token", "held")
        for body, proof, note in (
            (_encoded(foreign(self._id(), self.now())), None, "an event that is not about orders"),
            (b'{"eventType": "order_created"', None, "cut off; kept, and answered 200"),
            (_encoded(self.new().event), "Bearer wrong", "a wrong proof"),
        ):
            answer = _meaning(await self.post(url, body, proof))
            done.append(
                Sent(order_ref="-", order_number="-", door="webhook", answer=answer, expected="nothing", lines=0, total=None, note=note)
            )
        return done

    def new(
        self, *, claim: int | None = None, shape: Shape = "list", late: int = 0, absent: Literal["404", "empty"] = "404", **more: Any
    ) -> Placed:
        """Make an order and its event, without sending the event.

        Args:
            claim: Number of the claim; by default a new one.
            more: `lines` of the order, and fields of the event.
        """
        self._count += 1
        token = f"{self._prefix}-2222-4222-8222-{self._count:012X}".upper()
        lines = {"lines": more.pop("lines")} if "lines" in more else {}
        told = event(token, claim=claim or self._count, correlation=self._id(), at=self.now(), **more)
        one = Placed(order=order(token, at=self.now(), **lines), event=told, shape=shape, late=late, absent=absent)
        self.placed[token.lower()] = one
        return one

    def change(self, one: Placed, lines: Sequence[tuple[int, int]]) -> None:
        """Change an order without an event."""
        one.order = order(one.order["externalId"], at=datetime.strptime(one.order["createdAt"], "%Y-%m-%dT%H:%M:%S%z"), lines=lines)

    def again(self, one: Placed, **fields: Any) -> dict[str, Any]:
        """Make another event of the same order: spelt differently, with nulls and another correlation id (sample 5.2)."""
        case = one.event["case"] | {"uuid": None, "externalClaimId": None, "token": f"ic.{self._id().lower()}"}
        other = {"eventType": "ORDER-CREATED", "payloadVersion": "1.1.0", "correlationId": self._id().lower(), "case": case}
        return {"$schema": "./schemas/constructed.json", **one.event, **other, "orderToken": one.event["orderToken"].lower(), **fields}

    def _id(self) -> str:
        return f"0A1B2C3D-0000-4000-8000-{random.token_hex(6)}".upper()

    def publish(self, told: dict[str, Any], **wrapper: Any) -> str:
        """Add an event to the stream of the long poll; return its id."""
        id = f"_{900001 + len(self._events)}"
        at = self.now().strftime("%Y-%m-%dT%H:%M:%S.%f123Z")
        self._events.append({"id": id, "type": told.get("eventType"), "timestamp": at, "attributes": told} | wrapper)
        self._news.set()
        return id

    async def push(self, url: str, told: dict[str, Any]) -> Answer:
        """Send an event by webhook, again while there is no answer or a 5xx."""
        for _ in range(_PATIENCE):
            answer = _meaning(await self.post(url, _encoded(told)))
            if answer != "failed":
                return answer
            await asyncio.sleep(_PAUSE_S)
        return "failed"

    async def post(self, url: str, body: bytes, proof: str | None = None) -> int:
        """Send a webhook; return the status, 0 without an answer."""
        assert self._session is not None
        headers = {"Content-Type": "application/json", "Authorization": proof or self.proof()}
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    def proof(self) -> str:
        """Return the `Authorization` header of a webhook."""
        if self.webhook_kind == "jwt":
            return f"Bearer {self.identity.webhook_token(self.address, AUDIENCE)}"
        if self.webhook_kind == "basic":
            return f"Basic {base64.b64encode(f'scalepoint:{self.webhook_secret}'.encode()).decode()}"
        return f"Bearer {self.webhook_secret}"

    def answer_next(self, status: int, body: bytes = b"", times: int = 1) -> None:
        """Answer the next calls of the two APIs with this status and body."""
        self._faults.extend([(status, body)] * times)

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        status, body = self.identity.token(form)
        return web.json_response(body, status=status, headers={"Date": self.now().strftime("%a, %d %b %Y %H:%M:%S GMT")})

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response(self.identity.key_set())

    def _refused(self, request: web.Request, scope: str) -> web.Response | None:
        if not self.identity.allows(request.headers.get("Authorization", ""), scope):
            return web.Response(status=401)
        self.asked.append(request.raw_path)
        if self._faults:
            status, body = self._faults.popleft()
            return web.Response(status=status, body=body, content_type="text/html" if body.startswith(b"<") else "application/json")
        return None

    async def _order(self, request: web.Request) -> web.Response:
        if (refusal := self._refused(request, "orders")) is not None:
            return refusal
        one = self.placed.get(request.query.get("ExternalId", "").lower())
        if one is None or one.late > 0:
            if one is not None:
                one.late -= 1
            is_empty = one is not None and one.absent == "empty"
            return web.Response(body=b"[]" if is_empty else b"", status=200 if is_empty else 404, content_type="application/json")
        return web.Response(body=one.body(), content_type="application/json")

    async def _receive(self, request: web.Request) -> web.Response:
        if (refusal := self._refused(request, "events")) is not None:
            return refusal
        after = request.query.get("lastEventId", "")
        found = self._after(after)
        if not found:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.hold_s):
                    await self._news.wait()
            found = self._after(after)
        following = found[-1]["id"] if found else after
        links = {"next": f"https://project0x.scalepoint.com{request.path}?lastEventId={following}"}
        return web.json_response({"links": links, "meta": {}, "data": found})

    def _after(self, id: str) -> list[dict[str, Any]]:
        ids = [one["id"] for one in self._events]
        return self._events[ids.index(id) + 1 :] if id in ids else list(self._events)


_exact = msgspec.json.Encoder(decimal_format="number")


def _encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def _meaning(status: int) -> Answer:
    return "taken" if 200 <= status < 300 else "refused" if 400 <= status < 500 else "failed"


def _sent(one: Placed, door: Literal["webhook", "poll"], answer: Answer, expected: Literal["placed", "held"], note: str = "") -> Sent:
    return Sent(
        order_ref=one.order["externalId"].lower(),
        order_number=one.order["externalId"],
        door=door,
        answer=answer,
        expected=expected,
        lines=len(one.order["lines"]),
        total=str(one.order["total"]),
        note=note,
    )


async def _serve(options: argparse.Namespace, folder: Path) -> None:
    simulator = ScalepointSimulator()
    simulator.webhook_kind = options.auth
    host, _, port = options.listen.rpartition(":")
    await simulator.start(host, int(port))
    gateway_url, _, source = options.gateway.rpartition("/in/")
    print(f"simulated Scalepoint at {simulator.address}; keys and the example mapping are in {folder}; settings of the source:")
    await demonstrate(
        simulator,
        simulator.source(folder)["settings"],
        script=options.script,
        every_s=options.every,
        gateway_url=gateway_url,
        source=source,
    )


def main() -> None:
    """Run the simulator from the command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway_scalepoint.simulator", description="A simulated Scalepoint.")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080/in/claims", metavar="URL", help="where webhooks go")
    parser.add_argument("--listen", default="127.0.0.1:9102", metavar="ADDRESS:PORT", help="where its APIs listen")
    parser.add_argument("--folder", metavar="FOLDER", help="where to write keys, secrets and the mapping; default a new one")
    parser.add_argument("--auth", choices=["bearer", "basic", "jwt"], default="bearer", help="how webhooks prove themselves")
    parser.add_argument("--every", type=float, default=5, metavar="SECONDS", help="between two orders")
    parser.add_argument("--script", action="store_true", help="first the special cases, each once")
    with contextlib.suppress(KeyboardInterrupt):
        options = parser.parse_args()
        folder = Path(options.folder or tempfile.mkdtemp(prefix="scalepoint-"))
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_serve(options, folder))


if __name__ == "__main__":
    main()
