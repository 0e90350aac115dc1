"""Targets renamed while rows wait: once each way in `make test`, twenty times in `make test-all`; and the mutant that names no strays."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.protocol import Tally
from tests.harness.torture.renamed import WAYS, rename
from tests.seed import SEED


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.long)])
async def test_what_waits_for_a_target_that_is_gone_says_so_and_arrives(
    tmp_path: Path, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, dice = Tally(name="renamed"), Random(SEED)
    found = await rename(tmp_path, dice, dice.sample(WAYS * times, len(WAYS) * times), tally)
    with capsys.disabled():
        print(f"\n  renamed: seed {SEED}, {tally.acknowledged} orders taken, {tally.lost} lost, {tally.stuck} stuck; {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"


async def test_the_mutant_that_names_no_strays_is_caught(tmp_path: Path) -> None:
    tally = Tally(name="mutant")
    found = " ".join(await rename(tmp_path, Random(SEED), ["moved"], tally, "--mutant", "strays_unnamed"))
    assert "readyz names no erp" in found
    assert "is stuck" in found
    assert tally.stuck
