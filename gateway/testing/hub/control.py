"""The hub as a process of its own: HTTP commands beside the hub, to send, to count, and to break it.

| `/control/...` | effect |
| --- | --- |
| `POST send` `{"target": ..., "arguments": [...]}` | one call of every client |
| `POST burst?count=10000&per_frame=1`, same body | that many; `{n}` in a text argument becomes the number, from 0 |
| `POST abort` | a Close message without `allowReconnect`, as the server's own abort |
| `POST close?allow=true&error=...` | a Close message that asks clients to come again |
| `POST cut?how=fin`, `rst` | the end of TCP |
| `POST refuse?count=3&status=503&where=any` | the next requests to the hub get that status |
| `POST set` `{"ping_s": 0, "mute": "handshake", ...}` | any attribute of `FaultHub` that is a plain value |
| `GET connections` | `live`, `opened`, `closed`, `pings`, and the headers that each connection came with |
| `POST stop` | the end |
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

from gateway.testing.hub.server import FaultHub, Heard

_MAY_BE_SET = ("key", "ping_s", "client_timeout_s", "versions", "cookie", "mute", "delays_s")


class ControlledHub(FaultHub):
    """A `FaultHub` that takes commands over HTTP; without a credential, so for loopback only."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.stopped = asyncio.Event()

    async def control(self, heard: Heard, body: bytes) -> tuple[int, bytes]:
        query = heard.query
        given = json.loads(body) if body else {}
        match (heard.method, heard.path.removeprefix("/control/")):
            case ("POST", "send"):
                await self.send(given["target"], *given["arguments"])
            case ("POST", "burst"):
                made = self._numbered(given["arguments"])
                await self.burst(int(query["count"]), int(query.get("per_frame", "1")), given["target"], made)
            case ("POST", "abort"):
                await self.close()
            case ("POST", "close"):
                await self.close(query.get("error"), {"true": True, "false": False}.get(query.get("allow", "")))
            case ("POST", "cut"):
                for line in self.live:
                    line.rst() if query.get("how") == "rst" else line.fin()
            case ("POST", "refuse"):
                where: Any = query.get("where", "any")
                self.refuse(where, int(query.get("status", "503")), times=int(query["count"]))
            case ("POST", "set"):
                for name in set(given) & set(_MAY_BE_SET):
                    setattr(self, name, given[name])
            case ("GET", "connections"):
                return 200, json.dumps(self._snapshot()).encode()
            case ("POST", "stop"):
                self.stopped.set()
            case _:
                return 404, b""
        return 200, b""

    @staticmethod
    def _numbered(arguments: list[Any]) -> Any:
        return lambda n: [one.replace("{n}", str(n)) if isinstance(one, str) else one for one in arguments]

    def _snapshot(self) -> dict[str, Any]:
        online = [line for line in self.lines if line.online]
        return {
            "live": len(self.live),
            "opened": len(online),
            "closed": len(online) - len(self.live),
            "pings": sum(len(line.pings) for line in online),
            "transports": ["WebSockets" for _ in self.live],
            "headers": [line.heard.headers for line in self.live],
        }


def main() -> None:
    """Serve until `stop`, SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m gateway.testing.hub", description="A SignalR hub for tests, on loopback.")
    parser.add_argument("--port", type=int, default=5080)
    parser.add_argument("--path", default="/hub")
    parser.add_argument("--key", default="test-key")
    parser.add_argument("--key-in", default="header:x-api-key", help="header:NAME, query:NAME or bearer")
    parser.add_argument("--keep-alive", type=float, default=15, metavar="S")
    parser.add_argument("--client-timeout", type=float, default=30, metavar="S")
    given = parser.parse_args()
    asyncio.run(_serve(given))


async def _serve(given: argparse.Namespace) -> None:
    hub = ControlledHub(path=given.path, key=given.key, key_in=given.key_in, ping_s=given.keep_alive, client_timeout_s=given.client_timeout)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, hub.stopped.set)
    await hub.start(given.port)
    print(f"listening on {hub.url}", flush=True)
    await hub.stopped.wait()
    await hub.stop()
