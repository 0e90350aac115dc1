"""Old copies sent again: for seconds under one `on_revision`, as the seed says; longer under each; and the mutant that lets them back."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.protocol import Tally
from tests.harness.torture.recorded import POLICIES, send_again
from tests.seed import SEED

FOR_NOW = POLICIES[SEED % len(POLICIES)]
LONG = [pytest.param(policy, 15.0, marks=pytest.mark.long) for policy in POLICIES]


@pytest.mark.parametrize(("policy", "seconds"), [(FOR_NOW, 2.5), *LONG])
async def test_nothing_old_reaches_the_erp_after_something_newer(
    tmp_path: Path, policy: str, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(name="recorded")
    found = await send_again(tmp_path, Random(SEED), tally, policy=policy, seconds=seconds)
    with capsys.disabled():
        print(f"\n  recorded: seed {SEED}, {tally.acknowledged} versions taken, {tally.kills} kills, {tally.stuck} stuck; {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"


@pytest.mark.parametrize("policy", [FOR_NOW, *(pytest.param(one, marks=pytest.mark.long) for one in POLICIES if one != FOR_NOW)])
async def test_the_mutant_that_lets_old_ones_come_back_is_caught(tmp_path: Path, policy: str) -> None:
    mutant = ("--mutant", "old_ones_come_back")
    found = await send_again(tmp_path, Random(SEED), Tally(name="mutant"), *mutant, policy=policy, seconds=2, kills=False)
    assert "and the ERP had heard version" in " ".join(found), f"TEST_SEED={SEED}"
