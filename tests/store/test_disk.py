"""A disk that is full, fails, or is no longer writable: what is promised then. On a real small file system (needs root)."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import StoreBusy, StoreFailed
from gateway.clock import SystemClock
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.connection import sqlite3_connect
from gateway.testing import ErpSimulator, ManualClock
from tests import acme
from tests.harness.torture.disks import Small, missing, refusal
from tests.store import conformance as suite

MiB = 1024 * 1024
QUICK = "retry = { base_s = 0.1, cap_s = 1 }\nbreaker = { failures = 100000 }"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip() or 'needs root'}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


def fill(disk: Path, leave_bytes: int) -> Path:
    """Take the space away; somebody else may be taking some at the same moment."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave_bytes) > 0:
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + free)
    return ballast


async def test_a_full_disk_refuses_new_orders_and_lets_stored_ones_leave(start: Any, erp: ErpSimulator, small_disk: Path) -> None:
    running = await start(erp.url, target=QUICK, store="reserve_bytes = 2097152", data_dir="disk")
    erp.arm("status", times=10_000)
    for n in range(50):
        assert (await running.deliver(acme.body(f"o{n}")))[0] == 200
    ballast = fill(small_disk, 0)
    taken = [f"o{n}" for n in range(50)]
    for n in range(1000, 4000):  # until the space that SQLite already has is used up, or the watch on the disk says no
        status, _ = await running.deliver(acme.body(f"o{n}"))
        if status != 200:
            break
        taken.append(f"o{n}")
    async with running.session.post(
        f"{running.vendors_url}/in/acme",
        data=acme.body("late"),
        headers={"X-Acme-Signature": acme.sign("constructed-secret-do-not-use", acme.body("late"))},
    ) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await running.get("/readyz"))[0] == 503
    erp.disarm()
    running.gateway._runtime.deliver["erp"].release()
    await erp.wait_for(len(taken), 30)
    assert {key.split("/")[1] for key in erp.orders} == set(taken)
    ballast.unlink()
    await running.until(lambda: takes(running))
    await erp.wait_for(len(taken) + 1)
    assert (await running.get("/readyz"))[0] == 200


async def takes(running: Any) -> bool:
    return bool((await running.deliver(acme.body("after")))[0] == 200)


async def test_the_reserve_is_used_once_and_put_back(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "gateway.db", clock=SystemClock(), reserve_bytes=4 * MiB)
    await store.open()
    await store.register(["acme"])
    reserve = small_disk / "gateway.reserve"
    assert reserve.stat().st_size == 4 * MiB
    ballast = fill(small_disk, 0)
    with pytest.raises(StoreBusy):
        for n in range(2000):
            await suite.accept(store, suite.incoming(f"o{n}"))
    assert not reserve.exists()
    assert store.refusing
    rows = await store.lease_inbox("acme", 1)  # what is stored can still be worked off
    await store.prepared([suite.message(row, "erp") for row in rows])
    ballast.unlink()
    store.look_at_disk()
    assert store.refusing is None
    assert reserve.stat().st_size == 4 * MiB
    await suite.accept(store, suite.incoming("after"))
    await store.close()


async def test_a_nearly_full_disk_is_refused_in_time(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "gateway.db", clock=SystemClock())
    await store.open()
    await store.register(["acme"])
    fill(small_disk, 512 * 1024)
    store.look_at_disk()
    with pytest.raises(StoreBusy, match="nearly full"):
        await suite.accept(store, suite.incoming("o1"))
    await store.close()


class Failing:
    """A connection whose commits fail as a broken disk makes them fail."""

    def __init__(self, path: Path, name: str) -> None:
        self._db = sqlite3_connect(path)
        self.name = name
        self.broken = False

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._db, attribute)

    def execute(self, sql: str, *parameters: Any) -> Any:
        if self.broken and sql.startswith(("COMMIT", "PRAGMA wal_checkpoint")):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = self.name
            raise error
        return self._db.execute(sql, *parameters)


@pytest.mark.parametrize("name", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT", "SQLITE_READONLY", "SQLITE_NOTADB"])
async def test_a_broken_disk_ends_the_store_at_once(tmp_path: Path, name: str) -> None:
    told: list[StoreFailed] = []
    connections: list[Failing] = []

    def connect(path: Path) -> Any:
        connections.append(Failing(path, name))
        return connections[0]

    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock(), connect=connect, on_failed=told.append)
    await store.open()
    await suite.accept(store, suite.incoming("o1"))
    connections[0].broken = True
    outcomes = await asyncio.gather(*(suite.accept(store, suite.incoming(f"p{n}")) for n in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, StoreFailed) for outcome in outcomes)
    connections[0].broken = False
    with pytest.raises(StoreFailed):  # it is not tried again: after a failed fsync the kernel calls the page clean
        await suite.accept(store, suite.incoming("o2"))
    await asyncio.sleep(0)
    assert len(told) == 1
    await store.close()


