"""A plugin that exits, interrupts, blocks, leaks, floods and returns rubbish: it ends in its own source, the others go on.

What ends in its own source is tried in every hook, and the process must live through it. A plugin that ends the process or eats
the memory takes the others with it: what is promised then is that systemd starts it again (MemoryMax), which is done here as systemd
does it, that nothing acknowledged is lost, and that an order over which it ended three times is given up.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from gateway.testing import ErpSimulator
from tests import acme
from tests.harness.service.serving import Notified
from tests.harness.torture import rogue
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import configured_gateway
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import Load
from tests.journey.process import SECRET, Process

CONTAINED = [(hook, deed) for hook in rogue.HOOKS for deed in rogue.DEEDS] + [
    (hook, deed) for hook in ("poll", "fetch", "acknowledge") for deed in rogue.ASYNC_DEEDS
]
FLOOD = ("poll", "flood")
BLOCKS = ("normalize", "block")
FATAL = {("normalize", "leak"): "memory"}
POISON = "normalize.poison.0"
POISONED = 3
WATCHDOG_S = 4.0  # the unit says 30
MEMORY_BYTES = 150 * 1024 * 1024  # more than at the start; the unit says 1 GiB in all
_WITHIN_S = 30.0
_CONFIGURATION = """
[targets.erp]
url = "ERP"
concurrency = 16
retry = { base_s = 0.05, cap_s = 0.3 }
[sources.acme]
connector = "acme"
on_revision = "send"
max_requests_per_second = 100000
[sources.acme.settings]
secret = { file = "secret" }
[sources.rogue]
connector = "rogue"
max_requests_per_second = 100000
[sources.rogue.settings]
secret = { file = "secret" }
done = "DONE"
"""


class Systemd:
    """Starts the gateway again whenever it has ended, and ends it when it is silent or too large; `ends` says why."""

    def __init__(self, gateway: Process, notified: Notified) -> None:
        self.gateway = gateway
        self.ends: list[str] = []
        self._notified = notified
        self._most_bytes = 0

    async def run(self) -> None:
        while True:
            await self.gateway.start()
            self._most_bytes = _resident_bytes(self.gateway.pid) + MEMORY_BYTES
            self.ends.append(await self._end())
            await self.gateway.kill()

    async def _end(self) -> str:
        pings, since = -1, time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            if not self.gateway.lives():
                return "ended by itself"
            if self._notified.count("WATCHDOG=1") != pings:
                pings, since = self._notified.count("WATCHDOG=1"), time.monotonic()
            if time.monotonic() - since > WATCHDOG_S:
                return "watchdog"
            if _resident_bytes(self.gateway.pid) > self._most_bytes:
                return "memory"


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


class House:
    """One gateway with a good source and a rogue one."""

    def __init__(self, gateway: Process, erp: ErpSimulator, systemd: Systemd, folder: Path, dice: Random) -> None:
        self.gateway = gateway
        self.erp = erp
        self.systemd = systemd
        self.load = Load(gateway, erp, dice)
        self.taken: list[str] = []
        self.problems: list[str] = []
        self.replayed = 0
        self._folder = folder
        self._number = 0

    async def good_orders(self, session: aiohttp.ClientSession) -> None:
        """The other source's, all the time."""
        while True:
            self._number += 1
            await self.load.send(session, f"o{self._number}", 1)
            await asyncio.sleep(0.03)

    async def deed(self, session: aiohttp.ClientSession, hook: str, deed: str, n: int) -> None:
        """Let it happen; then everything taken has to arrive, an operator's replay where that is needed included."""
        ref, ends, pid, good = f"{hook}.{deed}.{n}", len(self.systemd.ends), self.gateway.pid, self._number
        expected = FATAL.get((hook, deed))
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._send(session, ref)
                self.taken.append(f"rogue/{ref}/1")
                while expected and len(self.systemd.ends) == ends:
                    await asyncio.sleep(0.05)
                while (deed != FLOOD[1] and self.missing()) or self._number < good + 3:  # behind a flood it takes its time
                    await self._replay()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.problems.append(
                f"{deed} in {hook}: not there after {_WITHIN_S:g} s: {self.missing()[:3]}, {self._number - good} good orders"
            )
        seen = self.systemd.ends[ends:]
        if seen != ([expected] if expected else []) or (not expected and pid != self.gateway.pid):
            self.problems.append(f"{deed} in {hook}: the process ended ({', '.join(seen) or 'not'}), expected: {expected or 'not'}")

    async def poison(self, session: aiohttp.ClientSession) -> None:
        """An order that ends every process that prepares it: after three of them it is a dead letter, and the others go on."""
        ends = len(self.systemd.ends)
        try:
            async with asyncio.timeout(POISONED * _WITHIN_S):
                await self._send(session, POISON)
                while not any(f"ended the process {POISONED} times" in str(row["reason"]) for row in await self._dead()):
                    await asyncio.sleep(0.05)
                after = self._number
                while self._number < after + 10 or len(self.erp.orders) < after:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.problems.append(f"poison: {len(self.systemd.ends) - ends} ends, and the others do not get on: {self._number} orders")
        if len(self.systemd.ends) != ends + POISONED:
            self.problems.append(f"poison: the process ended {len(self.systemd.ends) - ends} times")

    def wrong(self) -> list[str]:
        """What must not be in the end; the good source's orders come in one version each."""
        found = [f"{key} was answered 2xx and is not in the ERP" for key in sorted(self.load.missing())]
        strange = [key for key in self.erp.orders if key.startswith("acme/") and key.split("/")[1:] != [key.split("/")[1], "1"]]
        found += [f"{key} is a second message of an order that came once" for key in strange]
        bodies: dict[str, set[bytes]] = {}
        for heard in self.erp.heard:
            bodies.setdefault(heard.key, set()).add(heard.body)
        return found + [f"{key} came with {len(seen)} different bodies" for key, seen in bodies.items() if len(seen) > 1]

    def flooded(self) -> int:
        return sum(key.startswith("rogue/flood") for key in self.erp.orders)

    def missing(self) -> list[str]:
        return [key for key in self.taken if key not in self.erp.orders]

    async def _send(self, session: aiohttp.ClientSession, ref: str) -> None:
        body, patience = acme.body(ref), aiohttp.ClientTimeout(total=5)
        headers = {"X-Acme-Signature": acme.sign(SECRET, body)}
        while True:
            try:
                async with session.post(f"{self.gateway.url}/in/rogue", data=body, headers=headers, timeout=patience) as answer:
                    if answer.status == 200:
                        return
                    if answer.status not in (400, 401, 503):
                        self.problems.append(f"{ref} was answered {answer.status}")
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.02)

    async def _dead(self) -> list[dict[str, Any]]:
        connector = aiohttp.UnixConnector(path=str(self._folder / "data" / "control.sock"))
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:
                async with session.get("http://gateway/api/inbox?status=dead") as answer:
                    return list(await answer.json())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return []  # it is just being started again

    async def _replay(self) -> None:
        """What an operator does with the rogue's dead letters."""
        connector = aiohttp.UnixConnector(path=str(self._folder / "data" / "control.sock"))
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:
                for queue in ("inbox", "acknowledgements"):
                    async with session.get(f"http://gateway/api/{queue}?status=dead") as answer:
                        rows = [row["row"] for row in await answer.json()]
                    if rows:
                        self.replayed += len(rows)
                        await self._command("replay", rows)
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # it is just being started again

    async def _command(self, action: str, keys: list[str], reason: str = "") -> None:
        connector = aiohttp.UnixConnector(path=str(self._folder / "data" / "control.sock"))
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:
            command = {"action": action, "who": "torture", "keys": keys, "reason": reason, "yes": True}
            async with session.post("http://gateway/control", json=command) as answer:
                await answer.read()


