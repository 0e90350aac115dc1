"""The ERP of the benchmark, a process of its own: answers 201 at once, and knows every key it was given.

It answers commands on standard input, each a line of JSON: `reset`, `wait`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nidempotency-key: *([^\r]+)", re.IGNORECASE)
_ID = re.compile(rb'"id": ?"([^"]+)"')
_ANSWER = b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{"id":"SO-0000001"}'


class Erp:
    """What has come in: how often under each key, and when the first and the last new one came."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.keys: dict[bytes, int] = {}
        self.first_at = self.last_at = 0.0
        self.wanted = 0
        self.reached = asyncio.Event()
        self.cpu_began = time.process_time()

    def take(self, key: bytes) -> None:
        """Note one order."""
        known = self.keys.get(key, 0)
        self.keys[key] = known + 1
        if not known:
            self.last_at = time.monotonic()
            self.first_at = self.first_at or self.last_at
            if len(self.keys) == self.wanted:
                self.reached.set()

    async def wait(self, count: int, timeout_s: float) -> dict[str, Any]:
        """Until so many keys are known or the time is up; everything there is to say."""
        self.wanted = count
        if len(self.keys) < count:
            self.reached.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self.reached.wait()
            except TimeoutError:
                pass
        return {
            "keys": [key.decode() for key in self.keys],
            "repeats": sum(self.keys.values()) - len(self.keys),
            "first_at": self.first_at,
            "last_at": self.last_at,
            "cpu_s": time.process_time() - self.cpu_began,
        }


class Wire(asyncio.Protocol):
    """One connection: as little HTTP as it takes."""

    def __init__(self, erp: Erp) -> None:
        self._erp = erp
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._got + data if self._got else data
        while data:
            end = data.find(b"\r\n\r\n")
            found = _LENGTH.search(data, 0, end) if end > 0 else None
            whole = end + 4 + int(found[1]) if found else 0
            if not whole or len(data) < whole:
                break
            key = _KEY.search(data, 0, end) or _ID.search(data, end)
            self._erp.take(key[1] if key else b"")
            self._transport.write(_ANSWER)
            data = data[whole:]
        self._got = data


async def serve() -> None:
    """Say the port, then take orders and commands until standard input ends."""
    loop = asyncio.get_running_loop()
    erp = Erp()
    server = await loop.create_server(lambda: Wire(erp), "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    commands = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while text := await commands.readline():
        command = json.loads(text)
        if command["do"] == "reset":
            erp.reset()
            said: dict[str, Any] = {}
        else:
            said = await erp.wait(command["count"], command["at_most_s"])
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