async def test_a_sync_that_was_under_way_while_ext4_gave_up_is_not_believed(tmp_path: Path) -> None:
    """It answers 0 and keeps nothing, once in ten times; here ext4 gives up right after each sync, which looks the same."""
    disk = Small(tmp_path, "ext4")
    if reason := missing("mount", "mkfs.ext4") or refusal(disk):
        pytest.skip(reason)

    class GivesUp(Failing):
        def execute(self, sql: str, *parameters: Any) -> Any:
            result = self._db.execute(sql, *parameters)
            if self.broken and sql == "COMMIT":
                disk.break_("read-only")
            return result

    connections: list[GivesUp] = []

    def connect(path: Path) -> Any:
        connections.append(GivesUp(path, ""))
        return connections[0]

    disk.plug_in()
    try:
        store = SqliteStore(disk.path / "gateway.db", clock=SystemClock(), connect=connect)
        await store.open()
        await suite.accept(store, suite.incoming("o1"))
        connections[0].broken = True
        with pytest.raises(StoreFailed, match="given up"):
            await suite.accept(store, suite.incoming("o2"))
        await store.close()
    finally:
        disk.unplug()


@pytest.mark.parametrize(("number", "ends"), [(errno.EROFS, True), (errno.EIO, True), (errno.ENOSPC, False), (errno.EOPNOTSUPP, False)])
async def test_after_a_commit_the_file_system_is_asked_before_anybody_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends: bool
) -> None:
    """An answer that says nothing of the sync leaves it believed."""
    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock())
    await store.open()

    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    outcome = (await asyncio.gather(suite.accept(store, suite.incoming("o1")), return_exceptions=True))[0]
    monkeypatch.undo()
    assert isinstance(outcome, StoreFailed) if ends else outcome == [("o1", "stored")]
    await store.close()


async def test_a_disk_that_stays_full_when_the_reserve_is_gone_refuses_and_takes_again(tmp_path: Path) -> None:
    """Somebody else takes the room that the reserve gave back: the checkpoint fails too."""
    connections: list[Failing] = []

    def connect(path: Path) -> Any:
        connections.append(Failing(path, "SQLITE_FULL"))
        return connections[0]

    store = SqliteStore(tmp_path / "gateway.db", clock=SystemClock(), connect=connect, reserve_bytes=4096)
    await store.open()
    connections[0].broken = True
    for n in range(3):
        async with asyncio.timeout(10):
            with pytest.raises(StoreBusy, match="the disk is full"):
                await suite.accept(store, suite.incoming(f"o{n}"))
    connections[0].broken = False
    store.look_at_disk()
    assert store.refusing is None
    assert (tmp_path / "gateway.reserve").exists()
    assert await suite.accept(store, suite.incoming("o1")) == [("o1", "stored")]
    await store.close()


async def test_a_start_on_a_full_disk_uses_the_reserve(tmp_path: Path, clock: ManualClock) -> None:
    """What is stored goes on leaving, also where the machine was started again meanwhile."""
    reserve = tmp_path / "gateway.reserve"

    class Full(Failing):
        @property
        def broken(self) -> bool:
            return reserve.exists()

        @broken.setter
        def broken(self, _: bool) -> None: ...

    first = SqliteStore(tmp_path / "gateway.db", clock=clock, reserve_bytes=4096)
    await first.open()
    await first.register(["acme"])
    await suite.accept(first, suite.incoming("o1"))
    await first.close()
    assert reserve.exists()
    store = SqliteStore(tmp_path / "gateway.db", clock=clock, connect=lambda path: Full(path, "SQLITE_FULL"))
    store._reserve = first._reserve
    await store.open()
    assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o1"]
    await store.close()


async def test_a_full_disk_that_refuses_a_checkpoint_does_not_end_the_process(
    start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()

    async def full(*_: Any, **__: Any) -> int:
        refused.set()
        raise StoreBusy("the disk is full")

    running = await start(erp.url)
    monkeypatch.setattr(running.gateway._store, "checkpoint", full)
    async with asyncio.timeout(10):
        await refused.wait()
        refused.clear()
        await refused.wait()  # upkeep has gone round once more
    assert (await running.deliver(acme.body("o1")))[0] == 200
    await erp.wait_for(1)
    assert not running.task.done()


async def test_what_an_unclean_end_left_in_the_log_is_written_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sync that failed, the kernel shows what is not on the disk; tests/powercut has what becomes of trusting it."""
    first = SqliteStore(tmp_path / "gateway.db", clock=SystemClock())
    await first.open()
    await suite.accept(first, suite.incoming("o1"))
    left = tmp_path / "left"
    left.mkdir()
    for name in ("gateway.db", "gateway.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    await first.close()
    found = (left / "gateway.db-wal").read_bytes()
    done: list[object] = []
    write, sync, really_connect = os.pwrite, os.fsync, sqlite3.connect

    def connect(path: Path) -> Any:
        done.append("connect")
        return really_connect(path, isolation_level=None)

    monkeypatch.setattr(os, "pwrite", lambda file, data, at: done.append((at, data)) or write(file, data, at))
    monkeypatch.setattr(os, "fsync", lambda file: done.append("sync") or sync(file))
    monkeypatch.setattr(sqlite3, "connect", lambda path, **_: connect(path))
    store = SqliteStore(left / "gateway.db", clock=SystemClock())
    await store.open()
    monkeypatch.undo()
    assert done == [(0, found), "sync", "connect"]
    assert await suite.accept(store, suite.incoming("o1")) == [("o1", "repeat")]
    await store.close()


async def test_a_broken_disk_ends_the_process_with_an_error(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url)
    store = running.gateway._store

    def fail(db: Any) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    with pytest.raises(StoreFailed):
        await store._run(fail)
    assert await asyncio.wait_for(running.task, 20) == 1
