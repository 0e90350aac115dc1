"""A start never begins with nothing where orders were: the directory says that it was in use, whatever is left of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.api.errors import ConfigError, StoreError
from gateway.clock import SystemClock
from gateway.store.sqlite import SqliteStore, new_store
from gateway.store.sqlite.reader import SqliteReader
from tests.store import conformance as suite

DATABASE = "gateway.db"


def store_in(folder: Path, reserve_bytes: int = 0) -> SqliteStore:
    return SqliteStore(folder / DATABASE, clock=SystemClock(), reserve_bytes=reserve_bytes)


@pytest.fixture
async def used(tmp_path: Path) -> Path:
    """A directory in which a gateway has worked and was killed: with its log beside the file."""
    store = store_in(tmp_path / "live", 4096)
    await store.open()
    await store.register(["acme"])
    await suite.accept(store, suite.incoming("o1"))
    shutil.copytree(tmp_path / "live", tmp_path / "used")
    await store.close()
    return tmp_path / "used"


def cut(database: Path) -> None:
    os.truncate(database, 0)


def emptied(database: Path) -> None:
    """What `sqlite3 gateway.db vacuum` makes of a missing file."""
    database.unlink()
    Path(f"{database}-wal").unlink()
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE t (n)")
        db.execute("DROP TABLE t")


@pytest.mark.parametrize("harm", [Path.unlink, cut, emptied])
async def test_a_lost_database_is_not_begun_anew(used: Path, harm: Callable[[Path], None]) -> None:
    harm(used / DATABASE)
    before = {file.name: file.read_bytes() for file in used.iterdir()}
    with pytest.raises(ConfigError) as refused:
        await store_in(used).open()
    assert "was in use before" in str(refused.value)
    after = {file.name: file.read_bytes() for file in used.iterdir()}
    assert {name: text for name, text in after.items() if name != f"{DATABASE}-shm"} == {
        name: text for name, text in before.items() if name != f"{DATABASE}-shm"
    }, "nothing is touched: the log may be all that is left"


@pytest.mark.parametrize(
    "left", ["gateway.lock", "gateway.reserve", "control.sock", f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}.before-1"]
)
async def test_one_file_of_ours_is_enough_to_know(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / left).write_bytes(b"")
    with pytest.raises(ConfigError) as refused:
        await store_in(folder).open()
    for said in ("was in use before", "gateway restore FILE", "gateway serve --new-store"):
        assert said in str(refused.value)
    with pytest.raises(StoreError, match="was in use before"):
        await SqliteReader(folder / DATABASE).open()


async def test_another_name_in_the_configuration_does_not_begin_anew(used: Path) -> None:
    """The same fault by another way: `store.url` is changed, and every order stays behind in the file that it named."""
    with pytest.raises(ConfigError, match=r"is missing.*gateway\.db"):
        await SqliteStore(used / "other.db", clock=SystemClock()).open()


@pytest.mark.parametrize("harm", [Path.unlink, cut])
async def test_a_person_may_begin_anew_and_nothing_is_deleted(used: Path, harm: Callable[[Path], None]) -> None:
    log = (used / f"{DATABASE}-wal").read_bytes()
    assert log
    harm(used / DATABASE)
    store = store_in(used)
    await store.open(new=True)
    assert await store.register(["acme"])
    await store.close()
    (aside,) = used.glob(f"{DATABASE}.lost-*-wal")
    assert aside.read_bytes() == log
    again = store_in(used)
    await again.open()
    await again.close()


async def test_a_database_with_something_in_it_is_not_set_aside(used: Path) -> None:
    with pytest.raises(ConfigError, match="is there and not empty"):
        await store_in(used).open(new=True)
    store = store_in(used)
    await store.open()
    assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o1"]
    await store.close()


# --- a first start that is cut short


class Cut(BaseException):
    pass


def steps(folder: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[None]:
    """Raise at the n-th call that changes a file."""
    left = [at]
    for name in ("open", "fsync", "unlink", "rename", "mkdir"):
        real = getattr(os, name)

        def call(*arguments: object, _real: Callable[..., object] = real, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Cut
            return _real(*arguments, **more)

        monkeypatch.setattr(os, name, call)
    yield
    monkeypatch.undo()


async def test_a_first_start_that_is_cut_short_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(1, 100):
        folder = tmp_path / str(at)
        trying = steps(folder, monkeypatch, at)
        next(trying)
        store, ended = store_in(folder), True
        try:
            await store.open()
        except Cut:
            ended = False
        next(trying, None)
        if ended:
            await store.close()
        again = store_in(folder)
        await again.open()
        assert not new_store.is_beginning(folder / DATABASE)
        await again.close()
        if ended:
            break
    assert at > 6


async def test_without_its_note_a_first_start_that_is_cut_short_would_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad mutant: the lock alone looks like a directory that was in use."""
    monkeypatch.setattr(new_store, "_say", lambda folder: None)
    with pytest.raises(ConfigError, match="was in use before"):
        await store_in(tmp_path / "data").open()
