"""kill -9 under load, again and again: what was answered 2xx reaches the ERP, under one key, in order.

`KILLS` kills (default 200), seed printed and repeatable with `KILL_SEED`. The known-bad twins run the same until they are
caught; one that is not caught within its kills fails the test, because then the harness proves nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import acme
import aiohttp
import pytest

from gateway.testing import ErpSimulator

from .process import Process, process, send_until_taken

KILLS = int(os.environ.get("KILLS", "200"))
SEED = int(os.environ.get("KILL_SEED", str(time.time_ns() % 10**6)))
SENDERS = 3
TARGET = "concurrency = 16\nread_timeout_s = 2\nretry = { base_s = 0.02, cap_s = 0.5 }\nbreaker = { failures = 50, cooldown_s = 0.1 }"


class Load:
    """Senders that know what was answered 2xx, an ERP that knows what arrived, and kills in between."""

    def __init__(self, gateway: Process, erp: ErpSimulator, seed: int) -> None:
        self.gateway = gateway
        self.erp = erp
        self.random = random.Random(seed)
        self.versions: dict[str, int] = {}
        self.kills = 0
        self.sent_again = 0
        self._number = 0
        self._over = False

    async def sender(self, session: aiohttp.ClientSession) -> None:
        """Order after order; each comes in one to three versions, some are sent twice at the same moment."""
        while not self._over:
            self._number += 1
            ref = f"o{self._number}"
            for version in range(1, self.random.choice((1, 1, 2, 3)) + 1):
                body = acme.body(ref, version)
                twice = self.random.random() < 0.2
                tries = await asyncio.gather(*(send_until_taken(session, self.gateway, body) for _ in range(1 + twice)))
                self.sent_again += sum(tries) - 1
                self.versions[ref] = version

    async def killer(self, kills: int, caught: bool = False) -> None:
        for _ in range(kills):
            await asyncio.sleep(self.random.uniform(0.01, 0.25))
            if caught or self.random.random() < 0.3:
                self.erp.arm(self.random.choice(["lose_answer", "drop_before", "status", "reset"]), times=20 if caught else 3)
            await self.gateway.kill()
            self.kills += 1
            await self.gateway.start()
            if caught and self.problems(final=False):
                break
        self._over = True

    async def run(self, kills: int, *, wait_s: float, until_caught: bool) -> None:
        await self.gateway.start()
        async with aiohttp.ClientSession() as session:
            senders = [asyncio.create_task(self.sender(session)) for _ in range(SENDERS * (3 if until_caught else 1))]
            await self.killer(kills, until_caught)
            async with asyncio.timeout(30):
                await asyncio.gather(*senders)
        self.erp.disarm()
        if until_caught and self.problems(final=False):
            return
        for _ in range(round(wait_s / 0.05)):
            if not self.missing():
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # for what should not come

    def missing(self) -> set[str]:
        """The messages that have to arrive and have not."""
        wanted = (f"acme/{ref}/{n}" for ref, versions in self.versions.items() for n in range(1, versions + 1))
        return {key for key in wanted if key not in self.erp.orders}

    def problems(self, *, final: bool = True) -> list[str]:
        found = []
        if final:
            found += [f"{key} was answered 2xx and is not in the ERP" for key in self.missing()]
            for ref, versions in self.versions.items():
                keys = [key for key in self.erp.orders if key.startswith(f"acme/{ref}/")]
                if len(keys) != versions:
                    found.append(f"{ref} came in {versions} versions and is in the ERP under {keys}")
        bodies: dict[str, set[bytes]] = {}
        for heard in self.erp.heard:
            bodies.setdefault(heard.key, set()).add(heard.body)
        found += [f"{key} came with {len(seen)} different bodies" for key, seen in bodies.items() if len(seen) > 1]
        last: dict[str, int] = {}
        for key in self.erp.sequence:
            ref, n = key.split("/")[1], key.split("/")[2]
            if not n.isdigit() or int(n) != last.get(ref, 0) + 1:
                found.append(f"{key} came after message {last.get(ref, 0)} of its order")
            last[ref] = int(n) if n.isdigit() else 0
        return found


async def run(folder: Path, kills: int, *arguments: str, wait_s: float = 20, until_caught: bool = False) -> Load:
    erp = ErpSimulator()
    await erp.start()
    try:
        async with process(folder, erp.url, *arguments, target=TARGET, source='on_revision = "send"') as gateway:
            load = Load(gateway, erp, SEED)
            await load.run(kills, wait_s=wait_s, until_caught=until_caught)
            return load
    finally:
        await erp.stop()


async def test_nothing_answered_is_lost_in_kills_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load = await run(tmp_path, KILLS)
    repeats = len(load.erp.heard) - len(load.erp.orders)
    with capsys.disabled():
        print(
            f"\n  kills: seed {SEED}, {load.kills} kills, {len(load.versions)} orders, {len(load.erp.orders)} messages,"
            f" {load.sent_again} sent again by senders, {repeats} repeats at the ERP, {len(load.missing())} lost"
        )
    assert len(load.versions) > KILLS / 2, "hardly any load: the kills proved nothing"
    assert load.sent_again > 0, "no sender ever noticed a kill"
    assert load.problems() == [], f"KILL_SEED={SEED}"


@pytest.mark.parametrize(
    ("twin", "kills"), [("answer_before_commit", 20), ("no_unique_index", 20), ("forget_order", 100), ("new_key_each_time", 100)]
)
async def test_known_bad_twin_is_caught(tmp_path: Path, twin: str, kills: int) -> None:
    load = await run(tmp_path, kills, "--twin", twin, wait_s=3, until_caught=True)
    assert load.problems() != [], f"the harness does not see {twin}; KILL_SEED={SEED}"
