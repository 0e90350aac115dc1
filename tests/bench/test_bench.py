"""The benchmark itself: everything arrives, what is lost is noticed. No figure is asserted, since they belong to a machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import alternative, contestants, rounds, scenarios, vendor
from benchmarks.alternative import Kind
from benchmarks.contestants import Alternative, Plain
from benchmarks.rounds import Ground, Wrong

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {"accept", "end-to-end", "alternatives", "backlog", "footprint", "latency", "burst", "mapping", "growth"}


def test_every_section_runs_and_every_order_arrives(tmp_path):
    out = tmp_path / "out.json"
    arguments = ["--tiny", "--connector", "acme", "--output", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    assert {section["name"] for section in said["sections"]} == SECTIONS
    assert said["machine"]["journal_mode"] == "wal"
    assert said["machine"]["synchronous"].startswith("2")


def test_a_twin_that_answers_and_delivers_nothing_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "ARRIVE_S", 0.5)
    with Ground(vendor.choose(tmp_path, "acme"), 4) as ground, Plain("bare") as liar:
        with pytest.raises(Wrong, match="20 of 20 orders are lost"):
            ground.through(liar, 20)


def test_an_alternative_that_is_not_installed_says_how_to_get_it(tmp_path, monkeypatch):
    kinds = (Kind(name="afternoon", module="afternoon"), Kind(name="nobody", module="nobody", extra="nobody_has_this"))
    monkeypatch.setattr(scenarios, "KINDS", kinds)
    with Ground(vendor.choose(tmp_path, "acme"), 4) as ground:
        section = scenarios.Course(ground, tmp_path, scenarios.TINY).alternatives()
    absent = [entry for entry in section.entries if not entry.figures]
    assert [entry.name for entry in absent] == [f"nobody: {alternative.MISSING}"]
    assert [verdict.name for verdict in section.verdicts] == ["end to end, gateway / afternoon", "answers meanwhile, gateway / afternoon"]


@pytest.mark.parametrize(("level", "weaker"), [("1", True), ("2", False)])
def test_an_alternative_that_does_not_sync_is_called_so(tmp_path, monkeypatch, level, weaker):
    monkeypatch.setattr(contestants, "Child", lambda *_, **__: Quiet(level))
    kind = Kind(name="afternoon", module="afternoon")
    given = vendor.choose(tmp_path / "vendor", "acme")
    with Alternative(kind, tmp_path / "data", given, erp="http://127.0.0.1:9/", connections=1) as one:
        assert ("NOT THE SAME WORK" in one.name) is weaker


class Quiet:
    """A process that says only how it keeps orders."""

    def __init__(self, level: str) -> None:
        self.level = level

    def hear(self) -> dict[str, object]:
        return {"port": 1, "synchronous": self.level, "journal_mode": "wal"}

    def kill(self) -> None:
        pass
