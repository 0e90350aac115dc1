"""The benchmark itself: everything arrives, what is lost is noticed. No figure is asserted, since they belong to a machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import rounds, vendor
from benchmarks.contestants import Plain
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
