"""Fixtures shared by all tests: real servers on loopback, a real SQLite file, a clock to move where it matters."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from gateway.clock import SystemClock
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import Assembly, assemble
from gateway.service.gateway import Gateway
from gateway.store.row_names import Queue
from gateway.store.sqlite import SqliteStore
from gateway.testing import ErpSimulator, ManualClock
from tests import acme, pharma

SECRET = "constructed-secret-do-not-use"


@pytest.fixture(autouse=True)
def no_faults() -> Any:
    """Every test starts with an `acme` and a `pharma` that work."""
    acme.faults.clear()
    pharma.faults.clear()
    yield
    acme.faults.clear()
    pharma.faults.clear()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, under a shorter name."""
    return tmp_path_factory.mktemp(re.sub(r"\W", "_", request.node.name.removeprefix("test_"))[:SHORT])


@pytest.fixture
async def erp() -> AsyncIterator[ErpSimulator]:
    """An ERP that takes what it gets, until told otherwise."""
    async with ErpSimulator() as erp:
        yield erp


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteStore]:
    """A store on a real file, with a clock to move."""
    store = SqliteStore(tmp_path / "gateway.db", clock=clock)
    await store.open()
    await store.register(["acme", "other"])
    yield store
    await store.close()


def plugins(**modules: ModuleType) -> dict[str, Plugin]:
    """Connectors as if they were installed."""
    return {name: Plugin(name=name, distribution=name, version="1", module=module) for name, module in modules.items()}


class Running:
    """A gateway in this process, with everything a test wants to do to it."""

    def __init__(self, gateway: Gateway, folder: Path, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.folder = folder
        self.session = session
        self.task = asyncio.create_task(gateway.run())

    @property
    def vendors_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.vendors.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.pages.port}"

    @property
    def config(self) -> Path:
        return self.folder / "gateway.toml"

    async def deliver(self, body: bytes, *, source: str = "acme", signature: str | None = None) -> tuple[int, Any]:
        """One signed webhook; status and decoded answer."""
        headers = {"X-Acme-Signature": acme.sign(SECRET, body) if signature is None else signature}
        async with self.session.post(f"{self.vendors_url}/in/{source}", data=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> tuple[int, Any]:
        """A read on the operators' side."""
        async with self.session.get(self.admin_url + path) as answer:
            return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())

    async def until(self, condition: Callable[[], Awaitable[bool]], timeout_s: float = 10) -> None:
        """Wait for something that has no event of its own."""
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(0.02)

    async def rows(self, queue: str, **query: str) -> list[dict[str, Any]]:
        status, rows = await self.get(f"/api/{queue}?" + "&".join(f"{n}={v}" for n, v in query.items()))
        assert status == 200
        return list(rows)

    async def rows_of(self, queue: Queue) -> list[dict[str, Any]]:
        """What the store has in a queue, whether or not it has a page."""
        return await self.gateway._reader.rows(queue)

    async def stop(self) -> int:
        """SIGTERM, as it were; the exit code."""
        self.gateway.end()
        return await self.task


SHORT = 12  # a Unix socket's path has at most 107 characters, and a worker's folder is part of it

Start = Callable[..., Awaitable[Running]]


def config_text(erp_url: str, *, target: str = "", source: str = "", settings: str = "", more: str = "", **core: str) -> str:
    """A configuration with one `acme` source and one target, on free ports."""
    return f"""
[gateway]
data_dir = "{core.get("data_dir", "data")}"
node = "test"
[store]
{core.get("store", "reserve_bytes = 0")}
[http]
listen = "127.0.0.1:0"
{core.get("http", "")}
[admin]
listen = "127.0.0.1:0"
[targets.erp]
url = "{erp_url}"
{target}
[sources.acme]
connector = "acme"
{source}
[sources.acme.settings]
secret = {{ file = "secret" }}
{settings}
{more}
"""


@pytest.fixture
def too() -> dict[str, Plugin]:
    """What is installed beside `acme` and `pharma`; a test puts it here, before a start or a reload."""
    return {}


@pytest.fixture
async def start(tmp_path: Path, too: dict[str, Plugin]) -> AsyncIterator[Start]:
    """Start a gateway in this process: `await start(erp.url, target="concurrency = 1")`; stopped at the end of the test."""
    started: list[Running] = []
    (tmp_path / "secret").write_text(SECRET + "\n")

    def assembled(path: Path) -> Assembly:
        return assemble(path, {**plugins(acme=acme, pharma=pharma), **too})

    async with aiohttp.ClientSession() as session:

        async def begin(erp_url: str, **parts: str) -> Running:
            (tmp_path / "gateway.toml").write_text(config_text(erp_url, **parts))
            gateway = Gateway(tmp_path / "gateway.toml", assembled(tmp_path / "gateway.toml"), clock=SystemClock(), assembled=assembled)
            running = Running(gateway, tmp_path, session)
            started.append(running)
            await asyncio.wait([asyncio.create_task(gateway.ready.wait()), running.task], return_when=asyncio.FIRST_COMPLETED)
            if running.task.done():
                running.task.result()
            return running

        yield begin
        for running in started:
            if not running.task.done():
                await running.stop()
