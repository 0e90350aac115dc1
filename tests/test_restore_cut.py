"""`gateway restore`, killed at each step: the old database or the new one is there afterwards, whole, never neither and never a mixture."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.errors import StoreError
from gateway.store.sqlite import SqliteStore, copies, exchange
from tests.store import conformance as suite
from tests.torture.traced import missing

ROOT = Path(__file__).parent.parent
OLD, COPIED = 10, 5
# Puts back argv[2] as argv[3], and is killed at the argv[1]-th call of Python's that changes a file; 0 for none.
PROGRAM = """
import os, signal, sys
from pathlib import Path
left = [int(sys.argv[1])]
def killing(real):
    def call(*arguments, **more):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call
from gateway.store.sqlite.copies import put_back
for name in ("open", "write", "fsync", "rename", "replace", "unlink", "link", "chmod", "chown"):
    setattr(os, name, killing(getattr(os, name)))
put_back(Path(sys.argv[2]), Path(sys.argv[3]), who="test", now_ms=1_800_000_000_000)
"""
CALLS = (
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "fsync",
    "fdatasync",
    "ftruncate",
    "sendfile",
    "copy_file_range",
    "pwrite64",
    "write",
)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A directory with ten events, killed with a log beside the file, and a copy of five of them."""
    live = tmp_path / "live"
    store = SqliteStore(live / "gateway.db", clock=SystemClock())
    await store.open()
    await store.register(["acme"])
    for n in range(OLD):
        if n == COPIED:
            copies.write_copy(live / "gateway.db", tmp_path / "copy.db", who="test", now_ms=1)
            await store.checkpoint()
        await suite.accept(store, suite.incoming(f"o{n}"))
    shutil.copytree(live, tmp_path / "data")
    await store.close()
    assert (tmp_path / "data" / "gateway.db-wal").stat().st_size, "a log that must not be replayed into another file"
    return tmp_path / "data"


def put_back(folder: Path, at: int = 0, *tracing: str) -> int:
    command = [*tracing, sys.executable, "-c", PROGRAM, str(at), str(folder.parent / "copy.db"), str(folder / "gateway.db")]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False).returncode


async def found(folder: Path) -> int:
    """How many events are there after a start, each of them whole; those of the copy are marked as put back."""
    store = SqliteStore(folder / "gateway.db", clock=SystemClock())
    await store.open()
    await store.close()
    with closing(sqlite3.connect(folder / "gateway.db")) as db:
        (events,) = db.execute("SELECT count(*) FROM inbox").fetchone()
        restores = db.execute("SELECT count(*) FROM restores").fetchone()[0]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert {ref for (ref,) in db.execute("SELECT order_ref FROM orders")} == {f"o{n}" for n in range(events)}
    assert (events, restores) in ((OLD, 0), (COPIED, 1)), "the old database or the new one"
    return int(events)


async def broken_off(data: Path, at: str, kill: Callable[[Path], int], after: Callable[[Path], Awaitable[int]] = found) -> int | None:
    """How many events are there after a kill; None where it came to its end before."""
    folder = data.with_name(f"cut{at}")
    shutil.copytree(data, folder)
    code = kill(folder)
    if code == 0:
        return None
    assert code in (-9, 137), code
    events = await after(folder)
    copies.put_back(folder.parent / "copy.db", folder / "gateway.db", who="test", now_ms=1_800_000_001_000)  # the same once more
    assert await found(folder) == COPIED
    aside = [file for file in folder.glob("gateway.db.before-*") if re.fullmatch(r"gateway\.db\.before-\d+", file.name)]
    assert aside, "what stood there is kept"
    shutil.rmtree(folder)
    return events


async def test_killed_at_each_call_of_ours_it_leaves_the_old_or_the_new(data: Path) -> None:
    counts = []
    for at in range(1, 200):
        events = await broken_off(data, str(at), lambda folder, at=at: put_back(folder, at))
        if events is None:
            break
        counts.append(events)
    assert counts == sorted(counts, reverse=True), "the old one up to some step, the new one from there on"
    assert set(counts) == {OLD, COPIED}
    assert len(counts) > 15


async def test_killed_at_each_system_call_it_leaves_the_old_or_the_new(data: Path, tmp_path: Path) -> None:
    if (why := missing()) is not None:
        pytest.skip(why)
    shutil.copytree(data, tmp_path / "counted")
    log, folder = tmp_path / "trace", tmp_path / "counted"
    seen = ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}")
    assert put_back(folder, 0, *seen) == 0
    lines = [found[1] for line in log.read_text().splitlines() if (found := re.match(r"\d+ +(\w+)\(", line))]
    totals = {call: lines.count(call) for call in CALLS if call in lines}
    assert totals["rename"] >= 4
    assert totals["fsync"] + totals.get("fdatasync", 0) >= 5
    states = set()
    for call, total in totals.items():
        step = 1 if call in ("rename", "unlink") else max(1, total // 4)
        for nth in range(1, total + 1, step):
            injected = (*seen, "-e", f"inject={call}:signal=SIGKILL:when={nth}")
            states.add(await broken_off(data, f"-{call}-{nth}", lambda folder, injected=injected: put_back(folder, 0, *injected)))
    assert {OLD, COPIED} <= states


class Cut(BaseException):
    pass


def cutting(real: Callable[..., object], left: list[int]) -> Callable[..., object]:
    """Raises in place of the n-th call."""

    def call(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise Cut
        return real(*arguments)

    return call


async def test_killed_again_while_a_start_finishes_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that goes on with it can be cut short as well."""

    def restore_cut(folder: Path) -> None:
        monkeypatch.setattr(exchange, "finish", cut)
        with pytest.raises(Cut):
            copies.put_back(folder.parent / "copy.db", folder / "gateway.db", who="test", now_ms=1_800_000_000_000)
        monkeypatch.undo()

    def cut(_: Path) -> None:
        if exchange.is_under_way(folder / "gateway.db"):
            raise Cut

    for at in range(1, 50):
        folder = data.with_name(f"again{at}")
        shutil.copytree(data, folder)
        restore_cut(folder)
        left = [at]
        for name in ("rename", "fsync", "unlink"):
            monkeypatch.setattr(os, name, cutting(getattr(os, name), left))
        try:
            exchange.finish(folder / "gateway.db")
            break
        except Cut:
            monkeypatch.undo()
        assert await found(folder) == COPIED
    assert at > 5


async def test_a_new_file_that_is_gone_is_said_and_another_copy_takes_its_place(data: Path) -> None:
    database = data / "gateway.db"
    exchange._write(data / "gateway.restoring", b'{"new":".gateway.db.part","aside":"gateway.db.before-1"}')
    database.rename(data / "gateway.db.before-1")
    with pytest.raises(StoreError, match=r"put a copy back with `gateway restore FILE`"):
        await found(data)
    assert put_back(data) == 0
    assert await found(data) == COPIED


async def test_without_an_intent_a_restore_loses_both(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad twin: moved aside one by one, with nothing that says so, a kill leaves no database."""

    def at_once(new: Path, database: Path, aside: Path) -> bool:
        for end in exchange.ENDS:
            if Path(f"{database}{end}").exists():
                os.rename(f"{database}{end}", f"{aside}{end}")
        raise KeyboardInterrupt

    monkeypatch.setattr(exchange, "exchange", at_once)
    with pytest.raises(KeyboardInterrupt):
        copies.put_back(data.parent / "copy.db", data / "gateway.db", who="test", now_ms=1)
    with pytest.raises(Exception, match="was in use before"):
        await found(data)
