"""A gateway in a process of its own: started, killed, started again; and senders that do what vendors do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import aiohttp

from tests import acme
from tests.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
SECRET = "constructed-secret-do-not-use"


async def until_it_stores(admin_port: int, timeout_s: float = 60) -> None:
    """Until a gateway answers on its operators' side, and has nothing to say against its store."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(timeout_s):
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{admin_port}/readyz") as answer:
                    if not any("store" in reason for reason in (await answer.json())["reasons"]):
                        return
            await asyncio.sleep(0.01)


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
        await self.spawn(how)
        await self.listening()

    async def spawn(self, how: str = "plain") -> None:
        """Start one; `stopped`: it does nothing before SIGCONT, and has come that far when this returns."""
        self.pid = int(await self._ask(how))
        while how == "stopped" and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
            await asyncio.sleep(0.002)

    async def exit_code(self) -> int:
        """How the last one ended, when it is gone: minus the number of a signal."""
        return int(await self._ask(f"exit {self.pid}"))

    async def _ask(self, line: str) -> str:
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(line.encode() + b"\n")
        await self._driver.stdin.drain()
        return (await self._driver.stdout.readline()).decode()

    async def listening(self, timeout_s: float = 20) -> None:
        """Wait until it listens, or has died, as it may have been told to."""
        async with asyncio.timeout(timeout_s):
            while self.lives() and not await self._listens():
                await asyncio.sleep(0.005)

    async def recover(self, timeout_s: float = 60) -> float:
        """Start one, where none lives, and wait until nothing is wrong with its store; the seconds from now."""
        began = time.monotonic()
        if not self.lives():
            await self.start()
        await until_it_stores(self.admin_port, timeout_s)
        return time.monotonic() - began

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
        return self.pid > 0

    async def kill(self, number: int = signal.SIGKILL, timeout_s: float = 25) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        await self.gone(timeout_s)

    async def gone(self, timeout_s: float = 25) -> None:
        async with asyncio.timeout(timeout_s):
            while self.lives():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def process(
    folder: Path,
    erp_url: str,
    *arguments: str,
    data_dir: str = "data",
    reserve_bytes: int = 0,
    driver: str = "tests.journey.driver",
    environment: Mapping[str, str] = {},
    **parts: str,
) -> AsyncIterator[Process]:
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
    async with driven(
        folder, configuration, *arguments, data_dir=data_dir, reserve_bytes=reserve_bytes, driver=driver, environment=environment
    ) as made:
        yield made


@asynccontextmanager
async def driven(
    folder: Path,
    configuration: str,
    *arguments: str,
    data_dir: str = "data",
    reserve_bytes: int = 0,
    driver: str = "tests.journey.driver",
    environment: Mapping[str, str] = {},
) -> AsyncIterator[Process]:
    """Write a configuration, on ports and in a data directory of its own, and start the driver, a module."""
    port, admin_port = free_ports(2)
    (folder / "gateway.toml").write_text(
        f"""
[gateway]
data_dir = "{data_dir}"
[store]
reserve_bytes = {reserve_bytes}
[http]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin_port}"
{configuration}"""
    )
    log = (folder / "log.jsonl").open("ab")
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        driver,
        str(folder / "gateway.toml"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
    )
    made = Process(started, port, admin_port)
    try:
        yield made
    finally:
        if made.pid:
            await made.kill()
        started.kill()
        await started.wait()
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
