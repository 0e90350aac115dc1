"""What the processes that somebody could run instead of the gateway have in common: arguments, the signature, the web server.

No line of the gateway's is in them. Each says first how it keeps orders: `synchronous` and `journal_mode` of its own connection, read back.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import aiohttp
from aiohttp import web
from msgspec import Struct

from benchmarks.orders import SECRET

MISSING = "not installed: make bench-extras"
_STORED = b'{"status":"stored"}'


class Kind(Struct, frozen=True, kw_only=True):
    """One of them: `python -m benchmarks.MODULE`.

    Attributes:
        extra: The distribution it is built upon, where that is none of the project's.
        workers: Processes beside the one with the door, which deliver.
        aim: For the gateway's rate over its rate, end to end.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    extra: str | None = None
    workers: int = 0
    aim: float | None = None

    @property
    def installed(self) -> bool:
        return self.extra is None or find_spec(self.extra) is not None


KINDS = (
    Kind(name="afternoon", module="afternoon", aim=3.0),
    Kind(name="afternoon-shared", module="afternoon", arguments=("--shared",)),
    Kind(name="huey", module="on_huey", extra="huey", workers=1),
    Kind(name="dbos", module="on_dbos", extra="dbos"),
)


class Options(argparse.Namespace):
    """The arguments that all of them take."""

    data: Path
    erp: str
    header: str
    connections: int
    worker: bool
    shared: bool


def options(description: str | None) -> Options:
    """Read the arguments. `worker`: be the process that delivers, where that is another one; `shared`: see benchmarks/afternoon.py."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--erp", required=True)
    parser.add_argument("--header", required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--shared", action="store_true")
    return parser.parse_args(namespace=Options())


def door(header: str, keep: Callable[[str, bytes], Awaitable[None]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that checks the signature, lets `keep` make the order durable, and answers after that."""
    secret = SECRET.encode()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        signature = hmac.new(secret, body, "sha256").hexdigest()
        if not hmac.compare_digest(signature, request.headers.get(header, "")):
            return web.Response(status=401)
        await keep(json.loads(body)["id"], body)
        return web.Response(body=_STORED, content_type="application/json")

    return take


async def post(session: aiohttp.ClientSession, erp: str, name: str, body: bytes) -> None:
    """Give the ERP one order. Raises ClientResponseError where it does not take it."""
    async with session.post(erp, data=body, headers={"Content-Type": "application/json", "Idempotency-Key": name}) as answer:
        await answer.read()
        answer.raise_for_status()


async def serve(take: Callable[[web.Request], Awaitable[web.Response]], **facts: object) -> None:
    """Say the port and the facts, then serve until killed; the server is set as the one of benchmarks/plain.py."""
    application = web.Application()
    application.router.add_post("/in/{source}", take)
    runner = web.AppRunner(
        application, handle_signals=False, access_log=None, auto_decompress=False, keepalive_timeout=15.0, lingering_time=2.0
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps({"port": runner.addresses[0][1], **facts}), flush=True)
    await asyncio.Event().wait()
