"""Simulated power cuts: the store on a disk in memory (`tests.powercut`), a few hundred lives a minute."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.harness.torture.protocol import Tally, is_over
from tests.powercut.world import World


class CutHarness:
    name = "cuts"
    share = 1.0

    def needs(self) -> str | None:
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        while not is_over(until, tally):
            world = World(dice.randrange(2**32), folder / "gateway.db")
            await world.run()
            tally.rounds += 1
            tally.cuts += world.cuts
            tally.acknowledged += len(world.acknowledged)
            tally.lost += len(world.lost)
            tally.repeats += world.repeats
            tally.doubled += len(world.doubled())
            tally.problems += [f"{problem} (POWER_CUT_SEED repeats it)" for problem in world.problems]
