"""Everything round one gateway, each side behind a `Proxy`: senders, the vendor's API, its hub, an ERP; and an operator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from aiohttp import web

from gateway.clock import Clock, SystemClock
from gateway.testing import ErpSimulator, FaultHub
from tests import acme
from tests.harness.torture.driver import SUFFIX
from tests.harness.torture.faulty_proxy import Identity, Proxy
from tests.journey.load import Load
from tests.journey.process import SECRET, Process, driven

LEGS = ("webhook", "vendor", "erp", "hub")
_PAUSE_S = 0.05
HEADER = 'idempotency = { strategy = "header" }\n[targets.erp.capture]\nerp_id = "body.id"'
LOOKUP = """idempotency = { strategy = "lookup" }
[targets.erp.preflight]
url = "URL"
query = { name = "{order.order_ref}" }
found = "$count(body.value) > 0"
id = "body.value.id"
settle_s = 0.5
attempts = 2
[targets.erp.capture]
erp_id = "body.id"
"""
_CONFIGURATION = """
[targets.erp]
url = "ERP/orders"
ca_file = "CA"
concurrency = 8
connect_timeout_s = 1
read_timeout_s = 1
retry = { base_s = 0.05, cap_s = 0.3 }
breaker = { failures = 4, cooldown_s = 0.1 }
STRATEGY
[sources.acme]
connector = "everyway"
doors = ["webhook", "poll"]
on_revision = "send"
max_requests_per_second = 100000
allow_private_addresses = true
[sources.acme.settings]
secret = { file = "secret" }
base_url = "VENDOR"
[sources.pushed]
connector = "everyway"
doors = ["realtime", "poll"]
on_revision = "send"
allow_private_addresses = true
[sources.pushed.settings]
hub_url = "HUB/hub"
base_url = "VENDOR"
poll_interval_s = 600
"""


class Vendor:
    """The vendor's API: a list of orders for the poll door and one beside the hub, each order by itself, and marks."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.pushed: list[str] = []
        self.marks: set[str] = set()
        self.elsewhere = 0
        self.port = 0

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/feed", self._feed)
        application.router.add_get("/documents/{id}/{version}", self._document)
        application.router.add_post("/marks", self._mark)
        application.router.add_route("*", "/there", self._elsewhere)
        return application

    async def _feed(self, request: web.Request) -> web.Response:
        after, refs = int(request.query["after"]), self.pushed if request.query["hub"] == "1" else self.listed
        return web.json_response({"orders": refs[after : after + 3], "next": min(after + 3, len(refs))})

    async def _document(self, request: web.Request) -> web.Response:
        return web.Response(body=acme.body(request.match_info["id"], int(request.match_info["version"])))

    async def _mark(self, request: web.Request) -> web.Response:
        references = await request.json()
        self.marks.update(references)
        return web.json_response(references)

    async def _elsewhere(self, _: web.Request) -> web.Response:
        """Where redirects point to; who comes here is answered as if all were well."""
        self.elsewhere += 1
        return web.json_response({"id": "elsewhere"})


class Patience:
    """Time to wait for somebody else on the same machine: a second counts for what this process got of it.

    One that asks to be woken after 50 ms and is woken after 500 has a tenth of a machine, and so has the gateway, whose time
    limits of a second are then in its own way. It ends in any case when ten times the time is over.
    """

    def __init__(self, limit_s: float, clock: Clock | None = None) -> None:
        self.spent_s = 0.0
        self._limit_s = limit_s
        self._clock = clock or SystemClock()
        self._began = self._counted = self._clock.monotonic()

    def is_over(self) -> bool:
        return self.spent_s > self._limit_s or self._clock.monotonic() > self._began + 10 * self._limit_s

    async def pause(self) -> None:
        """Wait for a moment, and count what went by since the last one."""
        began = self._clock.monotonic()
        await self._clock.sleep(_PAUSE_S)
        now = self._clock.monotonic()
        self.spent_s += (now - self._counted) * min(1.0, _PAUSE_S / (now - began))
        self._counted = now

    def __str__(self) -> str:
        return f"{self._clock.monotonic() - self._began:.0f} s after the fault ({self.spent_s:.0f} s of them count)"


class Pulse:
    """Asks `/healthz` all the time. A gateway whose loop stands still does not answer."""

    def __init__(self, gateway: Process, patience_s: float) -> None:
        self.asked = 0
        self.silent = 0
        self.slowest_s = 0.0
        self._gateway = gateway
        self._patience_s = patience_s

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._patience_s)) as session:
            while True:
                began = time.monotonic()
                try:
                    async with session.get(f"http://127.0.0.1:{self._gateway.admin_port}/healthz") as answer:
                        self.silent += answer.status != 200
                except (aiohttp.ClientError, TimeoutError):
                    self.silent += 1
                self.asked += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                await asyncio.sleep(0.05)


