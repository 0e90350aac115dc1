"""Every installed vendor's orders, through each of its doors to the ERP and back to the vendor, whatever is in the way.

The vendors are the simulators that their plugins bring (entry point group `gateway.simulators`). The process is killed right
after every commit point; the vendor does not hear acknowledgements for a day; the ERP is away for a day.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gateway import hookimpl
from gateway.clock import SystemClock, to_ms
from gateway.plugin.discovery import Plugin, installed
from gateway.service.assembly import assemble
from gateway.service.gateway import Gateway
from gateway.testing import ErpSimulator, Sent, Simulator
from gateway.testing.demo import simulators
from gateway.testing.toml import to_toml

from .process import driven

TARGET = {"retry": {"base_s": 0.05, "cap_s": 0.5}, "breaker": {"failures": 5, "cooldown_s": 0.1}}
ON_THE_WAY = ["accept:1", "lease_inbox:1", "prepared:1", "lease_outbox:1", "settle_outbox:1"]
AND_BACK = ["lease_acknowledgements:1", "settle_acknowledgements:1"]


def ways() -> list[Any]:
    """Vendor, door and commit point, for all there are; not long: every door with one of the points, every point at one of the doors."""
    found = []
    for name, simulator in simulators().items():
        points = list(ON_THE_WAY)
        if "fetch" in vars(installed()[name].module):
            points.insert(2, "keep_document:1")
        if simulator.acknowledged is not None:
            points += AND_BACK
        found += [(name, door, point) for door in simulator.doors for point in points]
    short: set[tuple[str, str, str]] = set()
    for n, (name, door) in enumerate(dict.fromkeys(way[:2] for way in found)):
        missing = [way for way in found if way[:2] == (name, door) and way[2] not in {one[2] for one in short}]
        short.update(missing[:2] or [way for way in found if way[:2] == (name, door)][n % 5 :][:1])
    return [pytest.param(*way, marks=[] if way in short else [pytest.mark.long]) for way in found]


def source(simulator: Simulator, folder: Path) -> dict[str, Any]:
    """Its table, with nothing to wait for between two polls."""
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    table = simulator.source(secrets)
    if "poll_interval_s" in table["settings"]:
        table["settings"]["poll_interval_s"] = 0.3
    return table


async def holds(condition: Any, what: str, timeout_s: float = 90) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what) from None


def arrived(erp: ErpSimulator, sent: Sent) -> list[dict[str, Any]]:
    return [message for message in erp.messages() if message["order"]["order_ref"] == sent.order_ref]


def check(erp: ErpSimulator, sent: Sent) -> None:
    """It is there once, first of its order's messages, and every repeat had the same bytes."""
    kinds = [message["kind"] for message in arrived(erp, sent)]
    assert kinds[0] == "order.placed"
    assert kinds.count("order.placed") == 1
    for key in erp.orders:
        assert len({heard.body for heard in erp.heard if heard.key == key}) == 1


@pytest.mark.parametrize(("name", "door", "point"), ways())
async def test_an_order_survives_a_kill_after(tmp_path: Path, erp: ErpSimulator, name: str, door: Any, point: str) -> None:
    simulator = simulators()[name]
    await simulator.start()
    try:
        tables = {"targets": {"erp": {"url": erp.url, **TARGET}}, "sources": {name: source(simulator, tmp_path)}}
        async with driven(tmp_path, to_toml(tables), "--die-after", point) as gateway:
            await gateway.start("dying")
            placing = asyncio.create_task(simulator.place(gateway.url, name, door))
            await gateway.gone()
            await gateway.start()
            sent = await asyncio.wait_for(placing, 30)
            await holds(lambda: arrived(erp, sent), f"{sent.order_number} did not arrive")
            if simulator.acknowledged is not None:
                await holds(lambda: sent.order_ref in (simulator.acknowledged or ()), f"{sent.order_number} was not acknowledged")
    finally:
        await simulator.stop()
    check(erp, sent)


