"""A gateway in a process of its own: started, killed, started again; and senders that do what vendors do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import acme
import aiohttp

ROOT = Path(__file__).parent.parent.parent
SECRET = "constructed-secret-do-not-use"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Door(Protocol):
    """Where senders reach a gateway, directly or through something in between."""

    @property
    def url(self) -> str: ...


class Process:
    """The driver (`tests.journey.driver`) and the gateway it has started last."""

    def __init__(self, driver: asyncio.subprocess.Process, port: int, admin_port: int) -> None:
        self._driver = driver
        self.port = port
        self.admin_port = admin_port
        self.pid = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, how: str = "plain") -> None:
        """Start one and wait until it listens; `dying` arms `--die-after`."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(how.encode() + b"\n")
        await self._driver.stdin.drain()
        self.pid = int(await self._driver.stdout.readline())
        async with asyncio.timeout(20):
            while not await self._listens():
                if not self.lives():
                    return  # it died before it listened, as it was told to
                await asyncio.sleep(0.005)

    async def recover(self, timeout_s: float = 60) -> float:
        """Start one and wait until nothing is wrong with its store; the seconds from its start."""
        began = time.monotonic()
        await self.start()
        async with aiohttp.ClientSession() as session, asyncio.timeout(timeout_s):
            while not await self._stores(session):
                await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def _stores(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{self.admin_port}/readyz") as answer:
                return not any("store" in reason for reason in (await answer.json())["reasons"])
        except aiohttp.ClientError:
            return False

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def lives(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def kill(self, number: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        await self.gone()

    async def gone(self, timeout_s: float = 25) -> None:
        async with asyncio.timeout(timeout_s):
            while self.lives():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def process(folder: Path, erp_url: str, *arguments: str, **parts: str) -> AsyncIterator[Process]:
    """The small connector of the tests, configured; the gateway itself is started by `start()`."""
    (folder / "secret").write_text(SECRET + "\n")
    configuration = f"""
[targets.erp]
url = "{erp_url}"
{parts.get("target", "")}
[sources.acme]
connector = "acme"
max_requests_per_second = 100000
{parts.get("source", "")}
[sources.acme.settings]
secret = {{ file = "secret" }}
{parts.get("settings", "")}
"""
    async with driven(folder, configuration, *arguments) as made:
        yield made


@asynccontextmanager
async def driven(folder: Path, configuration: str, *arguments: str) -> AsyncIterator[Process]:
    """Write a configuration, on ports and in a data directory of its own, and start the driver."""
    port, admin_port = free_port(), free_port()
    (folder / "gateway.toml").write_text(
        f"""
[gateway]
data_dir = "data"
[store]
reserve_bytes = 0
[http]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin_port}"
{configuration}"""
    )
    log = (folder / "log.jsonl").open("ab")
    driver = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.journey.driver",
        str(folder / "gateway.toml"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    )
    made = Process(driver, port, admin_port)
    try:
        yield made
    finally:
        if made.pid:
            await made.kill()
        driver.kill()
        await driver.wait()
        log.close()


async def send_until_taken(session: aiohttp.ClientSession, gateway: Door, body: bytes, answers: Counter[int] | None = None) -> int:
    """What a customer at the vendor does: press send again until it is taken. How often it was sent; `answers` counts statuses."""
    headers = {"X-Acme-Signature": acme.sign(SECRET, body)}
    tries = 0
    while True:
        tries += 1
        status = 0
        try:
            async with session.post(f"{gateway.url}/in/acme", data=body, headers=headers, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        if answers is not None:
            answers[status] += 1
        if status == 200:
            return tries
        await asyncio.sleep(0.005)
