"""Jumps of the wall clock, of a real process: an hour back, two days ahead and back, and over a change of daylight saving time.

`libfaketime` moves what the process sees as the time of day and leaves its steady clock alone, as NTP and people do. The ERP
is down when it happens, so that orders wait for a time that is suddenly another one: none may be stuck after it is up again,
and none may be tried in a storm. Beside it a vendor (`timed`) whose signatures carry the time of day, whose tokens run out after
seconds, and whose list is asked by date: what it signs is judged by the clock of now, no token is shown that has run out, and
every order that it lists arrives.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import aiohttp

from tests.harness.torture import timed
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import judge, running_gateway
from tests.journey.load import Load
from tests.journey.process import SECRET, Process

HOUR_S, DAY_S = 3600, 86400
# Central European summer time ends and begins at 01:00 UTC; `TZ` of the process is Europe/Berlin.
CHANGES = {"end of summer time": datetime(2026, 10, 25, 1, tzinfo=UTC), "begin of summer time": datetime(2027, 3, 28, 1, tzinfo=UTC)}
JUMPS = ("-1 h", "+2 d", "-2 d", *CHANGES)
TARGET = "retry = { base_s = 1, cap_s = 3 }\nbreaker = { failures = 100000 }"
MOST_TOKENS_A_SECOND = 1.0  # each is good for two, and renewed then
BEFORE_S = 4
WATCHED_S = 3.0
WITHIN_S = 15.0
ORDERS = 20
MOST_TRIES = 8  # of one order while it is watched; its pauses are a tenth of a second at the very least, and 1.5 s in the middle
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Wall:
    """The time of day that the process sees, `offset_s` from the real one."""

    def __init__(self, file: Path, offset_s: int = 0) -> None:
        self._file = file
        self.offset_s = offset_s
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "Europe/Berlin",
        }

    def jump(self, name: str) -> None:
        """To some seconds before a change of daylight saving, or by this much."""
        if name in CHANGES:
            self.offset_s = round(CHANGES[name].timestamp() - time.time()) - BEFORE_S
        else:
            amount, unit = name.split()
            self.offset_s += int(amount) * (HOUR_S if unit == "h" else DAY_S)
        self._write()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.offset_s:+d}\n")
        new.rename(self._file)


class World:
    """A gateway, and those around it whose clocks are right."""

    def __init__(self, gateway: Process, load: Load, vendor: timed.Vendor, wall: Wall) -> None:
        self.gateway = gateway
        self.load = load
        self.vendor = vendor
        self.wall = wall
        self.wanted: set[str] = set()
        self.refused: set[str] = set()

    def missing(self) -> set[str]:
        return self.load.missing() | {f"timed/{ref}/1" for ref in self.wanted} - set(self.load.erp.orders)

    def tell_of(self, ref: str) -> None:
        """An order that only the vendor's list tells of."""
        self.load.offered[ref] = 1
        self.wanted.add(ref)
        self.vendor.place(ref)

    async def sign(self, session: aiohttp.ClientSession, label: str) -> list[str]:
        """Orders signed now, by the vendor's clock and by the gateway's, and too long ago; one of them twice."""
        ours = time.time() + self.wall.offset_s
        good, bad = {"ours": ours, "again": ours - 60}, {"old": ours - timed.TOLERANCE_S - 60, "early": ours + timed.TOLERANCE_S + 60}
        (good if abs(self.wall.offset_s) < timed.TOLERANCE_S else bad)["true"] = time.time()
        found = []
        for name, at in [*good.items(), *bad.items(), ("again", good["again"])]:
            ref, expected = f"{label}_{name}", 200 if name in good else 401
            self.load.offered[ref] = 1
            (self.wanted if name in good else self.refused).add(ref)
            if (status := await timed.deliver(session, self.gateway.url, SECRET, ref, at)) != expected:
                found.append(f"an order signed {at - ours:+.0f} s from the gateway's time was answered {status}")
        return found

    def problems(self) -> list[str]:
        found = [f"{ref} was refused and is in the ERP" for ref in self.refused if f"timed/{ref}/1" in self.load.erp.orders]
        if self.vendor.run_out:
            found.append(f"{self.vendor.run_out} requests were made with a token that had run out")
        return found


async def jump(folder: Path, dice: Random, jumps: list[str], tally: Tally, *arguments: str, ahead_s: int = 0) -> list[str]:
    """These jumps, one after the other; what was wrong. The first start ever is with a clock that is `ahead_s`."""
    wall, found = Wall(folder / "wall", ahead_s), list[str]()
    vendor = timed.Vendor()
    await vendor.start()
    parts = {"target": TARGET, "source": 'on_revision = "send"', "settings": vendor.configuration}
    try:
        async with running_gateway(folder, *arguments, environment=wall.environment, **parts) as (gateway, erp):
            began = time.monotonic()
            world = World(gateway, Load(gateway, erp, dice), vendor, wall)
            async with aiohttp.ClientSession() as session:
                for name in jumps:
                    found += [f"{name}: {problem}" for problem in await _one(session, world, name)]
                    tally.faults[name] += 1
            if vendor.given > MOST_TOKENS_A_SECOND * (time.monotonic() - began) + 2:
                found.append(f"a storm: {vendor.given} tokens in {time.monotonic() - began:.0f} s")
            return await judge(world.load, tally, gateway, found + world.problems(), offset_s=wall.offset_s)
    finally:
        await vendor.stop()


async def _one(session: aiohttp.ClientSession, world: World, name: str) -> list[str]:
    gateway, load, wall, found = world.gateway, world.load, world.wall, list[str]()
    erp = load.erp
    if name in CHANGES:  # months away: the change is to come while orders wait, not the jump
        wall.jump(name)
        await asyncio.sleep(1.5)
    erp.arm("status", status=503, times=10**9)
    label = f"{name} {len(load.offered)}".replace(" ", "_")
    world.tell_of(f"{label}_listed")
    await asyncio.gather(*(load.send(session, f"{label}_{n}", 1) for n in range(ORDERS)))
    await asyncio.sleep(1)
    if name not in CHANGES:
        wall.jump(name)
    heard = len(erp.heard)
    await load.send(session, f"{label}_after", 1)
    world.tell_of(f"{label}_listed_after")
    await asyncio.sleep(WATCHED_S)
    tries = Counter(one.key for one in erp.heard[heard:])
    if tries and max(tries.values()) > MOST_TRIES:
        found.append(f"a storm: an order was tried {max(tries.values())} times in {WATCHED_S:g} s")
    found += await world.sign(session, label)
    erp.disarm()
    end = time.monotonic() + WITHIN_S
    while world.missing() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    if missing := sorted(world.missing()):
        found.append(f"{len(missing)} orders are stuck {WITHIN_S:g} s after the ERP is up again: {', '.join(missing[:3])}")
    if not gateway.lives():
        found.append("the gateway ended")
    return found


class ClockHarness(Rounds):
    name = "clocks"
    share = 0.3

    def needs(self) -> str | None:
        if sys.platform != "linux" or not _LIBRARIES:
            return "libfaketime (apt-get install faketime)"
        return None

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        return await jump(folder, dice, ["-2 d", *dice.sample(JUMPS, len(JUMPS))], tally, ahead_s=2 * DAY_S)
