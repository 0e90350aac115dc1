"""Old copies sent again: for seconds under one `on_revision`, as the seed says; longer under each; and the mutant that lets them back."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.protocol import Tally
from tests.harness.torture.recorded import POLICIES, send_again
from tests.seed import SEED

ANY = "as the seed says"  # the workers of one run make seeds of their own, and must collect the same tests
LONG = [pytest.param(policy, marks=pytest.mark.long) for policy in POLICIES]


def one(policy: str) -> str:
    return POLICIES[SEED % len(POLICIES)] if policy == ANY else policy


@pytest.mark.parametrize("policy", [ANY, *LONG])
async def test_nothing_old_reaches_the_erp_after_something_newer(tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(name="recorded")
    found = await send_again(tmp_path, Random(SEED), tally, policy=one(policy), seconds=2.5 if policy == ANY else 15)
    with capsys.disabled():
        print(f"\n  recorded: seed {SEED}, {tally.acknowledged} versions taken, {tally.kills} kills, {tally.stuck} stuck; {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"


@pytest.mark.parametrize("policy", [ANY, *LONG])
async def test_the_mutant_that_lets_old_ones_come_back_is_caught(tmp_path: Path, policy: str) -> None:
    mutant = ("--mutant", "old_ones_come_back")
    found = await send_again(tmp_path, Random(SEED), Tally(name="mutant"), *mutant, policy=one(policy), seconds=2, kills=False)
    assert "and the ERP had heard version" in " ".join(found), f"TEST_SEED={SEED}"
