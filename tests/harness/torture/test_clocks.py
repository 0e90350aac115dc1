"""Jumps of the clock: two days back after a first start with a wrong clock; in `make test-all` every jump, and the mutants."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture import clocks
from tests.harness.torture.clocks import DAY_S, JUMPS, ClockHarness, jump
from tests.harness.torture.protocol import Tally
from tests.harness.torture.timed import TOKEN_S
from tests.seed import SEED

pytestmark = pytest.mark.skipif(ClockHarness().needs() is not None, reason="needs libfaketime (apt-get install faketime)")


@pytest.mark.parametrize("jumps", [["-2 d"], pytest.param(["-2 d", *JUMPS], marks=pytest.mark.long)], ids=len)
async def test_no_jump_of_the_clock_makes_orders_stick_or_storm(
    tmp_path: Path, jumps: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first start of all is with a clock two days ahead."""
    tally = Tally(name="clocks")
    found = await jump(tmp_path, Random(SEED), jumps, tally, ahead_s=2 * DAY_S)
    with capsys.disabled():
        print(f"\n  clocks: {tally.faults.total()} jumps, {tally.acknowledged} orders taken, {tally.lost} lost, {tally.repeats} repeats")
    assert found == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("mutant", "watched_s", "says"),
    [
        ("jumps_unnoticed", 1.0, ["are stuck"]),
        ("clocks_exchanged", TOKEN_S, ["with a token that had run out", "signed +0 s from the gateway's time was answered 401"]),
    ],
)
async def test_known_bad_mutants_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str, watched_s: float, says: list[str]
) -> None:
    monkeypatch.setattr(clocks, "WITHIN_S", 3.0)
    monkeypatch.setattr(clocks, "WATCHED_S", watched_s)
    found = " ".join(await jump(tmp_path, Random(SEED), ["-1 h"], Tally(name="mutant"), "--mutant", mutant))
    assert [one for one in says if one not in found] == []
