"""Disks that break under a gateway at work: full, failing, read-only by themselves, without power. Needs root and mounts.

A round: orders come in, the disk breaks, and the gateway may run on, answer 503 or end with an error. While the disk is
broken it is sometimes killed and started again. Then the disk is whole again, with what had reached it, and so is the gateway.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from gateway.testing import ErpSimulator
from tests.harness.torture.disks import Disk, Small, Volatile, missing, refusal
from tests.harness.torture.protocol import Tally, is_over
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import Load
from tests.journey.process import Process, process

TARGET = "concurrency = 16\nread_timeout_s = 2\nretry = { base_s = 0.05, cap_s = 0.5 }\nbreaker = { failures = 1000, cooldown_s = 0.1 }"
SOURCE = 'on_revision = "send"'
_RESERVE = 2 * 1024 * 1024
_END_S = 40.0


class Round:
    """One disk that breaks a few times under one gateway. `problems`: of the gateway's conduct; what was lost, the load knows."""

    def __init__(self, disk: Disk, gateway: Process, load: Load, dice: Random, tally: Tally, patience_s: float) -> None:
        self.disk = disk
        self.patience_s = patience_s
        self.gateway = gateway
        self.load = load
        self.dice = dice
        self.tally = tally
        self.how = ""
        self.problems: list[str] = []

    async def run(self, ways: Sequence[str]) -> None:
        """Break it in these ways, one after the other; then wait for what has to arrive."""
        await self.gateway.start()
        for number, how in enumerate(ways):
            self.how = how
            async with self.load.sending(abandon=True):
                await asyncio.sleep(self.dice.uniform(0.05, 0.6))
                if how == "cut":
                    await self._cut_power()
                elif how == "eio-once":
                    self.problems += [f"break {number}, {how}: {problem}" for problem in await self._stumble()]
                else:
                    await asyncio.to_thread(self.disk.break_, self.how)
                    self.problems += [f"break {number}, {how}: {problem}" for problem in await self._live_with_it()]
            await self._mend()
            try:
                self.tally.recovered(await self.gateway.recover(3 * self.patience_s))
            except TimeoutError:
                self.problems.append(f"break {number}, {how}: not ready {3 * self.patience_s:.0f} s after the disk is well")
                return
        async with self.load.sending():
            await asyncio.sleep(0.2)
        await self.load.settled(self.patience_s)
        self.problems += await count_stuck(self.tally, self.gateway.admin_port)

    async def _mend(self) -> None:
        """Room again; or the power goes and comes back, and what the kernel called written may be gone."""
        if isinstance(self.disk, Small) and self.how == "full":
            self.disk.make_room()
            return
        await self.gateway.kill()
        if isinstance(self.disk, Volatile) and self.how not in ("cut", "eio-once"):
            self.disk.break_(f"cut {self.dice.random()}")
        await asyncio.to_thread(self.disk.unplug)
        await asyncio.to_thread(self.disk.plug_in)

    async def _cut_power(self) -> None:
        """The machine goes with the disk."""
        await asyncio.to_thread(self.disk.break_, f"cut {self.dice.random()}")
        await asyncio.sleep(self.dice.choice((0.0, 0.05)))
        await self.gateway.kill()
        self.tally.cuts += 1

    async def _stumble(self) -> list[str]:
        """One write fails, and the kernel calls its page clean; the gateway is started again, works on, and then the power goes."""
        self.tally.faults[self.how] += 1
        self.disk.break_(self.how)
        end = time.monotonic() + 3
        while self.gateway.lives() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        problems = [] if self.gateway.lives() else await self._watch(0)
        if not self.gateway.lives():
            await self.gateway.start()
        await asyncio.sleep(self.dice.uniform(0.1, 0.5))
        await self._cut_power()
        return problems

    async def _live_with_it(self) -> list[str]:
        self.tally.faults[self.how] += 1
        problems = await self._watch(self.dice.uniform(0.5, 3))
        if self.dice.random() < 0.5:  # as systemd, or a person, would try
            if self.gateway.lives():
                await self.gateway.kill()
                self.tally.kills += 1
            await self.gateway.spawn()
            try:
                await self.gateway.listening()
            except TimeoutError:
                return [*problems, "started on a broken disk, it neither takes orders nor ends"]
            problems += await self._watch(0.5)
        return problems

    async def _watch(self, seconds: float) -> list[str]:
        """It runs and answers, or ends and says so."""
        before = self._answered()
        soon, late = (time.monotonic() + after_s for after_s in (seconds, _END_S))
        while self.gateway.lives() and (time.monotonic() < soon or self._answered() == before):
            if isinstance(self.disk, Small) and self.how == "full":
                await asyncio.to_thread(self.disk.fill)
            if time.monotonic() > late:
                return [f"runs, and has answered nothing for {_END_S} s"]
            await asyncio.sleep(0.1)
        if self.gateway.lives():
            return []
        code = await self.gateway.exit_code()
        if code == -signal.SIGBUS and self.how == "full":  # no room for a page of the -shm file that SQLite maps; systemd starts it again
            self.tally.faults["ended by SIGBUS"] += 1
            return []
        return [f"ended with {code}"] if code != 1 else []

    def _answered(self) -> int:
        return self.load.answers.total() - self.load.answers[0]


