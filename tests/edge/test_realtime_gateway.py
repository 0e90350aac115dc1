"""A whole gateway with a hub: an order from a push to the ERP, commands, a reload, and an orderly end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import check as check_commands
from gateway.service.assembly import Assembly, assemble
from gateway.service.gateway import Gateway
from gateway.service.operations import Operation
from gateway.testing import ErpSimulator
from gateway.testing.hub import FaultHub
from tests import hub_connector
from tests.conftest import plugins
from tests.edge.listening import KEY, fault_hub, missed

Start = Callable[[str, FaultHub], Awaitable[Gateway]]


def config(erp: str, hub: str) -> str:
    return f"""
[gateway]
data_dir = "data"
[store]
reserve_bytes = 0
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[targets.erp]
url = "{erp}"
[sources.pharmacy]
connector = "hubby"
on_revision = "send"
[sources.pharmacy.settings]
hub_url = "{hub}"
key = {{ file = "key" }}
"""


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a gateway in this process; ended at the end of the test."""
    running: list[tuple[Gateway, asyncio.Task[int]]] = []
    (tmp_path / "key").write_text(KEY)

    def assembled(path: Path) -> Assembly:
        return assemble(path, plugins(hubby=hub_connector))

    async def begin(erp: str, hub: FaultHub) -> Gateway:
        (tmp_path / "gateway.toml").write_text(config(erp, hub.url))
        gateway = Gateway(tmp_path / "gateway.toml", assembled(tmp_path / "gateway.toml"), assembled=assembled)
        task = asyncio.create_task(gateway.run(), name=f"gateway {id(gateway)}")
        running.append((gateway, task))
        async with asyncio.timeout(10):
            await gateway.ready.wait()
        return gateway

    yield begin
    for gateway, task in running:
        gateway.end()
        assert await task == 0


async def end(gateway: Gateway) -> None:
    """SIGTERM, as it were."""
    (task,) = (one for one in asyncio.all_tasks() if one.get_name() == f"gateway {id(gateway)}")
    gateway.end()
    await asyncio.wait([task])


async def doors(gateway: Gateway) -> dict[str, str]:
    return dict((await gateway._status())["sources"]["pharmacy"]["doors"])


async def until_up(gateway: Gateway) -> None:
    async with asyncio.timeout(10):
        while await doors(gateway) != {"poll": "up", "realtime": "up"}:
            await asyncio.sleep(0.01)


async def test_a_push_reaches_the_erp(start: Start, erp: ErpSimulator) -> None:
    async with fault_hub() as hub:
        gateway = await start(erp.url, hub)
        await until_up(gateway)
        await hub.send("OrderChange", "A", 3)
        await erp.wait_for(1)
        (message,) = erp.messages()
        assert (message["key"], message["kind"], message["order"]["lines"][0]["quantity"]) == ("pharmacy/A/1", "order.placed", "3")


async def test_an_outage_loses_nothing(start: Start, erp: ErpSimulator) -> None:
    async with fault_hub() as hub:
        gateway = await start(erp.url, hub)
        await until_up(gateway)
        await hub.send("OrderChanged", "before", 1)
        await erp.wait_for(1)
        await hub.stop()
        async with asyncio.timeout(5):
            while (await doors(gateway))["realtime"] != "down":
                await asyncio.sleep(0.01)
        status = await gateway._status()
        assert [reason["door"] for reason in status["reasons"]] == ["realtime"]
        hub_connector.faults["poll"] = missed(("before", 1), ("meanwhile", 1))
        await hub.start()
        await until_up(gateway)
        await hub.send("OrderChanged", "after", 1)
        await erp.wait_for(3)
        assert sorted(message["order"]["order_number"] for message in erp.messages()) == ["after", "before", "meanwhile"]


async def test_resume_connects_at_once(start: Start, erp: ErpSimulator) -> None:
    async with fault_hub() as hub:
        gateway = await start(erp.url, hub)
        await until_up(gateway)
        hub.refuse("any", 503, retry_after="600")
        await hub.close(allow_reconnect=True)
        await hub.until(lambda: len(hub.heard) == 3)
        await gateway._operations(Operation(action="resume", name="pharmacy", who="test"))
        await until_up(gateway)


async def test_a_changed_key_file_is_enough(start: Start, erp: ErpSimulator, tmp_path: Path) -> None:
    async with fault_hub() as hub:
        gateway = await start(erp.url, hub)
        await until_up(gateway)
        hub.key = "another"
        await hub.close()
        async with asyncio.timeout(5):
            while (await doors(gateway))["realtime"] != "down":
                await asyncio.sleep(0.01)
        (tmp_path / "key").write_text("another")
        await until_up(gateway)  # long before the 30 s for which a hub that sends us away is left alone


async def test_a_reload_listens_at_the_new_address(start: Start, erp: ErpSimulator, tmp_path: Path) -> None:
    async with fault_hub() as hub, fault_hub() as other:
        gateway = await start(erp.url, hub)
        await until_up(gateway)
        (tmp_path / "gateway.toml").write_text(config(erp.url, other.url))
        gateway._reloads.ask()
        await other.until(lambda: bool(other.live))
        await until_up(gateway)
        await hub.until(lambda: not hub.live)
        assert len(hub.lines) == len(other.lines) == 1


async def test_what_has_come_is_kept_when_it_ends(start: Start, erp: ErpSimulator, tmp_path: Path) -> None:
    async with fault_hub() as hub:
        gateway = await start(erp.url, hub)
        await until_up(gateway)
        gateway._store.refusing = "full"
        await hub.burst(50, 50, "OrderChanged", lambda n: [str(n + 1), 1])
        intake: Any = gateway._runtime.listeners["pharmacy"]._buffer
        await hub.until(lambda: intake._count == 50)
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.2, lambda: setattr(gateway._store, "refusing", None))
        await end(gateway)
        assert time.monotonic() - began < 15
        await hub.until(lambda: not hub.live)
        await start(erp.url, hub)
        await erp.wait_for(50)
    assert {message["order"]["order_number"] for message in erp.messages()} == {str(n) for n in range(1, 51)}


async def test_check_online_tries_the_hub_and_hangs_up(erp: ErpSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with fault_hub() as hub:
        (tmp_path / "key").write_text(KEY)
        (tmp_path / "gateway.toml").write_text(config(erp.url, hub.url))
        assembly = assemble(tmp_path / "gateway.toml", plugins(hubby=hub_connector))
        assert await check_commands.online(assembly) == 0
        assert "sources.pharmacy: hub: connected" in capsys.readouterr().out
        await hub.until(lambda: hub.lines[0].close_code == 1000)
        hub.key = "another"
        assert await check_commands.online(assembly) == 1
        assert "sources.pharmacy: hub: the hub answers 401; check the credential" in capsys.readouterr().out
