"""Reloads that are refused: five kinds in `make test`, as the seed says, all in `make test-all`; and the mutant that does not show it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture import reloads
from tests.harness.torture.protocol import Tally
from tests.harness.torture.reloads import BROKEN, refuse
from tests.seed import SEED


@pytest.mark.parametrize("kinds", [5, pytest.param(len(BROKEN), marks=pytest.mark.long)])
async def test_a_refused_reload_changes_nothing_and_is_shown(tmp_path: Path, kinds: int, capsys: pytest.CaptureFixture[str]) -> None:
    tally, dice = Tally(name="reloads"), Random(SEED)
    found = await refuse(tmp_path, dice, dice.sample(list(BROKEN), kinds), tally)
    with capsys.disabled():
        print(f"\n  reloads: seed {SEED}, {tally.acknowledged} orders taken, {tally.lost} lost, {tally.stuck} stuck; {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"


async def test_the_mutant_that_shows_no_refusal_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloads, "_SHOWN_WITHIN_S", 1.0)
    found = await refuse(tmp_path, Random(SEED), ["a key nobody knows"], Tally(name="mutant"), "--mutant", "refusal_not_shown")
    assert "readyz does not say that a reload was refused" in " ".join(found)
