"""What a person at the gateway's machine does: a new configuration file, a reload, a command, a look at its state."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.journey.process import Process

_WITHIN_S = 15.0


class Operator:
    """Of one gateway that `tests.journey.process.driven` made in `folder`."""

    def __init__(self, folder: Path, gateway: Process) -> None:
        self.file = folder / "gateway.toml"
        self._socket = folder / "data" / "control.sock"
        self._gateway = gateway

    def write(self, text: str | bytes) -> None:
        """A new configuration file in the place of the old one."""
        new = self.file.with_suffix(".new")
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.replace(new, self.file)

    async def command(self, action: str, **more: Any) -> tuple[int, Any]:
        """The status and what is answered. Raises aiohttp.ClientError, TimeoutError."""
        connector = aiohttp.UnixConnector(path=str(self._socket))
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
            async with session.post("http://gateway/control", json={"action": action, "who": "torture", **more}) as answer:
                said = await answer.json()
        return answer.status, said.get("result", said.get("problem"))

    async def look(self, path: str) -> Any:
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"http://127.0.0.1:{self._gateway.admin_port}{path}") as answer:
                return await answer.json()

    async def reasons(self) -> list[dict[str, Any]]:
        """What `readyz` has to say against it."""
        return list((await self.look("/readyz"))["reasons"])

    async def sees(self, what: Callable[[list[dict[str, Any]]], bool], within_s: float = _WITHIN_S) -> bool:
        """Whether the reasons are so before the time is over."""
        end = time.monotonic() + within_s
        while not what(await self.reasons()):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True
