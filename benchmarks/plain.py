"""What the gateway is compared with, a process of its own: the least that takes a webhook, and the least that passes it on.

Both are plain aiohttp, set as the gateway sets it (no access log, no decompression, idle connections closed after 15 s), and
hold no line of the gateway's, whatever it may add or save.
`bare` reads the body and answers 200. `relay` reads the body, posts it to the ERP, and answers after the ERP has answered.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json

import aiohttp
from aiohttp import web


async def bare(request: web.Request) -> web.Response:
    """Read and answer."""
    await request.read()
    return web.Response(body=b'{"status":"stored"}', content_type="application/json")


class Relay:
    """Read, pass on, answer; nothing is kept, an order that the ERP does not take is lost."""

    def __init__(self, session: aiohttp.ClientSession, erp: str) -> None:
        self._session = session
        self._erp = erp

    async def __call__(self, request: web.Request) -> web.Response:
        """Answer one webhook."""
        body = await request.read()
        async with self._session.post(self._erp, data=body, headers={"Content-Type": "application/json"}) as answer:
            await answer.read()
        return web.Response(status=200 if answer.status < 300 else 502, body=b'{"status":"delivered"}', content_type="application/json")


async def serve(what: str, erp: str, connections: int) -> None:
    """Say the port, then serve until killed."""
    application = web.Application()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections))
    application.router.add_post("/in/{source}", bare if what == "bare" else Relay(session, erp).__call__)
    runner = web.AppRunner(
        application, handle_signals=False, access_log=None, auto_decompress=False, keepalive_timeout=15.0, lingering_time=2.0
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    gc.collect()
    gc.freeze()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["bare", "relay"])
    parser.add_argument("--erp", default="")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    asyncio.run(serve(options.what, options.erp, options.connections))


if __name__ == "__main__":
    main()
