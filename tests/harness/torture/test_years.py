"""A clock that is years off, in short: over a start and while it runs, ahead and behind; and the mutant."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.protocol import Tally
from tests.harness.torture.years import YearsHarness, jump_years
from tests.seed import SEED

pytestmark = pytest.mark.skipif(YearsHarness().needs() is not None, reason="needs libfaketime (apt-get install faketime)")


@pytest.mark.parametrize(("days", "stopped"), [(1500, True), (-1500, False), pytest.param(1500, False, marks=pytest.mark.long)])
async def test_a_clock_that_is_years_off_doubles_no_order(tmp_path: Path, days: int, stopped: bool) -> None:
    assert await jump_years(tmp_path, Random(SEED), days, Tally(name="years"), stopped=stopped) == []


@pytest.mark.parametrize("stopped", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_the_mutant_that_goes_by_the_wall_clock_is_caught(tmp_path: Path, stopped: bool) -> None:
    found = await jump_years(tmp_path, Random(SEED), 1500, Tally(name="mutant"), "--mutant", "wall_clock_alone", stopped=stopped)
    assert "came with 2 different bodies" in " ".join(found), "a second order under the key of the first"
