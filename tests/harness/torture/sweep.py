"""One order's life with one system call on the store's files made to fail: every call, one after the other.

Two lives: of a new data directory, and of one that a killed gateway left with an order in it. A dry run counts the calls; then
each fails once, fails from then on (EIO, ENOSPC), and is the last (kill). Where the time is too short for all, rare calls
come first and the many writes are drawn.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp

from gateway.testing import ErpSimulator
from tests.harness.torture import traced
from tests.harness.torture.protocol import Tally, is_over
from tests.harness.torture.stuck import count_stuck
from tests.harness.torture.traced import Point
from tests.journey.load import Load
from tests.journey.process import Process, process

FAULTS = (("EIO", False), ("EIO", True), ("ENOSPC", False), ("ENOSPC", True), ("kill", False))
LIVES = ("new", "old")
TARGET = "retry = { base_s = 0.02, cap_s = 0.2 }\nbreaker = { failures = 1000, cooldown_s = 0.1 }"
_RESERVE = 256 * 1024
_PATIENCE_S = 3.0
_END_S = 30.0
_LEFT_BEHIND = "o0"


class Sweep:
    """The gateway, the ERP, and a data directory that each life begins with anew."""

    def __init__(self, folder: Path, gateway: Process, erp: ErpSimulator, dice: Random) -> None:
        self.folder = folder
        self.gateway = gateway
        self.erp = erp
        self.dice = dice
        self.patience_s = 10.0

    async def leave_behind(self) -> None:
        """What the old lives begin with: killed, with an order that the ERP has not taken."""
        self.erp.arm("status", times=1_000_000)
        await self.gateway.start()
        async with aiohttp.ClientSession() as session:
            await self._load("old").send(session, _LEFT_BEHIND, 1)
        await self.gateway.kill()
        shutil.copytree(self.data_dir, self.folder / "old", ignore=shutil.ignore_patterns("control.sock"))

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def _load(self, life: str) -> Load:
        """As many senders' memories as lives: nothing of the one before is known any more."""
        load = Load(self.gateway, self.erp, self.dice)
        if life == "old":
            load.offered[_LEFT_BEHIND] = load.acknowledged[_LEFT_BEHIND] = 1
        return load

    def _begin(self, life: str) -> Load:
        self.erp.forget()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        if life == "old":
            shutil.copytree(self.folder / "old", self.data_dir)
        return self._load(life)

    async def calls(self, life: str) -> tuple[Counter[str], Counter[str]]:
        """A life in which nothing fails: the calls until it listens, and all of them."""
        load = self._begin(life)
        async with traced.traced(self.gateway, self.data_dir, self.folder / "strace") as seen:
            await self.gateway.listening()
            until_up = seen.calls()
            problems = await self._live(load, died_on_purpose=False)
        if problems or load.missing() or not load.acknowledged.get("o1"):
            raise RuntimeError(f"a life without a fault fails: {problems} {load.problems()}")
        return until_up, seen.calls()

    async def round(self, life: str, point: Point, tally: Tally) -> None:
        """One life with one fault, and the start after it."""
        load = self._begin(life)
        async with traced.traced(self.gateway, self.data_dir, self.folder / "strace", point) as seen:
            problems = await self._live(load, died_on_purpose=point.fault == "kill")
        tally.recovered(await self.gateway.recover())
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            await load.send(session, "o2", 1)
        await load.settled(self.patience_s, after_s=0.05)
        problems += await count_stuck(tally, self.gateway.admin_port)
        await self.gateway.kill()
        if not seen.injected():
            tally.faults["not reached"] += 1
        elif point.fault == "kill":
            tally.kills += 1
        else:
            tally.faults[f"{point.fault} {point.call}{' for ever' if point.sticks else ''}"] += 1
        where = f"{life} life, {point}"
        tally.problems += [f"{where}: {problem}" for problem in problems]
        tally.add(load, where)

    async def _live(self, load: Load, *, died_on_purpose: bool) -> list[str]:
        """Start, one order, stop. It may run, answer 503 or exit with an error, in words; anything else is a problem."""
        log = self.folder / "log.jsonl"
        before = log.stat().st_size
        problems = await self._live_through(load, died_on_purpose)
        said = log.read_bytes()[before:].decode()
        if "Traceback" in said:
            trace = [line for line in said[said.find("Traceback") :].splitlines() if not line.startswith((" ", "{"))]
            problems.append(f"a traceback: {' '.join(trace[:2])}")
        return problems

    async def _live_through(self, load: Load, died_on_purpose: bool) -> list[str]:
        problems = []
        try:
            await self.gateway.listening()
        except TimeoutError:
            problems.append("neither takes orders nor ends")
        if self.gateway.lives():
            await self._one_order(load)
        asked = self.gateway.lives()
        if asked:
            if not load.answers[200] and not load.answers[503]:
                problems.append(f"runs, and answers nothing: {dict(load.answers)}")
            try:
                await self.gateway.kill(signal.SIGTERM, _END_S)
            except TimeoutError:
                problems.append("does not end on SIGTERM")
                await self.gateway.kill()
                return problems
        code = await self.gateway.exit_code()
        if (
            (code == 0 and not asked) or code == 2 or (code < 0 and not (died_on_purpose and code == -signal.SIGKILL))
        ):  # 2: not started again
            problems.append(f"ended with {code}")
        return problems

    async def _one_order(self, load: Load) -> None:
        """Until it is in the ERP, the gateway is gone, or patience ends."""
        async with aiohttp.ClientSession() as session:
            sending = asyncio.create_task(load.send(session, "o1", 1))
            end = time.monotonic() + _PATIENCE_S
            while time.monotonic() < end and self.gateway.lives() and (not sending.done() or load.missing()):
                await asyncio.sleep(0.01)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@asynccontextmanager
async def sweeping(folder: Path, dice: Random, *arguments: str) -> AsyncIterator[Sweep]:
    """Everything a sweep needs, with the old data directory made."""
    erp = ErpSimulator()
    await erp.start()
    try:
        async with process(folder, erp.url, *arguments, target=TARGET, reserve_bytes=_RESERVE) as gateway:
            sweep = Sweep(folder, gateway, erp, dice)
            await sweep.leave_behind()
            yield sweep
    finally:
        await erp.stop()


def in_turn(points: Iterable[tuple[str, Point]], dice: Random) -> list[tuple[str, Point]]:
    """All points, those of a kind in random order, the kinds by turns."""
    kinds: dict[tuple[str, str, str, bool], list[tuple[str, Point]]] = {}
    for life, point in points:
        kinds.setdefault((life, point.call, point.fault, point.sticks), []).append((life, point))
    ranked = []
    for kind in kinds.values():
        dice.shuffle(kind)
        ranked += [(turn, dice.random(), life, point) for turn, (life, point) in enumerate(kind)]
    return [(life, point) for _, _, life, point in sorted(ranked, key=lambda one: one[:2])]


class SweepHarness:
    name = "sweep"
    share = 2.0

    def needs(self) -> str | None:
        return traced.missing()

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        async with sweeping(folder, dice) as sweep:
            points = []
            for life in LIVES:
                _, calls = await sweep.calls(life)
                for call, count in sorted(calls.items()):
                    points += [(life, Point(call, n, fault, sticks)) for n in range(1, count + 1) for fault, sticks in FAULTS]
            for done, (life, point) in enumerate(in_turn(points, dice), 1):
                if is_over(until, tally):
                    break
                await sweep.round(life, point, tally)
                tally.noted = f"{done} of {len(points)} points"
