"""`make torture`, for seconds: what needs neither root nor a disk of its own, and what the runner says and returns."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from . import __main__ as torture
from .protocol import Tally


class Loses:
    """A harness that finds an order missing."""

    name = "loses"
    share = 1.0

    def needs(self) -> str | None:
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        tally.rounds, tally.lost = 1, 1
        tally.problems.append(f"gone: {dice.randrange(1000)}")


class Breaks(Loses):
    name = "breaks"

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        raise RuntimeError("no disk today")


class Lacks(Loses):
    name = "lacks"

    def needs(self) -> str | None:
        return "needs a planet"


@pytest.mark.parametrize("name", ["cuts", "kills", "sweep"])
def test_a_short_run_loses_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "torture.json"
    code = torture.main(["--budget", "2", "--only", name, "--json", str(file)])
    said = capsys.readouterr().out
    (tally,) = json.loads(file.read_bytes())["harnesses"]
    assert code == 0, said
    if tally["skipped"]:
        pytest.skip(tally["skipped"])
    assert tally["rounds"] >= 1
    assert tally["acknowledged"] >= 1
    assert tally["cuts"] + tally["kills"] + sum(tally["faults"].values()) >= 1
    assert (tally["lost"], tally["doubled"], tally["problems"]) == (0, 0, [])


@pytest.mark.parametrize(
    ("made", "code", "says"), [(Loses, 1, "gone: "), (Breaks, 1, "no disk today"), (Lacks, 0, "skipped: needs a planet")]
)
def test_what_a_harness_finds_is_said_and_returned(
    made: type[Loses], code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torture, "HARNESSES", {made.name: made})
    assert torture.main(["--seed", "7", "--budget", "1"]) == code
    said = capsys.readouterr().out
    assert says in said
    assert ("WRONG" in said) == bool(code)


def test_a_seed_repeats_what_was_decided(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torture, "HARNESSES", {"loses": Loses})
    found = []
    for seed in ("7", "7", "8"):
        torture.main(["--seed", seed, "--budget", "1"])
        found += [line for line in capsys.readouterr().out.splitlines() if "gone: " in line]
    assert found[0] == found[1] != found[2]


def test_several_seeds_are_counted_together_and_what_is_found_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torture, "HARNESSES", {"loses": Loses, "lacks": Lacks})
    file = tmp_path / "torture.json"
    assert torture.main(["--seed", "7", "--seeds", "3", "--budget", "0", "--json", str(file)]) == 1
    loses, lacks = json.loads(file.read_bytes())["harnesses"]
    assert (loses["rounds"], loses["lost"], lacks["rounds"]) == (3, 3, 0)
    assert [problem.partition(":")[0] for problem in loses["problems"]] == ["seed 7", "seed 8", "seed 9"]
    said = capsys.readouterr().out
    assert "skipped: needs a planet" in said
    assert 'make torture ARGS="--seed 8 --budget 0 --only loses"' in said


def test_a_harness_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert torture.main(["--only", "floods"]) == 2
    assert "no harness floods" in capsys.readouterr().err
