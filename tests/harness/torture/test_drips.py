"""Slow senders in short: 200 of them against a door with shorter limits, and the mutant without any."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.harness.torture import drips
from tests.harness.torture.protocol import Tally
from tests.seed import SEED


async def test_slow_senders_are_ended_and_others_are_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORTURE_LIMIT_S", "1.5")
    tally = Tally(name="drips")
    found = await drips.drip(tmp_path, Random(SEED), tally, count=200, limit_s=1.5)
    with capsys.disabled():
        print(f"\n  drips: seed {SEED}, 200 slow senders, {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"


async def test_known_bad_mutant_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drips, "_GRACE_S", 1.0)
    found = await drips.drip(tmp_path, Random(SEED), Tally(name="mutant"), "--mutant", "no_deadlines", count=20, limit_s=1.5)
    assert "are still open" in " ".join(found), f"TEST_SEED={SEED}"
