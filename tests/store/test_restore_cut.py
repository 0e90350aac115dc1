"""`gateway restore`, killed at each step: the old database or the new one is there afterwards, whole, never neither and never a mixture."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.api.errors import StoreError
from gateway.store.sqlite import backup as copies
from gateway.store.sqlite import file_exchange
from tests.harness.torture.restores import COPIED, OLD, calls, cut_short, found, put_back, set_up, strace
from tests.harness.torture.traced import missing


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    return await set_up(tmp_path)


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.long)])
async def test_killed_at_each_call_of_ours_it_leaves_the_old_or_the_new(data: Path, step: int) -> None:
    counts = []
    for at in range(1, 200, step):
        folder = data.with_name(f"cut{at}")
        shutil.copytree(data, folder)
        if (code := put_back(folder, at)) == 0:
            break
        assert code == -9
        counts.append(await found(folder))
        copies.put_back(folder.parent / "copy.db", folder / "gateway.db", who="test", now_ms=1_800_000_001_000)  # the same once more
        assert await found(folder) == COPIED
        kept = [file for file in folder.glob("gateway.db.before-*") if re.fullmatch(r"gateway\.db\.before-\d+", file.name)]
        assert kept, "what stood there"
    assert counts == sorted(counts, reverse=True), "the old one up to some step, the new one from there on"
    assert set(counts) == {OLD, COPIED}
    assert len(counts) > 15 // step


@pytest.mark.parametrize("most", [1, pytest.param(200, marks=pytest.mark.long)])
async def test_killed_at_each_system_call_it_leaves_the_old_or_the_new(data: Path, most: int) -> None:
    """Each rename, and of the other calls the last, or so many."""
    if (why := missing()) is not None:
        pytest.skip(why)
    totals, problems = calls(data), []
    assert totals["rename"] >= 4
    assert totals["fsync"] + totals.get("fdatasync", 0) >= 5
    for call, total in totals.items():
        for nth in range(1, total + 1) if call == "rename" else range(total, max(0, total - most), -1):
            problems += await cut_short(data, f"{call}-{nth}", *strace(os.devnull, call, nth))
    assert problems == []


async def test_without_an_intent_a_restore_that_is_killed_loses_both(data: Path) -> None:
    """The known-bad mutant: the old files move away one by one, and nothing says so."""
    if (why := missing()) is not None:
        pytest.skip(why)
    problems = list[str]()
    for nth in range(1, 6):
        problems += await cut_short(data, f"t{nth}", *strace(os.devnull, "rename", nth), mutant="no_intent")
        if any("was in use before" in problem for problem in problems):
            return
    raise AssertionError(problems)


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

    def cut(database: Path) -> None:
        if file_exchange.is_under_way(database):
            raise Cut

    for at in range(1, 50):
        folder = data.with_name(f"again{at}")
        shutil.copytree(data, folder)
        monkeypatch.setattr(file_exchange, "finish", cut)
        with pytest.raises(Cut):
            copies.put_back(folder.parent / "copy.db", folder / "gateway.db", who="test", now_ms=1_800_000_000_000)
        monkeypatch.undo()
        left = [at]
        for name in ("rename", "fsync", "unlink"):
            monkeypatch.setattr(os, name, cutting(getattr(os, name), left))
        try:
            file_exchange.finish(folder / "gateway.db")
            break
        except Cut:
            monkeypatch.undo()
        assert await found(folder) == COPIED
    assert at > 5


async def test_a_new_file_that_is_gone_is_said_and_another_copy_takes_its_place(data: Path) -> None:
    database = data / "gateway.db"
    file_exchange._write(data / "gateway.restoring", b'{"new":".gateway.db.part","aside":"gateway.db.before-1"}')
    database.rename(data / "gateway.db.before-1")
    with pytest.raises(StoreError, match=r"put a copy back with `gateway restore FILE`"):
        await found(data)
    assert put_back(data) == 0
    assert await found(data) == COPIED
