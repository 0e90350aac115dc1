"""Names that collide, for seconds; longer with other dice; and the mutant with the old namespace."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.names import collide
from tests.harness.torture.protocol import Tally
from tests.seed import SEED


@pytest.mark.parametrize("seconds", [2.5, pytest.param(20, marks=pytest.mark.long)])
async def test_a_bare_name_ends_nothing_that_nobody_named(tmp_path: Path, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(name="names")
    found = await collide(tmp_path, Random(SEED), tally, seconds=seconds)
    with capsys.disabled():
        print(f"\n  names: seed {SEED}, {tally.acknowledged} versions taken, {tally.lost} lost, {tally.stuck} stuck; {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"


async def test_the_mutant_for_which_a_name_means_everything_is_caught(tmp_path: Path) -> None:
    found = " ".join(await collide(tmp_path, Random(SEED), Tally(name="mutant"), "--mutant", "old_namespace", seconds=2.5))
    assert "and may mean" in found
    assert "without --yes" in found
