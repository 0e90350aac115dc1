"""Over what the process ended: noted before, learned at the next start, given up after three times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.api.errors import TransientError
from gateway.plugin.crash_record import MAX_CRASHES, CrashRecord

CHILD = """
import os, sys
from pathlib import Path
from gateway.plugin.crash_record import CrashRecord
folder, *calls = sys.argv[1:]
crash_record = CrashRecord()
crash_record.open(Path(folder), make=True)
for call in calls:
    source, hook, about, then = call.split(",")
    try:
        before = crash_record.enter(source, hook, subject=about)
    except Exception as error:
        print(error)
        continue
    if then == "ends":
        os._exit(3)
    crash_record.leave(before)
crash_record.close()
"""


def run(folder: Path, *calls: str) -> tuple[int, str]:
    """A process that makes these calls; `ends`: the process ends inside."""
    ended = subprocess.run([sys.executable, "-c", CHILD, str(folder), *calls], capture_output=True, text=True, check=False, timeout=60)
    assert not ended.stderr
    return ended.returncode, ended.stdout


def known(folder: Path) -> CrashRecord:
    crash_record = CrashRecord()
    crash_record.open(folder, make=True)
    return crash_record


def down(folder: Path, source: str) -> str | None:
    crash_record = known(folder)
    try:
        return crash_record.down(source)
    finally:
        crash_record.close()


def test_threads_that_ended_leave_their_places_to_others() -> None:
    crash_record, there = CrashRecord(), threading.Barrier(41)

    def step() -> None:
        crash_record.leave(crash_record.enter("shop", "ingest"))
        there.wait(timeout=10)

    for _ in range(5):
        threads = [threading.Thread(target=step) for _ in range(40)]
        for thread in threads:
            thread.start()
        there.wait(timeout=10)
        assert len({crash_record._slots[thread.ident] for thread in threads if thread.ident}) == 40
        for thread in threads:
            thread.join()
    before = crash_record.enter("shop", "poll")
    assert before is None
    assert crash_record._slots[threading.get_ident()] < 41


def test_a_thing_over_which_the_process_ended_three_times_is_refused_and_others_are_not(tmp_path: Path) -> None:
    for _ in range(MAX_CRASHES):
        assert run(tmp_path, "bad,ingest,thing,ends") == (3, "")
    code, said = run(tmp_path, "bad,ingest,thing,ends", "bad,ingest,other,", "good,ingest,thing,")
    assert code == 0
    assert said.strip() == (
        "ingest is no longer called with this: it ended the process 3 times, or never returned; "
        "repair the plugin, then run `gateway resume bad`"
    )


def test_what_goes_well_in_between_does_not_hide_the_one_thing(tmp_path: Path) -> None:
    for _ in range(MAX_CRASHES):
        assert run(tmp_path, "bad,ingest,other,", "bad,ingest,thing,ends")[0] == 3
    assert run(tmp_path, "bad,ingest,thing,ends")[0] == 0
    assert down(tmp_path, "bad") is None


def test_three_ends_in_a_row_over_different_things_take_the_source_down(tmp_path: Path) -> None:
    for n in range(MAX_CRASHES):
        assert down(tmp_path, "bad") is None
        assert run(tmp_path, f"bad,ingest,{n},ends")[0] == 3
    assert down(tmp_path, "bad") == "its ingest ended the process 3 times in a row; repair the plugin, then reload"
    assert down(tmp_path, "good") is None


def test_three_ends_over_one_thing_alone_leave_the_source_up(tmp_path: Path) -> None:
    for _ in range(MAX_CRASHES):
        run(tmp_path, "bad,ingest,thing,ends")
    assert down(tmp_path, "bad") is None


@pytest.mark.parametrize("hook", ["poll", "import", "describe"])
def test_three_ends_over_nothing_that_has_a_name_take_the_source_down_unless_it_came_back(tmp_path: Path, hook: str) -> None:
    for then in ("ends", "ends", "", "ends", "ends"):
        run(tmp_path, f"bad,{hook},,{then}")
    assert down(tmp_path, "bad") is None
    run(tmp_path, f"bad,{hook},,ends")
    assert hook in (down(tmp_path, "bad") or "")


def test_who_says_that_it_is_mended_lets_it_be_tried_again(tmp_path: Path) -> None:
    for _ in range(MAX_CRASHES):
        run(tmp_path, "bad,poll,,ends")
        run(tmp_path, "worse,ingest,thing,ends")
    crash_record = known(tmp_path)
    crash_record.reset("bad")
    with pytest.raises(TransientError, match="ended the process 3 times"):
        crash_record.enter("worse", "ingest", subject="thing", otherwise=TransientError)
    crash_record.close()
    assert down(tmp_path, "bad") is None
    crash_record = known(tmp_path)
    crash_record.reset()
    crash_record.enter("worse", "ingest", subject="thing")
    crash_record.close()


def test_an_end_in_order_is_nobodys_fault(tmp_path: Path) -> None:
    for _ in range(MAX_CRASHES):
        crash_record = known(tmp_path)
        crash_record.enter("slow", "poll")
        crash_record.close()
    assert down(tmp_path, "slow") is None


def test_the_notes_of_a_gateway_that_runs_are_left_alone(tmp_path: Path) -> None:
    first = known(tmp_path)
    before = first.enter("slow", "poll")
    second = known(tmp_path)
    second.leave(second.enter("b", "poll"))
    second.close()
    assert not (tmp_path / "hooks.json").exists()
    assert (tmp_path / "hooks").read_bytes().startswith(b"slow\npoll\n")
    first.leave(before)
    first.close()


def test_steps_may_stand_in_each_other(tmp_path: Path) -> None:
    crash_record = known(tmp_path)
    outer = crash_record.enter("a", "poll")
    inner = crash_record.enter("a", "describe")
    crash_record.leave(inner)
    assert [step.hook for step in crash_record.steps if step] == ["poll"]
    crash_record.leave(outer)
    assert not any(crash_record.steps)
    crash_record.close()


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b'{"over": 1}', b"\xff" * 100])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "hooks.json").write_bytes(written)
    (tmp_path / "hooks").write_bytes(b"bad\npoll\n\0" + os.urandom(300))
    assert down(tmp_path, "bad") is None
    assert json.loads((tmp_path / "hooks.json").read_bytes())["row"][0] == ["bad", "poll", ""]


def test_nothing_of_a_document_is_in_the_notes(tmp_path: Path) -> None:
    crash_record = known(tmp_path)
    crash_record.enter("a", "ingest", b"Jane Doe")
    assert b"Jane" not in (tmp_path / "hooks").read_bytes()
    crash_record.close()


def test_without_a_data_directory_nothing_is_noted_and_nothing_fails(tmp_path: Path) -> None:
    crash_record = CrashRecord()
    crash_record.open(tmp_path / "missing", make=True)
    crash_record.leave(crash_record.enter("a", "ingest", b"x"))
    crash_record.close()


def test_noting_costs_microseconds(tmp_path: Path) -> None:
    crash_record, body = known(tmp_path), b"x" * 2000
    began = time.perf_counter()
    for _ in range(2000):
        crash_record.leave(crash_record.enter("a", "ingest", body))
    assert time.perf_counter() - began < 1.0  # 500 us each would be a disk that is asked; 10 us are usual
    crash_record.close()


def test_a_plugin_whose_import_ends_the_process_is_left_alone_after_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "zz_ends-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zz-ends\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gateway.connectors]\nzz_ends = zz_ends\n")
    (tmp_path / "zz_ends.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "gateway.toml").write_text(
        '[gateway]\ndata_dir = "data"\n[targets.erp]\nurl = "http://127.0.0.1:9/"\n[sources.shop]\nconnector = "zz_ends"\n'
    )
    known(tmp_path / "data").close()
    script = (
        "import sys; from pathlib import Path; from gateway.service.assembly import assemble\n"
        "from gateway.plugin.crash_record import CrashRecord\n"
        "print(assemble(Path(sys.argv[1]), crash_record=CrashRecord()).broken['shop'].reason)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "gateway.toml")]
    codes = []
    for _ in range(MAX_CRASHES + 1):
        ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
        codes.append(ended.returncode)
    assert codes == [3, 3, 3, 0]
    assert "its import ended the process 3 times in a row" in ended.stdout