class Site:
    """One gateway and its world."""

    def __init__(self, folder: Path, dice: Random, *, keyed: bool) -> None:
        self.dice = dice
        self.keyed = keyed
        self.hosts = folder / "hosts"
        self.folder = folder
        self.vendor = Vendor()
        self.erp = ErpSimulator(honours_key=keyed)
        self.hub = FaultHub(ping_s=0.2, client_timeout_s=2)
        self.proxies: dict[str, Proxy] = {}
        self.gateway: Process
        self.load: Load
        self.pulse: Pulse
        self.operated = 0
        self.pushed: set[str] = set()
        self._number = 0

    # --- what is sent

    async def order(self, session: aiohttp.ClientSession) -> None:
        """One order through each door; the webhook's in up to three versions where the ERP can take changes."""
        self._number += 1
        versions = self.dice.randint(1, 3) if self.keyed else 1
        listed, pushed = f"listed{self._number}", f"pushed{self._number}"
        self.vendor.listed.append(listed)
        self.load.offered[listed] = self.load.acknowledged[listed] = 1
        self.vendor.pushed.append(pushed)
        self.pushed.add(pushed)
        await self.hub.send("Order", pushed)
        for version in range(1, versions + 1):
            await self.load.send(session, f"sent{self._number}", version, twice=self.dice.random() < 0.2)

    # --- what has to come of it

    def missing(self) -> set[str]:
        wanted = {f"pushed/{ref}/1" for ref in self.pushed}
        marks = {f"{ref}@{n}" for ref, versions in self.load.acknowledged.items() for n in range(1, versions + 1)}
        told = marks | {f"{ref}@1" for ref in self.pushed}
        return self.load.missing() | (wanted - set(self.erp.orders)) | {f"mark of {one}" for one in told - self.vendor.marks}

    def problems(self) -> list[str]:
        """What must not be, whenever one looks."""
        found = [problem for problem in self.load.problems(final=False) if not problem.startswith(("pushed", "the gateway answered"))]
        found += [f"{key} was made twice" for key in self.erp.doubled()]
        if self.vendor.elsewhere:
            found.append(f"{self.vendor.elsewhere} requests went where a redirect pointed to")
        if self.pulse.silent:
            found.append(f"{self.pulse.silent} of {self.pulse.asked} looks at its health were not answered")
        if not self.gateway.lives():
            found.append("the gateway ended")
        return found

    # --- the operator

    async def ask(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.gateway.admin_port}{path}") as answer:
            return await answer.json()

    async def command(self, action: str, **more: Any) -> None:
        connector = aiohttp.UnixConnector(path=str(self.folder / "data" / "control.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.post("http://gateway/control", json={"action": action, "who": "torture", **more}) as answer:
                await answer.read()

    async def operate(self) -> None:
        """Do what `readyz` and the lists of what waits for a person say."""
        for reason in (await self.ask("/readyz"))["reasons"]:
            if "target" in reason and (await self.ask("/api/status"))["targets"]["erp"]["state"] == "paused":
                self.operated += 1
                await self.command("target-release", name="erp")
        for queue in ("inbox", "outbox", "acknowledgements"):
            for row in await self.ask(f"/api/{queue}?status=dead&limit=1000"):
                self.operated += 1
                await self.command("replay", keys=[row["row"]])

    async def recovered(self, timeout_s: float) -> list[str]:
        """Until everything that has to arrive has, and every door and target is up again; else what is not."""
        patience = Patience(timeout_s)
        while True:
            missing, reasons = sorted(self.missing()), (await self.ask("/readyz"))["reasons"]
            if not missing and not reasons:
                return []
            if patience.is_over():
                return [f"still not there {patience}: {missing[:5]} {reasons}"]
            await self.operate()
            await patience.pause()


@asynccontextmanager
async def site(folder: Path, dice: Random, *arguments: str, keyed: bool = True, patience_s: float = 10) -> AsyncIterator[Site]:
    """A site that runs; `arguments` are the driver's."""
    made = Site(folder, dice, keyed=keyed)
    identity = Identity(folder, f"DNS:*{SUFFIX},IP:127.0.0.1")
    (folder / "secret").write_text(SECRET + "\n")
    made.hosts.write_text(" ".join(leg + SUFFIX for leg in LEGS))
    async with AsyncExitStack() as stack:
        for side in (made.erp, made.hub):
            await side.start()
            stack.push_async_callback(side.stop)
        runner = web.AppRunner(made.vendor.application(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.vendor.port = runner.addresses[0][1]
        ports = {
            "webhook": lambda: made.gateway.port,
            "vendor": lambda: made.vendor.port,
            "erp": lambda: made.erp._port,
            "hub": lambda: made.hub.port,
        }
        for leg, port in ports.items():
            inward = leg == "webhook"  # its senders are sent round to where they wanted to go
            there = (lambda: f"{made.gateway.url}/in/acme") if inward else (lambda: f"http://127.0.0.1:{made.vendor.port}/there")
            proxy = made.proxies[leg] = Proxy(port, dice, elsewhere=there, identity=None if inward else identity)
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        names = {leg: f"https://{leg}{SUFFIX}:{made.proxies[leg].port}" for leg in LEGS}
        strategy = HEADER if keyed else LOOKUP.replace("URL", f"{names['erp']}/orders")
        text = _CONFIGURATION.replace("STRATEGY", strategy).replace("CA", str(identity.trusted.pem))
        text = text.replace("ERP", names["erp"]).replace("VENDOR", names["vendor"]).replace("HUB", names["hub"])
        environment = {"TORTURE_HOSTS": str(made.hosts), "SSL_CERT_FILE": str(identity.trusted.pem)}
        made.gateway = await stack.enter_async_context(
            driven(folder, text, *arguments, driver="tests.harness.torture.driver", environment=environment)
        )
        made.load = Load(made.proxies["webhook"], made.erp, dice)
        await made.gateway.start()
        assert made.gateway.lives(), (folder / "log.jsonl").read_text()[-500:]
        made.pulse = Pulse(made.gateway, patience_s)
        pulse = asyncio.create_task(made.pulse.run(), name="pulse")
        stack.callback(pulse.cancel)
        yield made
