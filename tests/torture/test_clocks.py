"""Jumps of the clock in short: two days ahead, an hour back, and the twin that does not notice."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.torture import clocks
from tests.torture.clocks import JUMPS, ClockHarness, jump
from tests.torture.protocol import Tally
from tests.torture.test_network import SEED, WHOLE

pytestmark = pytest.mark.skipif(ClockHarness().needs() is not None, reason="needs libfaketime (apt-get install faketime)")


async def test_no_jump_of_the_clock_makes_orders_stick_or_storm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(name="clocks")
    found = await jump(tmp_path, Random(SEED), list(JUMPS) if WHOLE else ["+2 d", "-1 h"], tally)
    with capsys.disabled():
        print(f"\n  clocks: {tally.faults.total()} jumps, {tally.acknowledged} orders taken, {tally.lost} lost, {tally.repeats} repeats")
    assert found == []


async def test_known_bad_twin_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "WITHIN_S", 3.0)
    monkeypatch.setattr(clocks, "WATCHED_S", 1.0)
    found = await jump(tmp_path, Random(SEED), ["-1 h"], Tally(name="twin"), "--twin", "jumps_unnoticed")
    assert "are stuck" in " ".join(found)
