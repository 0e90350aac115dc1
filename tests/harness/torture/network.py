"""The 14 network faults on each of the four legs: nothing lost, nothing doubled, nothing overtaken, and all up again by itself.

One round is every kind on every leg, in an order that the dice say, the four legs at the same time on a gateway each; with
every second round, whether the first is for the dice, the ERP recognises no repeat and is looked up instead. A fault begins by
ending what is connected, lasts until it was met and a little longer, and meanwhile orders go on coming through every door.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from random import Random

import aiohttp

from tests.harness.torture.driver import SUFFIX
from tests.harness.torture.faulty_proxy import KINDS
from tests.harness.torture.protocol import Tally, is_over
from tests.harness.torture.site import LEGS, Site, site
from tests.harness.torture.stuck import count_stuck

# Where a kind makes no sense, and why.
NO_SENSE: Mapping[tuple[str, str], str] = {
    ("webhook", "DNS"): "a sender that cannot resolve our name never reaches us; the poll sweeps up, as with `refused`",
}
# What an operator may be needed for: what looks as if it were configured wrong, and what came with a 2xx.
FOR_OPERATORS = ("redirect", "TLS", "wrong content")
RECOVERY_S = 30.0
_MET_WITHIN_S = 15.0


class Cells:
    """The kinds on one leg, one after the other.

    Attributes:
        problems: What was wrong, by kind.
        slowest_s: Until everything was there again, from the end of the fault.
    """

    def __init__(self, site: Site, leg: str, *, recovery_s: float = RECOVERY_S) -> None:
        self.site = site
        self.leg = leg
        self.problems: list[str] = []
        self.slowest_s = 0.0
        self.slowest_kind = ""
        self.operated: dict[str, int] = {}
        self._recovery_s = recovery_s

    async def run(self, kinds: Collection[str], tally: Tally) -> None:
        async with aiohttp.ClientSession() as session:
            for kind in kinds:
                if (self.leg, kind) not in NO_SENSE:
                    found = await self._one(session, kind)
                    tally.faults[f"{self.leg}: {kind}"] += 1
                    self.problems += [f"{kind} on the {self.leg} leg: {problem}" for problem in found]
                    if found:
                        return

    async def _one(self, session: aiohttp.ClientSession, kind: str) -> list[str]:
        site, proxy, dice = self.site, self.site.proxies[self.leg], self.site.dice
        before = site.operated
        await site.order(session)
        await asyncio.sleep(dice.uniform(0, 0.3))  # it may be anywhere on its way
        if kind == "DNS":
            site.hosts.write_text(" ".join(leg + SUFFIX for leg in LEGS if leg != self.leg))
        await proxy.begin(kind)
        sending = asyncio.create_task(self._orders(session), name=f"orders {self.leg}")
        met = await self._met(kind)
        await asyncio.sleep(dice.uniform(0.1, 0.4))
        if kind == "DNS":
            site.hosts.write_text(" ".join(leg + SUFFIX for leg in LEGS))
        await proxy.end()
        began = time.monotonic()
        async with asyncio.timeout(self._recovery_s + 10):
            await sending
        found = await site.recovered(self._recovery_s)
        if time.monotonic() - began > self.slowest_s:
            self.slowest_s, self.slowest_kind = time.monotonic() - began, kind
        self.operated[kind] = self.operated.get(kind, 0) + site.operated - before
        if self.operated[kind] and kind not in FOR_OPERATORS:
            found.append(f"an operator was needed {self.operated[kind]} times")
        return found + ([] if met else ["no connection met the fault"]) + site.problems()

    async def _orders(self, session: aiohttp.ClientSession) -> None:
        """At least two, and on until somebody has met the fault."""
        count, end = 0, time.monotonic() + _MET_WITHIN_S
        while count < 2 or (not self.site.proxies[self.leg].met and self.site.proxies[self.leg].kind and time.monotonic() < end):
            await self.site.order(session)
            count += 1
            await asyncio.sleep(0.05)

    async def _met(self, kind: str) -> bool:
        """Wait until the fault was met; where there is nobody to count, for a while."""
        if kind in ("refused", "DNS"):
            await asyncio.sleep(0.4)
            return True
        proxy, began = self.site.proxies[self.leg], time.monotonic()
        cut_at = began + 0.5
        while time.monotonic() < began + _MET_WITHIN_S:
            if proxy.met:
                return True
            if time.monotonic() > cut_at:  # everybody sits on a connection that was spared
                await proxy.cut()
                cut_at = time.monotonic() + 0.5
            await asyncio.sleep(0.02)
        return False


async def one_leg(
    leg: str, kinds: Collection[str], dice: Random, tally: Tally, folder: Path, *arguments: str, keyed: bool = True, **limits: float
) -> Cells:
    """These kinds on this leg of a gateway of its own."""
    folder.mkdir()
    recovery_s = limits.pop("recovery_s", RECOVERY_S)
    async with site(folder, dice, *arguments, keyed=keyed, **limits) as made:
        cells = Cells(made, leg, recovery_s=recovery_s)
        try:
            await cells.run(kinds, tally)
        except TimeoutError:
            cells.problems += [f"the {leg} leg: senders are still not answered {recovery_s:g} s after the fault", *made.problems()]
        if not cells.problems:  # else it is known that something is not where it should be
            cells.problems += await count_stuck(tally, made.gateway.admin_port)
        tally.acknowledged += sum(made.load.acknowledged.values()) + len(made.pushed)
        tally.repeats += made.load.repeats
        tally.lost += len(made.load.missing())
        tally.doubled += len(made.load.doubled()) - len(made.pushed & set(made.load.doubled())) + len(made.erp.doubled())
    return cells


class NetworkHarness:
    name = "network"
    share = 2.0

    def needs(self) -> str | None:
        return None if shutil.which("openssl") else "the openssl command, for certificates"

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        operated, first = 0, dice.randrange(2)
        slowest = (0.0, "")
        while not is_over(until, tally):
            place = folder / str(tally.rounds)
            place.mkdir()
            legs = []
            for leg in LEGS:
                own = Random(dice.random())
                kinds = own.sample(KINDS, len(KINDS))
                legs.append(one_leg(leg, kinds, own, tally, place / leg, keyed=(tally.rounds + first) % 2 == 0))
            for cells in await asyncio.gather(*legs):
                tally.problems += [f"round {tally.rounds}: {problem}" for problem in cells.problems]
                slowest = max(slowest, (cells.slowest_s, f"{cells.slowest_kind} on {cells.leg}"))
                operated += sum(cells.operated.values())
            tally.rounds += 1
            tally.recovered(slowest[0])
            tally.noted = f"slowest recovery: {slowest[1]}; an operator was needed {operated} times ({', '.join(FOR_OPERATORS)})"
