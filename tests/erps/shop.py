"""A real gateway with one file of `etc/targets/` as its target, and a shop whose orders are canonical ones."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp

from gateway.api.order import Customer, Line, Order, decimal, encode
from gateway.clock import SystemClock
from gateway.service.assembly import Assembly, assemble
from gateway.service.gateway import Gateway
from gateway.store.sqlite.reader import SqliteReader
from tests.conftest import plugins
from tests.erps import verbatim

TARGETS = Path(__file__).parents[2] / "etc" / "targets"
# What a customer would not shorten: how long it waits before "not there" counts, and before it tries again.
HASTE = {"settle_s": "0.6", "attempts": "2", "read_timeout_s": "1.5"}
GATEWAY = """
[gateway]
data_dir = "data"
node = "test"
[store]
reserve_bytes = 0
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[sources.shop]
connector = "verbatim"
on_revision = "send"
"""


def line(n: int = 1, article: str = "SKU-1", quantity: str = "2", price: str = "0.3500", **more: Any) -> Line:
    return Line(line_number=n, article_number=article, unit="EA", quantity=decimal(quantity), unit_price=decimal(price), **more)


def order(number: str, *lines: Line, **more: Any) -> Order:
    """An order of C-100 with one line, where nothing else is said."""
    given: dict[str, Any] = {
        "order_ref": sha256(number.encode()).hexdigest()[:12],
        "ordered_at": datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
        "requested_for": datetime(2026, 12, 1, 7, tzinfo=UTC),
        "order_number": number,
        "currency": "EUR",
        "customer": Customer(number="C-100", name="Buyer One"),
        "lines": lines or (line(),),
    }
    return Order(**given | more)


def installed(folder: Path, name: str, variables: Mapping[str, str], *, options: bool = False, haste: Mapping[str, str] = HASTE) -> Path:
    """A configuration with `etc/targets/NAME.toml` in conf.d, changed as its first lines say, and its waits shortened.

    Args:
        variables: What `vars` holds instead.
        options: Also what stands in the file behind `#:`.
    """
    conf = folder / "conf.d"
    shutil.copytree(TARGETS, conf, ignore=shutil.ignore_patterns("*.toml"))
    text = (TARGETS / f"{name}.toml").read_text("utf-8")
    if options:
        text = re.sub(r"^#: ", "", text, flags=re.MULTILINE)
    for key, value in variables.items():
        text, found = re.subn(rf'(\b{key} = )"[^"]*"', lambda m, v=value: f'{m[1]}"{v}"', text)  # type: ignore[misc]
        assert found, f"{name}.toml has no {key}"
    for key, value in haste.items():
        text = re.sub(rf"^{key} = \S+", f"{key} = {value}", text, flags=re.MULTILINE)
    text = text.replace("[targets.erp]\n", "[targets.erp]\nretry = { base_s = 0.05, cap_s = 0.2 }\nbreaker = { cooldown_s = 0.2 }\n", 1)
    text = text.replace("[targets.erp.preflight]\n", "[targets.erp.preflight]\nattempts = 2\n", 1) if "attempts" not in text else text
    (conf / "erp.toml").write_text(text)
    (folder / "gateway.toml").write_text(GATEWAY)
    return folder / "gateway.toml"


def assembled(path: Path) -> Assembly:
    return assemble(path, plugins(verbatim=verbatim))


class Shop:
    """A gateway that runs, and the shop in front of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.gateway = Gateway(path, assembled(path), clock=SystemClock(), assembled=assembled)

    async def __aenter__(self) -> Shop:
        self.session = aiohttp.ClientSession()
        self.task = asyncio.create_task(self.gateway.run())
        await asyncio.wait([asyncio.create_task(self.gateway.ready.wait()), self.task], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            await self.session.close()
            self.task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.session.close()

    async def stop(self) -> None:
        """SIGTERM, as it were."""
        self.gateway.end()
        await self.task

    async def place(self, *orders: Order) -> None:
        """Each is stored by the gateway when this returns."""
        for one in orders:
            url = f"http://127.0.0.1:{self.gateway.vendors.port}/in/shop"
            async with self.session.post(url, data=encode(one), headers={"X-Test": "yes"}) as answer:
                assert answer.status == 200, await answer.text()

    async def replay(self, key: str) -> None:
        """As `gateway replay KEY`."""
        connector = aiohttp.UnixConnector(path=str(self._path.parent / "data" / "control.sock"))
        async with aiohttp.ClientSession(connector=connector) as operator:
            asked = {"action": "replay", "who": "test", "keys": [key]}
            async with operator.post("http://gateway/control", json=asked) as answer:
                assert answer.status == 200, await answer.text()

    async def words(self, row: str) -> str:
        """What `gateway show ROW` tells of the last try: the ERP's words are there, and in no list."""
        reader = SqliteReader(self._path.parent / "data" / "gateway.db")
        await reader.open()
        try:
            (shown,) = await reader.show(row)
            return f"{shown['reason']}: {shown['tried'][-1]['detail']}"
        finally:
            await reader.close()

    async def rows(self) -> list[dict[str, Any]]:
        """The outbox, oldest first."""
        async with self.session.get(f"http://127.0.0.1:{self.gateway.pages.port}/api/outbox?limit=100") as answer:
            rows: list[dict[str, Any]] = await answer.json()
        return sorted(rows, key=lambda row: int(row["row"].split(":")[1]))

    async def until_down(self, timeout_s: float = 15) -> None:
        """Until the target is on hold."""
        async with asyncio.timeout(timeout_s):
            while True:
                async with self.session.get(f"http://127.0.0.1:{self.gateway.pages.port}/readyz") as answer:
                    if answer.status == 503 and "erp" in await answer.text():
                        return
                await asyncio.sleep(0.03)

    async def settled(self, count: int, *, timeout_s: float = 15) -> list[dict[str, Any]]:
        """The rows, once so many are done, dead or held. Raises TimeoutError with what they are."""
        rows: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(timeout_s):
                while sum(row["status"] in ("done", "dead", "held") for row in rows) < count:
                    await asyncio.sleep(0.03)
                    rows = await self.rows()
        except TimeoutError:
            raise TimeoutError(f"{rows}") from None
        return rows
