"""An ERP to send to: it takes canonical messages by HTTP, remembers them all, and can be as unkind as real ones are.

    python -m gateway.testing.erp --listen 127.0.0.1:9090 --log received.jsonl

`POST /orders` takes a message. `POST /faults` arms faults, as JSON: `[{"fault": "status", "status": 503, "times": 3}]`.
`GET /received` lists every request that was heard, `GET /orders` what the ERP holds, by key.

With `honours_key=False` (`--unkeyed`) it is an ERP as most are: every request makes an order of its own, whatever its key.
`GET /orders?name=REF` looks for the orders of an `order_ref`, and orders can be followed by `POST /orders/{id}/lines` and
`POST /orders/{id}/confirm`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.testing.loopback import LoopbackServer, cut, half_answer

Fault = Literal["slow", "lose_answer", "reset", "half_answer", "status", "drop_before"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Armed(Struct, kw_only=True):
    """A fault for the next requests.

    `slow`: answer `delay_s` late. `lose_answer`: take the order, then close without an answer. `drop_before`: close
    without taking it. `reset`: take it, then reset. `half_answer`: take it, and break off inside the answer. `status`:
    answer this status, with `headers`, without taking it. `on`: for orders, look-ups, or what follows an order.
    """

    fault: Fault
    times: int = 1
    status: int = 503
    delay_s: float = 0.0
    headers: dict[str, str] = {}
    body: str = ""
    only: str | None = None
    on: Literal["order", "look", "step"] = "order"


class Made(Struct, kw_only=True):
    """An order as an ERP has it that recognises no repeat. `lines` and `confirmed` count further requests."""

    id: int
    name: str
    key: str
    lines: list[str] = []
    confirmed: int = 0

    @property
    def number(self) -> str:
        return f"SO-{self.id:06}"


class Heard(Struct, frozen=True, kw_only=True):
    """Received request. `taken`: the ERP stored its order, or had it already."""

    key: str
    body: bytes
    headers: dict[str, str]
    taken: bool
    status: int


class ErpSimulator(LoopbackServer):
    """Simulator of an ERP with `Idempotency-Key`: the second request with a key changes nothing and is answered as the first.

    Args:
        honours_key: False: every request that is taken makes an order; `made` has them all.
        token: Where given, a request about orders without `Authorization: Bearer TOKEN` is a 401, by whatever method.
        duplicate_status: How a repeated key is answered.
        log: A file that gets one line per request, flushed before the answer leaves, so that a test that kills things can
            read what was really taken.
    """

    def __init__(self, *, token: str | None = None, duplicate_status: int = 200, log: Path | None = None, honours_key: bool = True) -> None:
        self.token = token
        self.honours_key = honours_key
        self.made: list[Made] = []
        self.looks = 0
        self.lost_share = 0.0
        self.dice: Callable[[], float] = random.random
        self.duplicate_status = duplicate_status
        self.heard: list[Heard] = []
        self.orders: dict[str, bytes] = {}
        self.sequence: list[str] = []
        self._armed: list[Armed] = []
        self._log = log.open("ab", buffering=0) if log else None
        self._more = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self._let_in])
        application.router.add_post("/orders", self._take)
        application.router.add_post("/faults", self._arm)
        application.router.add_get("/received", self._received)
        application.router.add_get("/orders", self._orders)
        application.router.add_post("/orders/{id}/lines", self._add_line)
        application.router.add_post("/orders/{id}/confirm", self._confirm)
        return application

    @property
    def url(self) -> str:
        """Address for orders."""
        return f"{self.address}/orders"

    def arm(self, fault: Fault, **more: Any) -> None:
        """Make the next requests fail; see `Armed`."""
        self._armed.append(Armed(fault=fault, **more))

    def disarm(self) -> None:
        """Remove all faults."""
        self._armed.clear()

    def forget(self) -> None:
        """Forget all requests, orders and faults."""
        self.disarm()
        self.heard, self.orders, self.sequence = [], {}, []

    def messages(self) -> list[dict[str, Any]]:
        """Return the ERP's orders, decoded, in the order of their arrival."""
        return [msgspec.json.decode(self.orders[key]) for key in self.sequence]

    async def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until the ERP holds this many messages. Raises TimeoutError, with what it holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.orders) < count:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise TimeoutError(f"the ERP holds {len(self.orders)} messages, not {count}: {self.sequence[-5:]}") from None

    @web.middleware
    async def _let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests about orders without the token, whatever their method, so that a test of the credentials fails."""
        if (
            self._is_stranger(request)
            and request.path.startswith("/orders")
            and not (request.method == "POST" and request.path == "/orders")
        ):
            return web.Response(status=401)
        return await handler(request)

    def _is_stranger(self, request: web.Request) -> bool:
        return self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}"

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        armed = self._next(key)
        if self._is_stranger(request):
            return self._note(request, key, body, 401, taken=False)
        if armed is not None and armed.fault == "slow":
            await asyncio.sleep(armed.delay_s)
        if armed is not None and armed.fault == "drop_before":
            self._note(request, key, body, 0, taken=False)
            return cut(request)
        if armed is not None and armed.fault == "status":
            return self._note(request, key, body, armed.status, taken=False, text=armed.body, headers=armed.headers)
        known = key in self.orders and self.honours_key
        if not self.honours_key:
            self.made.append(Made(id=len(self.made) + 1, name=str(msgspec.json.decode(body)["order"]["order_ref"]), key=key))
        answer = self._note(request, key, body, self.duplicate_status if known else 201, taken=True)
        if self.lost_share and self.dice() < self.lost_share:
            return cut(request)
        if armed is not None and armed.fault in ("lose_answer", "reset"):
            return cut(request, reset=armed.fault == "reset")
        if armed is not None and armed.fault == "half_answer":
            return await half_answer(request, 201)
        return answer

    def doubled(self) -> list[str]:
        """Return the keys of messages that became more than one order."""
        keys = [made.key for made in self.made]
        return sorted({key for key in keys if keys.count(key) > 1})

    def _next(self, key: str, on: str = "order") -> Armed | None:
        for armed in self._armed:
            if armed.on == on and (armed.only is None or armed.only == key):
                armed.times -= 1
                if armed.times <= 0:
                    self._armed.remove(armed)
                return armed
        return None

    def _note(
        self,
        request: web.Request,
        key: str,
        body: bytes,
        status: int,
        *,
        taken: bool,
        text: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        heard = Heard(key=key, body=body, headers={n.lower(): v for n, v in request.headers.items()}, taken=taken, status=status)
        self.heard.append(heard)
        if taken and key not in self.orders:
            self.orders[key] = body
            self.sequence.append(key)
            self._more.set()
        if self._log is not None:
            entry = {"key": key, "body": body.decode("utf-8", "replace"), "taken": taken, "status": status}
            self._log.write(json.dumps(entry).encode() + b"\n")
        number = f"SO-{len(self.sequence if self.honours_key else self.made):06}"
        said = text.encode() if text else msgspec.json.encode({"id": number, "key": key})
        if not self.honours_key and taken and not text:
            said = msgspec.json.encode({"id": self.made[-1].id, "number": number})
        return web.Response(status=status or 500, body=said, content_type="application/json", headers=headers)

    async def _arm(self, request: web.Request) -> web.Response:
        try:
            self._armed = msgspec.json.decode(await request.read(), type=list[Armed])
        except msgspec.MsgspecError as error:
            return web.Response(status=400, text=f'send a list as in [{{"fault": "status", "status": 503, "times": 3}}]: {error}\n')
        return web.json_response({"armed": len(self._armed)})

    async def _received(self, _: web.Request) -> web.Response:
        return web.json_response([{"key": h.key, "status": h.status, "taken": h.taken} for h in self.heard])

    async def _broken(self, request: web.Request, on: str) -> web.StreamResponse | None:
        """Carry out the next fault for a look-up or a step; return its answer if the request must do nothing."""
        armed = self._next("", on)
        if armed is None or armed.fault in ("lose_answer", "reset"):
            return None
        if armed.fault == "slow":
            await asyncio.sleep(armed.delay_s)
            return None
        if armed.fault == "status":
            return web.Response(status=armed.status, text=armed.body, headers=armed.headers)
        return cut(request)

    async def _followed(self, request: web.Request, change: Callable[[Made], None]) -> web.StreamResponse:
        """Carry out a further step of an order, even if its answer is lost."""
        loses = any(armed.on == "step" and armed.fault in ("lose_answer", "reset") for armed in self._armed[:1])
        if (broken := await self._broken(request, "step")) is not None:
            return broken
        found = [made for made in self.made if str(made.id) == request.match_info["id"]]
        if not found:
            return web.json_response({"error": "no such order"}, status=404)
        change(found[0])
        return cut(request) if loses else web.json_response({"id": found[0].id})

    async def _add_line(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        return await self._followed(request, lambda made: made.lines.append(str(body["article"])))

    async def _confirm(self, request: web.Request) -> web.StreamResponse:
        def confirm(made: Made) -> None:
            made.confirmed += 1

        return await self._followed(request, confirm)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        self.looks += 1
        if (broken := await self._broken(request, "look")) is not None:
            return broken
        found = [made for made in self.made if made.name == request.query["name"]]
        rows = [{"id": m.id, "number": m.number, "lines": len(m.lines), "confirmed": m.confirmed} for m in found]
        return web.json_response({"value": rows})

    async def _orders(self, request: web.Request) -> web.StreamResponse:
        if "name" in request.query:
            return await self._look(request)
        return web.Response(body=b"[" + b",".join(self.orders[key] for key in self.sequence) + b"]", content_type="application/json")


async def _serve(host: str, port: int, log: Path | None, token: str | None, honours_key: bool) -> None:
    erp = ErpSimulator(log=log, token=token, honours_key=honours_key)
    await erp.start(host, port)
    print(f"simulated ERP takes orders at {erp.url}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Run the simulator from the command line."""
    parser = argparse.ArgumentParser(description="A simulated ERP that takes order-gateway messages.")
    parser.add_argument("--listen", default="127.0.0.1:9090", metavar="ADDRESS:PORT")
    parser.add_argument("--log", type=Path, help="append one JSON line per request")
    parser.add_argument("--token-env", metavar="NAME", help="demand the bearer token that this environment variable holds")
    parser.add_argument("--unkeyed", action="store_true", help="make an order of every request, whatever its key")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(host, int(port), options.log, os.environ[options.token_env] if options.token_env else None, not options.unkeyed))


if __name__ == "__main__":
    main()
