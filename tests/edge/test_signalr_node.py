"""The judge of our fault hub: Microsoft's own JavaScript client takes it for a SignalR hub.

`@microsoft/signalr` is installed by name, once, into pytest's cache; without node, npm or the registry there is no judge.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.hub import END, FaultHub, frame, invocation, record
from tests.edge.listening import KEY, fault_hub

SCRIPT = Path(__file__).parent / "signalr_client.cjs"
PACKAGE = "@microsoft/signalr@10.0.11"


@pytest.fixture(scope="module")
def modules(request: pytest.FixtureRequest) -> Path:
    """A node_modules folder with the client in it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, to ask Microsoft's client about the fault hub")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("signalr-client")
    if not (folder / "node_modules" / "@microsoft" / "signalr").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm cannot install {PACKAGE} here: {type(error).__name__}")
    return folder / "node_modules"


class Client:
    """Microsoft's client, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        """The next thing that happens to it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            return dict(json.loads(await self._process.stdout.readline()))

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"stop\n")
        async with asyncio.timeout(5):
            await self._process.wait()


@asynccontextmanager
async def client(modules: Path, hub: FaultHub, *targets: str, key: str = KEY) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        "node", str(SCRIPT), hub.url, key, *targets,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={"NODE_PATH": str(modules), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_it_connects_hears_and_pings(modules: Path) -> None:
    async with fault_hub() as hub, client(modules, hub, "OrderChanged") as one:
        assert await one.says() == {"what": "connected"}
        (line,) = hub.live
        assert [(heard.where, heard.method, heard.headers["x-api-key"]) for heard in hub.heard] == [
            ("negotiate", "POST", KEY),
            ("upgrade", "GET", KEY),
        ]
        assert (hub.heard[0].query, line.handshake) == ({"negotiateVersion": "1"}, {"protocol": "json", "version": 1})
        await hub.send("OrderChanged", "ä", 1, {"b": None})
        assert await one.says() == {"what": "event", "target": "OrderChanged", "given": ["ä", 1, {"b": None}]}
        await hub.write(
            frame(record({"type": 99}) + record({"type": 1, "target": "OrderChanged", "arguments": [2], "x": 1}) + invocation("No", 1))
        )
        assert (await one.says())["given"] == [2]
        await hub.until(lambda: len(line.pings) >= 3)
        await one.stop()
        await hub.until(lambda: line.close_code in (1000, 1005))


@pytest.mark.parametrize("per_frame", [1, 50])
async def test_it_hears_ten_thousand_in_order(modules: Path, per_frame: int) -> None:
    async with fault_hub() as hub, client(modules, hub, "Count", "Counted") as one:
        await one.says()
        await hub.burst(10_000, per_frame, "Count", lambda n: [n])
        await hub.send("Counted")
        assert await one.says() == {"what": "counted", "count": 10_000, "inOrder": True}


async def test_events_in_the_frame_of_the_handshake_are_heard(modules: Path) -> None:
    async with fault_hub() as hub, client(modules, hub, "OrderChanged") as one:
        hub.welcome = [invocation("OrderChanged", "first")]
        assert {(await one.says())["what"], (await one.says())["what"]} == {"connected", "event"}


@pytest.mark.parametrize("how", ["fin", "rst", "close true"])
async def test_it_comes_back(modules: Path, how: str) -> None:
    async with fault_hub() as hub, client(modules, hub) as one:
        await one.says()
        if how == "close true":
            await hub.close("come again", True)
        else:
            getattr(hub.live[0], how)()
        assert [(await one.says())["what"], (await one.says())["what"]] == ["reconnecting", "reconnected"]
        assert [heard.where for heard in hub.heard] == ["negotiate", "upgrade"] * 2


@pytest.mark.parametrize("allow", [None, False])
async def test_it_stays_away_when_it_is_sent_away(modules: Path, allow: bool | None) -> None:
    async with fault_hub() as hub, client(modules, hub) as one:
        await one.says()
        await hub.close("go", allow)
        said = await one.says()
        assert (said["what"], "go" in said["error"]) == ("closed", True)


async def test_a_hub_that_falls_silent_is_left(modules: Path) -> None:
    async with fault_hub(ping_s=0, client_timeout_s=30) as hub, client(modules, hub) as one:
        await one.says()
        said = await one.says()
        assert (said["what"], "timeout" in said["error"].lower()) == ("reconnecting", True)


@pytest.mark.parametrize("fault", ["401", "503", "handshake", "negotiation"])
async def test_it_refuses_what_we_refuse(modules: Path, fault: str) -> None:
    async with fault_hub() as hub:
        if fault == "handshake":
            hub.handshake = record({"error": "no such protocol"})
        elif fault == "negotiation":
            hub.negotiate_body = b'{"error": "no such hub"}'
        else:
            hub.refuse("negotiate", int(fault))
        async with client(modules, hub) as one:
            said = await one.says()
            assert said["what"] == "failed"
            assert fault in said["error"] or "no such" in said["error"]


async def test_another_key_is_a_401(modules: Path) -> None:
    async with fault_hub() as hub, client(modules, hub, key="other") as one:
        said = await one.says()
        assert (said["what"], "401" in said["error"]) == ("failed", True)


async def test_it_follows_a_redirect_as_we_do(modules: Path) -> None:
    async with fault_hub(key="their-token", key_in="bearer") as second, fault_hub() as hub:
        hub.redirect = (second.url, "their-token")
        async with client(modules, hub) as one:
            assert (await one.says())["what"] == "connected"
            assert [heard.where for heard in second.heard] == ["negotiate", "upgrade"]
            assert END not in second.heard[0].path.encode()
