"""Plugins that misbehave, in short: some deeds of each kind, as the seed says, and the twin that must be caught."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.torture.plugins import BLOCKS, CONTAINED, FATAL, misbehave
from tests.torture.protocol import Tally
from tests.torture.test_network import SEED, WHOLE


async def test_a_plugin_that_misbehaves_ends_in_its_own_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally, dice = Tally(name="plugins"), Random(SEED)
    contained = list(CONTAINED) if WHOLE else dice.sample(CONTAINED, 8)
    found = await misbehave(tmp_path, dice, [BLOCKS, *contained, *FATAL], tally)
    with capsys.disabled():
        print(
            f"\n  plugins: seed {SEED}, {tally.faults.total()} deeds, {tally.acknowledged} orders taken, {tally.lost} lost; {tally.noted}"
        )
    assert found == [], f"TORTURE_SEED={SEED}"


async def test_known_bad_twin_is_caught(tmp_path: Path) -> None:
    found = await misbehave(tmp_path, Random(SEED), [("fetch", "task")], Tally(name="twin"), "--twin", "exits_let_through")
    assert "the process ended" in " ".join(found), f"TORTURE_SEED={SEED}"


@pytest.mark.skipif(not WHOLE, reason="takes minutes: TORTURE_WHOLE=1")
@pytest.mark.parametrize("twin", [None, "forgets_ends"])
async def test_an_order_that_ends_every_process_is_given_up_and_the_others_go_on(tmp_path: Path, twin: str | None) -> None:
    found = await misbehave(tmp_path, Random(SEED), [], Tally(name="poison"), *(["--twin", twin] if twin else []), poison=True)
    assert (found != []) is (twin is not None), found
