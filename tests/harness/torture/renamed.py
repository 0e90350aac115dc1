"""Targets renamed or taken out by a reload while rows wait for them: nothing is lost, and nothing stands still without saying so.

What waits for a target that is configured no more says so in its own row, in `readyz` and in `status`, with what to do; then a person
does that: `gateway target move`, or configures it again. Kills and orders under way meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from gateway.testing import ErpSimulator
from tests.harness.torture.operating import Operator
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import judge, running_gateway
from tests.harness.torture.stuck import count_stuck, open_rows
from tests.journey.load import Load
from tests.journey.process import Process

ROUNDS = 4
WAYS = ("moved", "put back")
_ORDERS = 8
_WITHIN_S = 20.0
_LOOKED_S = 1.5
TARGET = "retry = { base_s = 0.05, cap_s = 0.3 }\nbreaker = { failures = 100000, cooldown_s = 0.1 }"


class House:
    """One gateway whose only target is called otherwise again and again."""

    def __init__(self, folder: Path, gateway: Process, erp: ErpSimulator, dice: Random) -> None:
        self.gateway = gateway
        self.erp = erp
        self.dice = dice
        self.load = Load(gateway, erp, dice)
        self.operator = Operator(folder, gateway)
        self.target = "erp"
        self.kills = self.moved = 0
        self._text = self.operator.file.read_text().replace("[targets.erp]", "[targets.NAME]")
        self._number = 0

    async def orders(self, session: aiohttp.ClientSession, count: int, *, versions: int = 1) -> list[str]:
        refs = [f"r{self._number + n}" for n in range(count)]
        self._number += count

        async def send(ref: str) -> None:
            for version in range(1, self.dice.randint(1, versions) + 1):
                await self.load.send(session, ref, version)

        await asyncio.gather(*map(send, refs))
        return refs

    async def configure(self, target: str) -> list[str]:
        """The same configuration with its target under this name, by a reload or by a kill and a start."""
        self.operator.write(self._text.replace("NAME", target))
        if self.dice.random() < 0.3:
            await self.gateway.kill()
            self.kills += 1
            await self.gateway.start()
        else:
            status, said = await self.operator.command("reload")
            if status != 200:
                return [f"the reload was refused: {said}"]
        self.target = target
        return []

    async def rename(self, session: aiohttp.ClientSession, tally: Tally, way: str, number: int) -> list[str]:
        """Orders wait, their target goes, and comes back or not; what was wrong."""
        old, new = self.target, f"erp{number}"
        self.erp.arm("status", times=10**9)
        await self._wait(await self.orders(session, _ORDERS, versions=3))
        before = asyncio.create_task(self.orders(session, _ORDERS), name="orders meanwhile")
        try:
            found = await self.configure(new)
        finally:
            await before
        self.erp.disarm()
        arrived = await self.orders(session, 3)
        if not await self._there(arrived):
            found.append(f"orders do not get to {new} while others wait for {old}")
        waiting = [row for row in (await open_rows(self.gateway.admin_port)).rows if row.get("name") == old]
        if not waiting:
            return [*found, f"nothing waits for {old}, which is gone"]
        found += await self._named(old, waiting)
        found += await count_stuck(tally, self.gateway.admin_port, after_s=_LOOKED_S)
        found += await (self._move(old, new) if way == "moved" else self.configure(old))
        return found if await self._there() else [*found, f"what waited for {old} is not there after it was {way}"]

    async def _wait(self, refs: Sequence[str]) -> None:
        """Until each of their versions waits for the target: one that is looked at later is another target's."""
        wanted = {f"acme/{ref}/{n}" for ref in refs for n in range(1, self.load.acknowledged[ref] + 1)}
        async with asyncio.timeout(_WITHIN_S):
            while wanted - {row["key"] for row in (await open_rows(self.gateway.admin_port)).rows if row["name"] == self.target}:
                await asyncio.sleep(0.02)

    async def _named(self, old: str, waiting: Sequence[Mapping[str, Any]]) -> list[str]:
        """Whether a person reads what is wrong, wherever he looks."""
        words = "not configured"
        found = [] if any(words in str(row) and old in str(row) for row in await self.operator.reasons()) else [f"readyz names no {old}"]
        status = await self.operator.look("/api/status")
        if not any(words in str(row) and old in str(row) for row in status["reasons"]):
            found.append(f"status names no {old}")
        silent = [
            row["row"] for row in waiting if "configured" not in str(row["waits"]) and not str(row["waits"]).startswith("waits behind")
        ]
        return found + ([f"{silent} do not say that {old} is configured no more"] if silent else [])

    async def _move(self, old: str, new: str) -> list[str]:
        """What is being sent right now goes with the next try."""
        end, said = time.monotonic() + _WITHIN_S, list[Any]()
        while time.monotonic() < end:
            status, said = await self.operator.command("target-move", name=old, to=new, same_erp=True)
            if status != 200:
                return [f"target move was answered {status}: {said}"]
            self.moved += sum(not one.get("problem") for one in said)
            if not any(one.get("problem") for one in said):
                return []
            await asyncio.sleep(0.1)
        return [f"target move leaves behind {[one for one in said if one.get('problem')][:3]}"]

    async def _there(self, refs: Sequence[str] | None = None) -> bool:
        """Until these orders, or all, are in the ERP."""
        end = time.monotonic() + _WITHIN_S
        while time.monotonic() < end:
            missing = self.load.missing()
            if not missing or (refs is not None and not any(key.split("/")[1] in refs for key in missing)):
                return True
            await asyncio.sleep(0.05)
        return False


async def rename(folder: Path, dice: Random, ways: Sequence[str], tally: Tally, *arguments: str) -> list[str]:
    """One name after the other; what was wrong."""
    found = list[str]()
    async with running_gateway(folder, *arguments, target=TARGET, source='on_revision = "send"') as (gateway, erp):
        house = House(folder, gateway, erp, dice)
        async with aiohttp.ClientSession() as session:
            for number, way in enumerate(ways):
                found += [f"name {number}, {way}: {problem}" for problem in await house.rename(session, tally, way, number)]
                tally.faults[f"gone and {way}"] += 1
                if found:
                    break
        found = await judge(house.load, tally, gateway, found)
    tally.kills += house.kills
    tally.noted = f"{house.moved} rows moved"
    return found


class RenamedHarness(Rounds):
    name = "renamed"
    share = 0.3

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        return await rename(folder, dice, dice.choices(WAYS, k=ROUNDS), tally)
