"""Plugins that misbehave: two deeds and one that blocks in `make test`, as the seed says, all in `make test-all`; and the mutants."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.plugins import BLOCKS, CONTAINED, FATAL, misbehave
from tests.harness.torture.protocol import Tally
from tests.seed import SEED


@pytest.mark.parametrize(("contained", "fatal"), [(2, 0), pytest.param(len(CONTAINED), len(FATAL), marks=pytest.mark.long)])
async def test_a_plugin_that_misbehaves_ends_in_its_own_source(
    tmp_path: Path, contained: int, fatal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, dice = Tally(name="plugins"), Random(SEED)
    found = await misbehave(tmp_path, dice, [BLOCKS, *dice.sample(CONTAINED, contained), *dice.sample(list(FATAL), fatal)], tally)
    with capsys.disabled():
        print(
            f"\n  plugins: seed {SEED}, {tally.faults.total()} deeds, {tally.acknowledged} orders taken, {tally.lost} lost; {tally.noted}"
        )
    assert found == [], f"TEST_SEED={SEED}"


async def test_known_bad_mutant_is_caught(tmp_path: Path) -> None:
    found = await misbehave(tmp_path, Random(SEED), [("fetch", "task")], Tally(name="mutant"), "--mutant", "exits_let_through")
    assert "the process ended" in " ".join(found), f"TEST_SEED={SEED}"


@pytest.mark.long
@pytest.mark.parametrize("mutant", [None, "forgets_ends"])
async def test_an_order_that_ends_every_process_is_given_up_and_the_others_go_on(tmp_path: Path, mutant: str | None) -> None:
    found = await misbehave(tmp_path, Random(SEED), [], Tally(name="poison"), *(["--mutant", mutant] if mutant else []), poison=True)
    assert (found != []) is (mutant is not None), found
