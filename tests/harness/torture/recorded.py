"""Old copies sent again: recorded webhooks, stale pages of a list, a vendor's late retries, in any order and under kills.

The ERP never hears an older version of an order after a newer one, under every `on_revision`, and the newest version of each arrives.
Half of the orders count their versions (`sequence`); of those some versions come late, when nobody has seen them yet.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.testing import ErpSimulator
from gateway.testing.erp import Fault
from tests.harness.torture import namesakes
from tests.harness.torture.namesakes import Listed, Wire
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import configured_gateway
from tests.harness.torture.stuck import count_stuck
from tests.journey.process import SECRET, Process

SECONDS = 6.0
POLICIES = ("send", "replace", "hold")
_WITHIN_S = 30.0
_FAULTS: tuple[Fault, ...] = ("lose_answer", "drop_before", "status", "reset")
_CONFIGURATION = """
[targets.erp]
url = "ERP"
read_timeout_s = 2
retry = { base_s = 0.02, cap_s = 0.3 }
breaker = { failures = 100000, cooldown_s = 0.1 }
[sources.acme]
connector = "namesakes"
on_revision = "POLICY"
max_requests_per_second = 100000
allow_private_addresses = true
[sources.acme.settings]
secret = { file = "secret" }
base_url = "VENDOR"
listed = true
poll_interval_s = 0.1
"""


class Sent(Struct, kw_only=True):
    """An order: which of its versions were answered 2xx, and which of these when a newer one had been."""

    ref: str
    counted: bool
    own_keys: bool
    taken: list[int] = []
    late: set[int] = set()

    def wire(self, version: int) -> Wire:
        key = f"{self.ref}-{version}" if self.own_keys else self.ref
        return Wire(key=key, ref=self.ref, qty=version, sequence=version if self.counted else None)


class Archive:
    """A vendor that never forgets what it sent, and its list, whose pages may be as old as they like."""

    def __init__(self, folder: Path, gateway: Process, erp: ErpSimulator, dice: Random, policy: str) -> None:
        self.policy = policy
        self.folder = folder
        self.gateway = gateway
        self.erp = erp
        self.dice = dice
        self.orders: list[Sent] = []
        self.pages: list[list[Wire]] = []
        self.problems: list[str] = []
        self.again = self.kills = 0
        self.slowest_s = 0.0

    async def page(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        found = self.pages[after] if after < len(self.pages) else []
        return web.Response(body=msgspec.json.encode(Listed(orders=found, next=after + bool(found))))

    # --- what is sent

    async def vendor(self, session: aiohttp.ClientSession, end: float) -> None:
        """Orders in one to four versions; of those that are counted, one may be left for later."""
        while time.monotonic() < end:
            order = Sent(ref=f"o{len(self.orders)}", counted=self.dice.random() < 0.5, own_keys=self.dice.random() < 0.5)
            self.orders.append(order)
            versions = list(range(1, self.dice.randint(1, 4) + 1))
            later = [self.dice.choice(versions[:-1])] if order.counted and len(versions) > 1 and self.dice.random() < 0.5 else []
            for version in [*(one for one in versions if one not in later), *later]:
                await self.send(session, order, version)
                await asyncio.sleep(self.dice.uniform(0, 0.05))

    async def send(self, session: aiohttp.ClientSession, order: Sent, version: int) -> None:
        """One version, until it is taken."""
        while not await self._post(session, order.wire(version)):
            await asyncio.sleep(0.01)
        if version < max(order.taken, default=0):
            order.late.add(version)
        order.taken.append(version)

    async def recorder(self, session: aiohttp.ClientSession, end: float) -> None:
        """Webhooks that were taken once, once more; or a page of the list with some of them."""
        while time.monotonic() < end:
            if old := [one for one in self.orders if one.taken]:
                some = [one.wire(self.dice.choice(one.taken)) for one in self.dice.choices(old[-30:], k=self.dice.randint(1, 4))]
                self.again += len(some)
                if self.dice.random() < 0.3:
                    self.pages.append(some)
                else:
                    await asyncio.gather(*(self._post(session, wire) for wire in some))
            await asyncio.sleep(0.02)

    async def _post(self, session: aiohttp.ClientSession, wire: Wire) -> bool:
        sent = namesakes.body(wire)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.post(
                f"{self.gateway.url}/in/acme", data=sent, headers=namesakes.headers(SECRET, sent), timeout=aiohttp.ClientTimeout(total=5)
            ) as answer:
                if answer.status not in (200, 503):
                    self.problems.append(f"{wire} was answered {answer.status}")
                return answer.status == 200
        return False

    # --- what else happens

    async def killer(self, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(self.dice.uniform(0.3, 1.2))
            self.erp.arm(self.dice.choice(_FAULTS), times=3)
            await self.gateway.kill()
            began = time.monotonic()
            await self.gateway.start()
            self.kills += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    async def person(self) -> None:
        """Who lets go whatever is held."""
        said = {"action": "release", "who": "torture", "status": "held", "yes": True}
        while True:
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                connector = aiohttp.UnixConnector(path=str(self.folder / "data" / "control.sock"))
                async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:
                    async with session.post("http://gateway/control", json=said) as answer:
                        await answer.read()
            await asyncio.sleep(self.dice.uniform(0.1, 0.4))

    # --- what came of it

    def missing(self) -> list[str]:
        """What was answered 2xx, has to arrive, and is not in the ERP."""
        there = {(ref, version) for ref, version in map(_said, self.erp.orders.values())}
        return [f"{one.ref}, version {n}" for one in self.orders for n in self._wanted(one) if (one.ref, n) not in there]

    def _wanted(self, order: Sent) -> set[int]:
        """What has to arrive: the newest version, and those before it where none is replaced, but for what came late."""
        return {max(order.taken)} if self.policy == "replace" and order.taken else set(order.taken) - order.late

    def overtaken(self) -> Iterator[str]:
        """Every request with an older version than the ERP had heard of before."""
        newest: dict[str, int] = {}
        for heard in self.erp.heard:
            ref, version = _said(heard.body)
            if version < newest.get(ref, 0):
                yield f"{heard.key} is version {version} of {ref}, and the ERP had heard version {newest[ref]}"
            newest[ref] = max(version, newest.get(ref, 0))

    def doubled(self) -> list[str]:
        """Versions that the ERP has under several keys."""
        said = [_said(body) for body in self.erp.orders.values()]
        return [f"version {one[1]} of {one[0]} is in the ERP {said.count(one)} times" for one in sorted(set(said)) if said.count(one) > 1]

    def flagged(self) -> int:
        with closing(sqlite3.connect(f"file:{self.folder / 'data' / 'gateway.db'}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM inbox WHERE outcome = 'earlier_version'").fetchone()[0])


def _said(body: bytes) -> tuple[str, int]:
    order = msgspec.json.decode(body)["order"]
    return str(order["order_ref"]), int(order["lines"][0]["quantity"])


async def send_again(
    folder: Path, dice: Random, tally: Tally, *arguments: str, policy: str, seconds: float = SECONDS, kills: bool = True
) -> list[str]:
    """One round; what was wrong."""
    application = web.Application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    text = _CONFIGURATION.replace("POLICY", policy)
    try:
        made: list[Archive] = []

        async def page(request: web.Request) -> web.Response:
            return await made[0].page(request)

        application.router.add_get("/list", page)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        text = text.replace("VENDOR", f"http://127.0.0.1:{runner.addresses[0][1]}")
        async with configured_gateway(folder, text, *arguments) as (gateway, erp):
            archive = Archive(folder, gateway, erp, dice, policy)
            made.append(archive)
            await gateway.start()
            await _happen(archive, seconds, kills=kills)
            found = [*archive.problems, *archive.overtaken(), *archive.doubled()]
            found += [f"{one} was answered 2xx and is not in the ERP" for one in archive.missing()]
            found += [] if found else await count_stuck(tally, gateway.admin_port)
            flagged = archive.flagged()
            found += [] if flagged else ["nothing was flagged as an earlier version"]
    finally:
        await runner.cleanup()
    tally.kills += archive.kills
    tally.recovered(archive.slowest_s)
    tally.acknowledged += sum(len(one.taken) for one in archive.orders)
    tally.lost += len(archive.missing())
    tally.doubled += len(archive.doubled())
    tally.faults.update({"old copies": archive.again, "late versions": sum(len(one.late) for one in archive.orders)})
    tally.noted = f"{len(archive.orders)} orders under {policy}, {len(archive.pages)} stale pages, {flagged} kept as earlier versions"
    return found


async def _happen(archive: Archive, seconds: float, *, kills: bool) -> None:
    """Everything at once, and then what has to arrive arrives."""
    end = time.monotonic() + seconds
    person = asyncio.create_task(archive.person(), name="person")
    try:
        async with aiohttp.ClientSession() as session:
            vendors = [archive.vendor(session, end) for _ in range(3)]
            copies = [archive.recorder(session, end) for _ in range(2)]
            await asyncio.gather(*vendors, *copies, *([archive.killer(end)] if kills else []))
        archive.erp.disarm()
        end = time.monotonic() + _WITHIN_S
        while archive.missing() and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
    finally:
        person.cancel()
        await asyncio.gather(person, return_exceptions=True)


class RecordedHarness(Rounds):
    name = "recorded"
    share = 0.5

    def __init__(self) -> None:
        self._policies: list[str] = []

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        """Take every policy in turn, in an order that the dice say."""
        self._policies = self._policies or dice.sample(POLICIES, len(POLICIES))
        policy = self._policies.pop()
        return [f"{policy}: {problem}" for problem in await send_again(folder, dice, tally, policy=policy)]
