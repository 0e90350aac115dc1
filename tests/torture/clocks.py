"""Jumps of the wall clock, of a real process: an hour back, two days ahead and back, and over a change of daylight saving time.

`libfaketime` moves what the process sees as the time of day and leaves its steady clock alone, as NTP and people do. The ERP
is down when it happens, so that orders wait for a time that is suddenly another one: none may be stuck after it is up again,
and none may be tried in a storm.
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

from gateway.testing import ErpSimulator
from tests.journey.load import Load
from tests.journey.process import Process, process
from tests.torture.protocol import Tally, is_over

HOUR_S, DAY_S = 3600, 86400
# Central European summer time ends and begins at 01:00 UTC; `TZ` of the process is Europe/Berlin.
CHANGES = {"end of summer time": datetime(2026, 10, 25, 1, tzinfo=UTC), "begin of summer time": datetime(2027, 3, 28, 1, tzinfo=UTC)}
JUMPS = ("-1 h", "+2 d", "-2 d", *CHANGES)
TARGET = "retry = { base_s = 1, cap_s = 3 }\nbreaker = { failures = 100000 }"
BEFORE_S = 4
WATCHED_S = 3.0
WITHIN_S = 15.0
ORDERS = 20
MOST_TRIES = 8  # of one order while it is watched; its pauses are a tenth of a second at the very least, and 1.5 s in the middle
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Wall:
    """The time of day that the process sees, as an offset to the real one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset_s = 0
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
            self._offset_s = round(CHANGES[name].timestamp() - time.time()) - BEFORE_S
        else:
            amount, unit = name.split()
            self._offset_s += int(amount) * (HOUR_S if unit == "h" else DAY_S)
        self._write()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._offset_s:+d}\n")
        new.rename(self._file)


async def jump(folder: Path, dice: Random, jumps: list[str], tally: Tally, *arguments: str) -> list[str]:
    """These jumps, one after the other; what was wrong."""
    wall, found = Wall(folder / "wall"), list[str]()
    erp = ErpSimulator()
    await erp.start()
    try:
        async with process(
            folder,
            erp.url,
            *arguments,
            driver="tests.torture.driver",
            environment=wall.environment,
            target=TARGET,
            source='on_revision = "send"',
        ) as gateway:
            await gateway.start()
            load = Load(gateway, erp, dice)
            async with aiohttp.ClientSession() as session:
                for name in jumps:
                    found += [f"{name}: {problem}" for problem in await _one(session, gateway, load, wall, name)]
                    tally.faults[name] += 1
            found += load.problems()
            tally.add(load, f"round {tally.rounds}")
    finally:
        await erp.stop()
    return found


async def _one(session: aiohttp.ClientSession, gateway: Process, load: Load, wall: Wall, name: str) -> list[str]:
    erp, found = load.erp, list[str]()
    if name in CHANGES:  # months away: the change is to come while orders wait, not the jump
        wall.jump(name)
        await asyncio.sleep(1.5)
    erp.arm("status", status=503, times=10**9)
    label = f"{name} {len(load.offered)}".replace(" ", "_")
    await asyncio.gather(*(load.send(session, f"{label}_{n}", 1) for n in range(ORDERS)))
    await asyncio.sleep(1)
    if name not in CHANGES:
        wall.jump(name)
    heard = len(erp.heard)
    await load.send(session, f"{label}_after", 1)
    await asyncio.sleep(WATCHED_S)
    tries = Counter(one.key for one in erp.heard[heard:])
    if tries and max(tries.values()) > MOST_TRIES:
        found.append(f"a storm: an order was tried {max(tries.values())} times in {WATCHED_S:g} s")
    erp.disarm()
    await load.settled(WITHIN_S, after_s=0.1)
    if load.missing():
        found.append(f"{len(load.missing())} orders are stuck {WITHIN_S:g} s after the ERP is up again")
    if not gateway.lives():
        found.append("the gateway ended")
    return found


class ClockHarness:
    name = "clocks"
    share = 0.3

    def needs(self) -> str | None:
        if sys.platform != "linux" or not _LIBRARIES:
            return "libfaketime (apt-get install faketime)"
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        while not is_over(until, tally):
            place = folder / str(tally.rounds)
            place.mkdir()
            found = await jump(place, dice, dice.sample(JUMPS, len(JUMPS)), tally)
            tally.problems += [f"round {tally.rounds - 1}: {problem}" for problem in found]
