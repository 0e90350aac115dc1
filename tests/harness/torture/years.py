"""Jumps of the wall clock by years, of a real process that tidies up every second: a battery that is empty, a host that is wrong.

What the vendor sends again while the clock is wrong, and after it is right, is a repeat: no key is forgotten, no order is in the ERP
twice. `readyz` says that the clock is in doubt, for as long as it is.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from random import Random

import aiohttp

from tests.harness.torture.clocks import ClockHarness, Wall
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import judge, running_gateway
from tests.journey.load import Load
from tests.journey.process import Process

TIDY_S = 0.2
TIDIED_S = 1.5
ORDERS = 6
WITHIN_S = 15.0


async def jump_years(folder: Path, dice: Random, days: int, tally: Tally, *arguments: str, stopped: bool) -> list[str]:
    """The clock goes wrong by so many days, over a start or while it runs, and right again; what was wrong."""
    wall, found = Wall(folder / "wall"), list[str]()
    environment = {**wall.environment, "TORTURE_TIDY_S": str(TIDY_S)}
    async with aiohttp.ClientSession() as session:
        async with running_gateway(folder, *arguments, environment=environment) as (gateway, erp):
            load = Load(gateway, erp, dice)
            await _send_all(session, load)
            await load.settled()
            for offset in (days, -days):
                if stopped:
                    await gateway.kill(signal.SIGTERM)
                wall.jump(f"{offset:+d} d")
                if stopped:
                    await gateway.start()
                wrong = offset == days
                end = time.monotonic() + WITHIN_S
                while (doubts := await _doubts(session, gateway)) != wrong and time.monotonic() < end:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(TIDIED_S)
                if doubts != wrong:
                    found.append(f"{offset:+d} d: readyz {'says nothing of' if wrong else 'still doubts'} the clock")
                await _send_all(session, load)
                await load.settled()
            if not gateway.lives():
                found.append("the gateway ended")
            tally.faults["over a start" if stopped else "while running"] += 2
            return await judge(load, tally, gateway, found, offset_s=wall.offset_s)


async def _send_all(session: aiohttp.ClientSession, load: Load) -> None:
    """The same orders, each time."""
    await asyncio.gather(*(load.send(session, f"o{n}", 1) for n in range(ORDERS)))


async def _doubts(session: aiohttp.ClientSession, gateway: Process) -> bool:
    async with session.get(f"http://127.0.0.1:{gateway.admin_port}/readyz") as answer:
        return any("clock" in reason for reason in (await answer.json())["reasons"])


class YearsHarness(Rounds):
    name = "years"
    share = 0.2

    def needs(self) -> str | None:
        return ClockHarness().needs()

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        days = dice.choice((-1, 1)) * dice.randrange(1200, 4000)
        return [f"{days} days: {problem}" for problem in await jump_years(folder, dice, days, tally, stopped=dice.random() < 0.5)]
