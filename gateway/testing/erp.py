"""An ERP to send to: it takes canonical messages by HTTP, remembers them all, and can be as unkind as real ones are.

    python -m gateway.testing.erp --listen 127.0.0.1:9090 --log received.jsonl

`POST /orders` takes a message. `POST /faults` arms faults, as JSON: `[{"fault": "status", "status": 503, "times": 3}]`.
`GET /received` lists every request that was heard, `GET /orders` what the ERP holds, by key.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

Fault = Literal["slow", "lose_answer", "reset", "half_answer", "status", "drop_before"]


class Armed(Struct, kw_only=True):
    """A fault for the next requests.

    `slow`: answer `delay_s` late. `lose_answer`: take the order, then close without an answer. `drop_before`: close
    without taking it. `reset`: take it, then reset. `half_answer`: take it, and break off inside the answer. `status`:
    answer this status, with `headers`, without taking it.
    """

    fault: Fault
    times: int = 1
    status: int = 503
    delay_s: float = 0.0
    headers: dict[str, str] = {}
    body: str = ""
    only: str | None = None


class Heard(Struct, frozen=True, kw_only=True):
    """One request as it came. `taken`: it changed what the ERP holds, or found it there."""

    key: str
    body: bytes
    headers: dict[str, str]
    taken: bool
    status: int


class ErpSimulator:
    """An ERP that honours `Idempotency-Key`: the second request with a key changes nothing and is answered as the first.

    Args:
        token: Where given, a request without `Authorization: Bearer TOKEN` is a 401.
        duplicate_status: How a repeated key is answered.
        log: A file that gets one line per request, flushed before the answer leaves, so that a test that kills things can
            read what was really taken.
    """

    def __init__(self, *, token: str | None = None, duplicate_status: int = 200, log: Path | None = None) -> None:
        self.token = token
        self.duplicate_status = duplicate_status
        self.heard: list[Heard] = []
        self.orders: dict[str, bytes] = {}
        self.sequence: list[str] = []
        self._armed: list[Armed] = []
        self._log = log.open("ab", buffering=0) if log else None
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._more = asyncio.Event()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; the same port again after a `stop`, where none is given."""
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/orders", self._take)
        application.router.add_post("/faults", self._arm)
        application.router.add_get("/received", self._received)
        application.router.add_get("/orders", self._orders)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port or self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close; what it holds stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where orders go."""
        return f"{self.address}/orders"

    def arm(self, fault: Fault, **more: Any) -> None:
        """Make the next requests fail; see `Armed`."""
        self._armed.append(Armed(fault=fault, **more))

    def disarm(self) -> None:
        """Be kind again."""
        self._armed.clear()

    def messages(self) -> list[dict[str, Any]]:
        """What the ERP holds, decoded, in the order in which it was first taken."""
        return [msgspec.json.decode(self.orders[key]) for key in self.sequence]

    async def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        """Until the ERP holds this many messages. Raises TimeoutError, with what it holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.orders) < count:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise TimeoutError(f"the ERP holds {len(self.orders)} messages, not {count}: {self.sequence[-5:]}") from None

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        armed = self._next(key)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._note(request, key, body, 401, taken=False)
        if armed is not None and armed.fault == "slow":
            await asyncio.sleep(armed.delay_s)
        if armed is not None and armed.fault == "drop_before":
            self._note(request, key, body, 0, taken=False)
            return self._cut(request)
        if armed is not None and armed.fault == "status":
            return self._note(request, key, body, armed.status, taken=False, text=armed.body, headers=armed.headers)
        known = key in self.orders
        answer = self._note(request, key, body, self.duplicate_status if known else 201, taken=True)
        if armed is not None and armed.fault in ("lose_answer", "reset"):
            return self._cut(request, reset=armed.fault == "reset")
        if armed is not None and armed.fault == "half_answer":
            return await self._half(request)
        return answer

    def _next(self, key: str) -> Armed | None:
        for armed in self._armed:
            if armed.only is None or armed.only == key:
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
        said = text.encode() if text else msgspec.json.encode({"id": f"SO-{len(self.sequence):06}", "key": key})
        return web.Response(status=status or 500, body=said, content_type="application/json", headers=headers)

    def _cut(self, request: web.Request, *, reset: bool = False) -> web.StreamResponse:
        if request.transport is not None:
            if reset:
                request.transport.abort()
            else:
                request.transport.close()
        return web.Response(status=500)

    async def _half(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=201, headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            await answer.write(b'{"id": "SO-')
        return self._cut(request)

    async def _arm(self, request: web.Request) -> web.Response:
        try:
            self._armed = msgspec.json.decode(await request.read(), type=list[Armed])
        except msgspec.MsgspecError as error:
            return web.Response(status=400, text=f'send a list as in [{{"fault": "status", "status": 503, "times": 3}}]: {error}\n')
        return web.json_response({"armed": len(self._armed)})

    async def _received(self, _: web.Request) -> web.Response:
        return web.json_response([{"key": h.key, "status": h.status, "taken": h.taken} for h in self.heard])

    async def _orders(self, _: web.Request) -> web.Response:
        return web.Response(body=b"[" + b",".join(self.orders[key] for key in self.sequence) + b"]", content_type="application/json")


async def _serve(host: str, port: int, log: Path | None, token: str | None) -> None:
    erp = ErpSimulator(log=log, token=token)
    await erp.start(host, port)
    print(f"simulated ERP takes orders at {erp.url}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Run it by itself."""
    parser = argparse.ArgumentParser(description="A simulated ERP that takes order-gateway messages.")
    parser.add_argument("--listen", default="127.0.0.1:9090", metavar="ADDRESS:PORT")
    parser.add_argument("--log", type=Path, help="append one JSON line per request")
    parser.add_argument("--token-env", metavar="NAME", help="demand the bearer token that this environment variable holds")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(host, int(port), options.log, os.environ[options.token_env] if options.token_env else None))


if __name__ == "__main__":
    main()
