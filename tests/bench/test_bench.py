"""The benchmark itself: everything arrives, what is lost is noticed. No figure is asserted, since they belong to a machine."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks import alternative, cloned, contestants, earlier, report, rounds, scenarios, vendor
from benchmarks.alternative import Kind
from benchmarks.contestants import Alternative, Plain
from benchmarks.measures import spread
from benchmarks.report import Section, Verdict
from benchmarks.rounds import Ground, Wrong

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {"accept", "end-to-end", "alternatives", "backlog", "footprint", "latency", "burst", "mapping", "growth"}


@pytest.mark.parametrize("sections", [{"accept"}, pytest.param(SECTIONS, marks=pytest.mark.long)], ids=["one", "all"])
def test_every_section_runs_and_every_order_arrives(tmp_path, sections):
    out = tmp_path / "out.json"
    with TemporaryDirectory() as data:  # a real disk, and a path that is short enough for the control socket
        arguments = ["--tiny", "--connector", "acme", "--data-dir", data, "--output", str(out)]
        arguments += [f"--only={name}" for name in sorted(sections)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(out.read_text())
    assert {section["name"] for section in said["sections"]} == sections
    assert said["machine"]["journal_mode"] == "wal"
    assert said["machine"]["synchronous"].startswith("2")


def test_a_mutant_that_answers_and_delivers_nothing_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "ARRIVE_S", 0.5)
    with Ground(vendor.choose(tmp_path, "acme"), 4) as ground, Plain("bare") as liar:
        with pytest.raises(Wrong, match="20 of 20 orders are lost"):
            ground.through(liar, 20)


@pytest.mark.long
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


def test_each_verdict_has_what_the_newest_kept_result_said_beside_it(tmp_path, capsys):
    for name, at, median in (("2026-01-02-b", "2026-01-02", 0.5), ("2026-01-01-a", "2026-01-01", 0.4), ("latest", "2026-01-03", 0.9)):
        verdict = {"name": "gateway / bare", "value": {"median": median}}
        said = {"at": at, "machine": {"commit": name[-1]}, "sections": [{"name": "accept", "verdicts": [verdict]}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(said))
    before = earlier.newest(tmp_path)
    assert before is not None
    assert (before.at, before.commit) == ("2026-01-02", "b")
    verdicts = [Verdict(name=name, value=spread([0.25]), aim=0.65) for name in ("gateway / bare", "new")]
    report.show(Section(name="accept", what="", entries=[], verdicts=verdicts), before)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "  gateway / bare: 0.25, aim >= 0.65: NOT MET [was 0.5, -50%]",
        "  new: 0.25, aim >= 0.65: NOT MET",
    ]


def test_where_no_result_was_kept_nothing_is_compared(tmp_path):
    assert earlier.newest(tmp_path) is None


def test_a_cloned_file_is_whole_and_every_order_in_it_has_a_name_and_a_body_of_its_own(tmp_path):
    file = tmp_path / "data" / "gateway.db"
    cloned.seed(file, 2000, 3000)
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("SELECT count(*), count(DISTINCT order_ref) FROM orders").fetchone() == (5000, 5000)
        rows = db.execute("SELECT status, target, count(*), count(body) FROM outbox GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
        assert rows == [("done", "erp", 3000, 0), ("held", "erp", 1000, 1000), ("ready", "down", 1000, 1000)]
        columns = "order_ref, outbox.key, document, inbox.sha256, body, outbox.sha256"
        ways = f"SELECT {columns} FROM orders JOIN inbox ON inbox.order_id = orders.id"
        for ref, key, document, sha256, message, sent in db.execute(f"{ways} JOIN outbox ON inbox_id = inbox.id WHERE body IS NOT NULL"):
            assert key == f"bench/{ref}/1"
            assert json.loads(document)["id"] == ref
            assert json.loads(message)["key"] == key
            assert (hashlib.sha256(document).digest(), hashlib.sha256(message).digest()) == (sha256, sent)


class Quiet:
    """A process that says only how it keeps orders."""

    def __init__(self, level: str) -> None:
        self.level = level

    def hear(self) -> dict[str, object]:
        return {"port": 1, "synchronous": self.level, "journal_mode": "wal"}

    def kill(self) -> None:
        pass