async def round_on(
    disk: Disk, ways: Sequence[str], dice: Random, tally: Tally, folder: Path, *arguments: str, patience_s: float = 20
) -> None:
    """Plug in, one round, unplug. What has to arrive may take `patience_s`, a start three times that."""
    erp = ErpSimulator()
    await erp.start()
    try:
        await asyncio.to_thread(disk.plug_in)
        parts: dict[str, Any] = {"target": TARGET, "source": SOURCE, "data_dir": str(disk.path / "data")}
        async with process(folder, erp.url, *arguments, reserve_bytes=_RESERVE, **parts) as gateway:
            load = Load(gateway, erp, dice)
            round_ = Round(disk, gateway, load, dice, tally, patience_s)
            await round_.run(ways)
    finally:
        await asyncio.to_thread(disk.unplug)
        await erp.stop()
    where = f"round {tally.rounds}"
    tally.problems += [f"{where}, {problem}" for problem in round_.problems]
    tally.add(load, where)


class FullDisk:
    """ENOSPC on tmpfs and ext4 with the reserve file; ext4 that has made itself read-only."""

    name = "disk-full"
    share = 1.0

    def __init__(self) -> None:
        self._ways = [("tmpfs", ["full"] * 2), ("ext4", ["full", "read-only"] * 2)]
        self._without = ""

    def needs(self) -> str | None:
        if found := missing("mount", "umount"):
            return found
        refused = {kind: missing("mkfs.ext4") if kind == "ext4" else None for kind in ("tmpfs", "ext4")}
        with tempfile.TemporaryDirectory() as folder:
            for kind in refused:
                refused[kind] = refused[kind] or refusal(Small(Path(folder) / kind, kind))
        self._ways = [way for way in self._ways if not refused[way[0]]]
        self._without = "; ".join(f"without {kind}: {why}" for kind, why in refused.items() if why)
        return None if self._ways else self._without

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        tally.noted = self._without
        while not is_over(until, tally):
            kind, ways = self._ways[tally.rounds % len(self._ways)]
            place = folder / str(tally.rounds)
            await round_on(Small(place, kind), ways, dice, tally, place)


class FailingDisk:
    """A disk with a write cache: EIO on write and on flush, ENOSPC of the device, and cuts of the power."""

    name = "disk-cut"
    share = 2.0
    ways = ("cut", "cut", "eio-flush", "cut", "cut", "eio-write", "eio-once", "eio-once", "enospc")

    def needs(self) -> str | None:
        if found := missing("nbdkit", "nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "mount"):
            return found
        with tempfile.TemporaryDirectory() as folder:
            return refusal(Volatile(Path(folder)))

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        while not is_over(until, tally):
            place = folder / str(tally.rounds)
            await round_on(Volatile(place), dice.sample(self.ways, 6), dice, tally, place)
