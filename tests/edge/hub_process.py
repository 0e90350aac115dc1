"""A hub in a process of its own, ours or a real ASP.NET Core one, driven over the control API that both have."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.edge.listening import KEY
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "signalr-hub" / "signalr-hub"
KINDS = ("fault hub", "ASP.NET Core")


class HubProcess:
    """Start, command, stop, kill; on the same port again. Starting takes a second, so tests share one and count from where it is."""

    def __init__(self, kind: str, *options: str) -> None:
        if kind != "fault hub" and not REAL.exists():
            pytest.skip(f"the real hub is not beside this repository: {REAL.relative_to(ROOT.parent)}")
        self.kind = kind
        self._command = [sys.executable, "-m", "gateway.testing.hub"] if kind == "fault hub" else [str(REAL)]
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub"

    async def start(self) -> None:
        """Start, where it does not run."""
        if self._process is None:
            command = [*self._command, "--port", str(self.port), "--key", KEY, *self._options]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.connections()
                    return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: TCP ends, without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def tell(self, what: str, body: Any = None) -> None:
        """A command; see `gateway.testing.hub.control`."""
        async with aiohttp.request("POST", f"http://127.0.0.1:{self.port}/control/{what}", json=body) as answer:
            assert answer.status == 200, what

    async def send(self, target: str, *arguments: object) -> None:
        await self.tell("send", {"target": target, "arguments": arguments})

    async def burst(self, count: int, target: str, *arguments: object, per_frame: int = 1) -> None:
        await self.tell(f"burst?count={count}&per_frame={per_frame}", {"target": target, "arguments": arguments})

    async def connections(self) -> dict[str, Any]:
        async with aiohttp.request("GET", f"http://127.0.0.1:{self.port}/control/connections") as answer:
            return dict(await answer.json())

    async def until_live(self, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while (await self.connections())["live"] != count:
                await asyncio.sleep(0.02)