@asynccontextmanager
async def house(folder: Path, dice: Random, *arguments: str) -> AsyncIterator[House]:
    """A gateway under a systemd of ours."""
    (folder / "done").mkdir()
    text = _CONFIGURATION.replace("DONE", str(folder / "done"))
    environment = {"NOTIFY_SOCKET": str(folder / "notify")}
    with Notified(folder / "notify") as notified:
        async with configured_gateway(folder, text, *arguments, environment=environment) as (gateway, erp):
            systemd = Systemd(gateway, notified)
            running = asyncio.create_task(systemd.run(), name="systemd")
            try:
                async with asyncio.timeout(60):
                    while not notified.count("READY=1"):
                        await asyncio.sleep(0.02)
                yield House(gateway, erp, systemd, folder, dice)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


async def misbehave(
    folder: Path, dice: Random, deeds: Sequence[tuple[str, str]], tally: Tally, *arguments: str, poison: bool = False
) -> list[str]:
    """These deeds, one after the other; what was wrong."""
    async with house(folder, dice, *arguments) as made, aiohttp.ClientSession() as session:
        good = asyncio.create_task(made.good_orders(session), name="good orders")
        try:
            for n, (hook, deed) in enumerate(deeds):
                await made.deed(session, hook, deed, n)
                tally.faults[f"{hook}: {deed}"] += 1
            if poison:
                await made.poison(session)
                tally.faults["normalize: poison"] += 1
        finally:
            good.cancel()
            await asyncio.gather(good, return_exceptions=True)
        wanted = rogue.FLOOD * list(deeds).count(FLOOD)
        with suppress(TimeoutError):
            async with asyncio.timeout(120):
                while made.flooded() < wanted:
                    await asyncio.sleep(0.1)
        await made.load.settled()
        found = made.problems + made.wrong()
        if made.flooded() != wanted:
            found.append(f"{made.flooded()} of a flood's {wanted} orders are there")
        found += [] if found else await count_stuck(tally, made.gateway.admin_port)
        tally.acknowledged += sum(made.load.acknowledged.values()) + len(made.taken)
        tally.lost += len(made.load.missing()) + len(made.missing())
        tally.repeats += made.load.repeats
        tally.kills += len(made.systemd.ends)
        tally.noted = f"{made.replayed} replays by an operator; ended by systemd: {', '.join(made.systemd.ends) or 'never'}"
    return found


class PluginHarness(Rounds):
    name = "plugins"
    share = 0.5

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        deeds = [*CONTAINED, *FATAL]
        found = await misbehave(folder, dice, dice.sample(deeds, len(deeds)), tally, poison=True)
        noted = tally.noted
        (folder / "flood").mkdir()
        found += await misbehave(folder / "flood", dice, [FLOOD], tally)
        tally.noted = noted
        return found
