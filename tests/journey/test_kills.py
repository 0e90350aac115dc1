"""kill -9 under load, again and again: what was answered 2xx reaches the ERP, under one key, in order.

Five kills in `make test`, `KILLS` (default 200) in `make test-all`; the seed is printed, and `TEST_SEED` repeats it. The known-bad
mutants run the same until they are caught; one that is not caught within its kills fails the test, because then the harness proves nothing.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gateway.testing import ErpSimulator
from tests.harness.torture.kills import SOURCE, TARGET, Kills
from tests.seed import SEED

from .load import Load
from .process import process

KILLS = int(os.environ.get("KILLS", "200"))


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


@pytest.mark.parametrize("kills", [5, pytest.param(KILLS, marks=pytest.mark.long)])
async def test_nothing_answered_is_lost_in_kills_under_load(tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]) -> None:
    killing = await run(tmp_path, kills)
    load = killing.load
    with capsys.disabled():
        print(
            f"\n  kills: seed {SEED}, {killing.kills} kills, {len(load.offered)} orders, {len(load.erp.orders)} messages,"
            f" {load.sent_again} sent again by senders, {load.repeats} repeats at the ERP, {len(load.missing())} lost"
        )
    assert len(load.offered) > kills / 2, "hardly any load: the kills proved nothing"
    assert load.sent_again > 0, "no sender ever noticed a kill"
    assert load.problems() == [], f"TEST_SEED={SEED}"


async def test_a_gateway_that_answers_before_the_commit_is_caught(tmp_path: Path) -> None:
    """What is lost shows only when everything else has arrived: a few kills, a look, and again."""
    for round_ in range(6):
        (tmp_path / str(round_)).mkdir()
        killing = await run(tmp_path / str(round_), 2, "--mutant", "answer_before_commit", wait_s=1, until_caught=True)
        if killing.load.problems():
            return
    raise AssertionError(f"the harness does not see it; TEST_SEED={SEED}")


@pytest.mark.long
@pytest.mark.parametrize(("mutant", "kills"), [("no_unique_index", 20), ("forget_order", 100), ("new_key_each_time", 100)])
async def test_known_bad_mutant_is_caught(tmp_path: Path, mutant: str, kills: int) -> None:
    killing = await run(tmp_path, kills, "--mutant", mutant, wait_s=3, until_caught=True)
    assert killing.load.problems() != [], f"the harness does not see {mutant}; TEST_SEED={SEED}"