class LaterClock(SystemClock):
    """The machine's clocks, set forward by as much as a test likes."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def now_ms(self) -> int:
        return to_ms(self.now())

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Everything:
    """A gateway in this process with every vendor, on a clock that can be set forward."""

    def __init__(self, gateway: Gateway, clock: LaterClock, vendors: dict[str, Simulator]) -> None:
        self.gateway, self.clock, self.vendors = gateway, clock, vendors

    async def place(self, *, but: str = "") -> dict[str, Sent]:
        """One order through every door of every vendor, but for one."""
        url = f"http://127.0.0.1:{self.gateway.vendors.port}"
        ways = [(name, door) for name, simulator in self.vendors.items() for door in simulator.doors if name != but]
        return {f"{name} {door}": await self.vendors[name].place(url, name, door) for name, door in ways}

    async def page(self, path: str) -> tuple[int, str]:
        """What an operator sees."""
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{self.gateway.pages.port}{path}") as answer:
                return answer.status, await answer.text()

    async def hours(self, count: int) -> None:
        """Let hours pass; whoever waits for a time looks at the clock after each."""
        for _ in range(count):
            self.clock.ahead_s += 3600
            self.gateway._store._wake_all()
            for deliver in self.gateway._runtime.deliver.values():
                deliver._changed.set()
            await asyncio.sleep(0.1)


@pytest.fixture
async def everything(tmp_path: Path, erp: ErpSimulator) -> AsyncIterator[Everything]:
    async with running(tmp_path, erp) as made:
        yield made


@asynccontextmanager
async def running(tmp_path: Path, erp: ErpSimulator, plugins: dict[str, Plugin] | None = None) -> AsyncIterator[Everything]:
    vendors = simulators()
    async with started(vendors):
        tables: dict[str, Any] = {
            "gateway": {"data_dir": "data"},
            "store": {"reserve_bytes": 0},
            "http": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "targets": {"erp": {"url": erp.url}},
            "sources": {name: source(simulator, tmp_path) for name, simulator in vendors.items()},
        }
        (tmp_path / "gateway.toml").write_text(to_toml(tables))
        clock = LaterClock()
        for simulator in vendors.values():
            if hasattr(simulator, "now"):  # one that looks at the time in what we sign lives in ours
                simulator.now = clock.now
        gateway = Gateway(tmp_path / "gateway.toml", assemble(tmp_path / "gateway.toml", plugins), clock=clock)
        task = asyncio.create_task(gateway.run())
        await asyncio.wait([asyncio.create_task(gateway.ready.wait()), task], return_when=asyncio.FIRST_COMPLETED)
        yield Everything(gateway, clock, vendors)
        gateway.end()
        assert await task == 0


@asynccontextmanager
async def started(vendors: dict[str, Simulator]) -> AsyncIterator[None]:
    for simulator in vendors.values():
        await simulator.start()
    try:
        yield
    finally:
        for simulator in vendors.values():
            await simulator.stop()


async def test_a_day_without_the_erp_delays_every_order_and_loses_none(everything: Everything, erp: ErpSimulator) -> None:
    await erp.stop()
    sent = await everything.place()
    await everything.hours(24)
    assert erp.messages() == []
    await erp.start()
    await everything.hours(1)
    for way, one in sent.items():
        await holds(lambda one=one: arrived(erp, one), f"{way}: {one.order_number} did not arrive")
        check(erp, one)


async def test_a_day_in_which_the_vendors_hear_no_acknowledgement_loses_none(everything: Everything, erp: ErpSimulator) -> None:
    for simulator in everything.vendors.values():
        simulator.acknowledging = False
    sent = await everything.place()
    for way, one in sent.items():
        await holds(lambda one=one: arrived(erp, one), f"{way}: {one.order_number} did not arrive")
    await everything.hours(24)
    for simulator in everything.vendors.values():
        assert not simulator.acknowledged
        simulator.acknowledging = True
    await everything.hours(2)
    for way, one in sent.items():
        vendor = everything.vendors[way.split()[0]]
        if vendor.acknowledged is not None:
            await holds(lambda v=vendor, one=one: one.order_ref in v.acknowledged, f"{way}: {one.order_number} was not acknowledged")
        check(erp, one)


@pytest.mark.parametrize("name", [name for name, simulator in simulators().items() if set(simulator.doors) & {"poll", "realtime"}])
async def test_a_vendor_that_is_away_is_named_and_holds_up_no_other(everything: Everything, erp: ErpSimulator, name: str) -> None:
    await everything.vendors[name].stop()
    sent = await everything.place(but=name)
    for way, one in sent.items():
        await holds(lambda one=one: arrived(erp, one), f"{way}: {one.order_number} did not arrive")
    async with asyncio.timeout(30):
        while (ready := await everything.page("/readyz"))[0] == 200:
            await asyncio.sleep(0.1)
    assert {reason["source"] for reason in json.loads(ready[1])["reasons"]} == {name}
    status, page = await everything.page("/")
    assert status == 200
    assert "down" in page
    assert name in page


@pytest.mark.parametrize("name", simulators())
async def test_a_connector_that_crashes_ends_in_its_own_source(tmp_path: Path, erp: ErpSimulator, name: str) -> None:
    """SystemExit, in the hook that every order goes through."""

    @hookimpl
    def normalize(document: bytes) -> None:
        raise SystemExit(3)

    plugins = dict(installed())
    module = SimpleNamespace(**{**vars(plugins[name].module), "normalize": normalize})
    plugins[name] = Plugin(name=name, distribution="broken", version="0", module=module)  # type: ignore[arg-type]
    async with running(tmp_path, erp, plugins) as everything:
        sent = await everything.place()
        for way, one in sent.items():
            if way.split()[0] != name:
                await holds(lambda one=one: arrived(erp, one), f"{way}: {one.order_number} did not arrive")
        async with asyncio.timeout(30):
            while not json.loads((await everything.page(f"/api/inbox?status=dead&name={name}"))[1]):
                await asyncio.sleep(0.1)
        assert not any(arrived(erp, one) for way, one in sent.items() if way.split()[0] == name)
