"""kill -9 at random moments under load, with an ERP that loses answers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

from gateway.testing import ErpSimulator
from gateway.testing.erp import Fault
from tests.harness.torture.protocol import Tally, is_over
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import SENDERS, Load
from tests.journey.process import Process, process

TARGET = "concurrency = 16\nread_timeout_s = 2\nretry = { base_s = 0.02, cap_s = 0.5 }\nbreaker = { failures = 50, cooldown_s = 0.1 }"
SOURCE = 'on_revision = "send"'
KILLS_A_ROUND = 30


class Kills:
    """Kills of one gateway; `until_caught` gives a known-bad mutant more load, and ends as soon as it is."""

    def __init__(self, gateway: Process, load: Load, dice: Random, *, until_caught: bool = False) -> None:
        self.gateway = gateway
        self.load = load
        self.dice = dice
        self.until_caught = until_caught
        self.kills = 0
        self.slowest_recovery_s = 0.0

    async def run(self, kills: int, *, wait_s: float, until: float = float("inf")) -> None:
        """Kill and start, this often or until the time is over, at least once; then wait for what has to arrive."""
        await self.gateway.start()
        async with self.load.sending(SENDERS * (3 if self.until_caught else 1)):
            while self.kills < kills and (not self.kills or time.monotonic() < until) and not self._caught():
                await self._kill()
        self.load.erp.disarm()
        if not self._caught():
            await self.load.settled(wait_s)

    def _caught(self) -> bool:
        return self.until_caught and self.load.problems(final=False) != []

    async def _kill(self) -> None:
        await asyncio.sleep(self.dice.uniform(0.01, 0.25))
        if self.until_caught or self.dice.random() < 0.3:
            faults: list[Fault] = ["lose_answer", "drop_before", "status", "reset"]
            fault = self.dice.choice(faults)
            self.load.erp.arm(fault, times=20 if self.until_caught else 3)
        await self.gateway.kill()
        self.kills += 1
        began = time.monotonic()
        await self.gateway.start()
        self.slowest_recovery_s = max(self.slowest_recovery_s, time.monotonic() - began)


class KillHarness:
    name = "kills"
    share = 1.0

    def needs(self) -> str | None:
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        while not is_over(until, tally):
            place = folder / str(tally.rounds)
            place.mkdir()
            erp = ErpSimulator()
            await erp.start()
            try:
                async with process(place, erp.url, target=TARGET, source=SOURCE) as gateway:
                    killing = Kills(gateway, Load(gateway, erp, dice), dice)
                    await killing.run(KILLS_A_ROUND, wait_s=20, until=until)
                    tally.problems += [f"round {tally.rounds}: {one}" for one in await count_stuck(tally, gateway.admin_port)]
            finally:
                await erp.stop()
            tally.kills += killing.kills
            tally.recovered(killing.slowest_recovery_s)
            tally.add(killing.load, f"round {tally.rounds}")
