"""kill -9 under load, again and again: what was answered 2xx reaches the ERP, under one key, in order.

`KILLS` kills (default 200), seed printed and repeatable with `KILL_SEED`. The known-bad twins run the same until they are
caught; one that is not caught within its kills fails the test, because then the harness proves nothing.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from gateway.testing import ErpSimulator
from tests.torture.kills import SOURCE, TARGET, Kills

from .load import Load
from .process import process

KILLS = int(os.environ.get("KILLS", "200"))
SEED = int(os.environ.get("KILL_SEED", str(time.time_ns() % 10**6)))


async def run(folder: Path, kills: int, *arguments: str, wait_s: float = 20, until_caught: bool = False) -> Kills:
    erp = ErpSimulator()
    await erp.start()
    try:
        async with process(folder, erp.url, *arguments, target=TARGET, source=SOURCE) as gateway:
            dice = random.Random(SEED)
            killing = Kills(gateway, Load(gateway, erp, dice), dice, until_caught=until_caught)
            await killing.run(kills, wait_s=wait_s)
            return killing
    finally:
        await erp.stop()


async def test_nothing_answered_is_lost_in_kills_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killing = await run(tmp_path, KILLS)
    load = killing.load
    with capsys.disabled():
        print(
            f"\n  kills: seed {SEED}, {killing.kills} kills, {len(load.offered)} orders, {len(load.erp.orders)} messages,"
            f" {load.sent_again} sent again by senders, {load.repeats} repeats at the ERP, {len(load.missing())} lost"
        )
    assert len(load.offered) > KILLS / 2, "hardly any load: the kills proved nothing"
    assert load.sent_again > 0, "no sender ever noticed a kill"
    assert load.problems() == [], f"KILL_SEED={SEED}"


@pytest.mark.parametrize(
    ("twin", "kills"), [("answer_before_commit", 20), ("no_unique_index", 20), ("forget_order", 100), ("new_key_each_time", 100)]
)
async def test_known_bad_twin_is_caught(tmp_path: Path, twin: str, kills: int) -> None:
    killing = await run(tmp_path, kills, "--twin", twin, wait_s=3, until_caught=True)
    assert killing.load.problems() != [], f"the harness does not see {twin}; KILL_SEED={SEED}"
