"""`gateway backup` and `gateway restore`: a copy made under way is whole, and an old one that is put back sends nothing twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api.errors import StoreError
from gateway.store.sqlite import backup as copies
from gateway.testing import ErpSimulator
from tests import acme
from tests.engine.unkeyed import LOOKUP

from .test_commands import Run, run

__all__ = ["run"]


def lookup(erp: ErpSimulator) -> str:
    """A target that looks an order up; its request has to be the first table, since what follows stands in a table of its own."""
    return LOOKUP.replace("URL", erp.url).replace("[preflight]", "[targets.erp.preflight]").replace("[capture]", "[targets.erp.capture]")


@pytest.fixture
async def plain_erp() -> Any:
    """An ERP that makes an order of every request."""
    made = ErpSimulator(honours_key=False)
    await made.start()
    yield made
    await made.stop()


# --- copies


async def test_a_copy_made_while_orders_come_in_is_whole(start, erp, run: Run, tmp_path: Path) -> None:
    running = await start(erp.url)
    answered: list[str] = []
    ending = asyncio.Event()

    async def sender() -> None:
        while not ending.is_set():
            ref = f"o{len(answered)}"
            assert (await running.deliver(acme.body(ref)))[0] == 200
            answered.append(ref)

    sending = asyncio.create_task(sender())
    while len(answered) < 20:
        await asyncio.sleep(0)
    before = list(answered)
    made = await run("backup", "--json", str(tmp_path / "copy.db"))
    ending.set()
    await sending
    assert made.code == 0, made.err
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        there = {ref for (ref,) in copy.execute("SELECT order_ref FROM orders")}
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert set(before) <= there <= set(answered) | {f"o{len(answered)}"}
    assert made.json["events"] == len(there)
    assert made.json["copied_at"] is not None
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


async def test_a_folder_gets_copies_by_their_time_and_keeps_the_newest(start, erp, run: Run, tmp_path: Path) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("gateway-20200101T000000Z.db", "gateway-20210101T000000Z.db", "somebody-elses.db"):
        (folder / name).write_bytes(b"")
    made = await run("backup", "--keep", "2", str(folder))
    assert (made.code, "1 older copies removed" in made.out) == (0, True), made
    names = sorted(file.name for file in folder.iterdir())
    assert names[0] == "gateway-20210101T000000Z.db"
    assert (len(names), names[-1]) == (3, "somebody-elses.db")


async def test_a_copy_replaces_nothing_and_leaves_no_half_of_one(start, erp, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    there = tmp_path / "there.db"
    there.write_text("a year's work")
    refused = await run("backup", str(there))
    assert (refused.code, "exists already" in refused.err, there.read_text()) == (1, True, "a year's work")
    missing = await run("backup", str(tmp_path / "nowhere" / "copy.db"))
    assert (missing.code, "no copy was made" in missing.err) == (1, True)
    assert (await run("backup", "--keep", "2", str(tmp_path / "copy.db"))).code == 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    full = await run("backup", str(tmp_path / "copy.db"))
    assert (full.code, "MiB are needed, 0 MiB are free" in full.err) == (1, True), full
    assert not [file.name for file in tmp_path.iterdir() if "copy" in file.name]


async def test_copies_of_a_clock_that_was_ahead_push_out_no_new_one(start, erp, run: Run, tmp_path: Path) -> None:
    await start(erp.url)
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("gateway-20990101T000000Z.db", "gateway-20990102T000000Z.db", "gateway-20200101T000000Z.db"):
        (folder / name).write_text("")
    assert (await run("backup", "--keep", "2", str(folder))).code == 0
    kept = sorted(file.name for file in folder.iterdir())
    assert [name[:12] for name in kept] == ["gateway-2020", f"gateway-{datetime.now(UTC):%Y}"]


@pytest.mark.parametrize("damage", ["flipped body", "torn page", "foreign", "newer", "text"])
async def test_a_copy_that_is_not_what_it_should_be_is_named_and_not_put_back(start, erp, run: Run, tmp_path: Path, damage: str) -> None:
    running = await start(erp.url)
    for n in range(40):
        await running.deliver(acme.body(f"o{n}"))
    copy = tmp_path / "copy.db"
    assert (await run("backup", str(copy))).code == 0
    await running.stop()
    with sqlite3.connect(copy) as db:
        statement = {
            "flipped body": "UPDATE inbox SET document = x'00' WHERE id = 7",
            "foreign": "PRAGMA application_id=7",
            "newer": "PRAGMA user_version=99",
        }.get(damage)
        if statement:
            db.execute(statement)
    if damage == "torn page":
        with copy.open("r+b") as file:
            file.seek(3 * 4096)
            file.write(os.urandom(8192))
    if damage == "text":
        copy.write_text("a file of something else" * 1000)
    before = (tmp_path / "data" / "gateway.db").read_bytes()
    refused = await run("restore", str(copy))
    said = {"flipped body": "document of inbox:7", "foreign": "no copy of a gateway", "newer": "newer gateway"}.get(damage, str(copy))
    assert refused.code == 1
    assert said in refused.err
    assert (tmp_path / "data" / "gateway.db").read_bytes() == before


async def test_a_copy_that_does_not_verify_is_not_kept(start, erp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad mutant of verifying: where a bit flips on the way, there is no copy."""
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    real = copies.verify

    def flips(part: Path) -> copies.Contents:
        with sqlite3.connect(part) as db:
            db.execute("UPDATE inbox SET document = x'00'")
        return real(part)

    monkeypatch.setattr(copies, "verify", flips)
    with pytest.raises(StoreError, match="differs from the SHA-256"):
        copies.write_copy(tmp_path / "data" / "gateway.db", tmp_path / "copy.db", who="test", now_ms=1)
    assert not list(tmp_path.glob("*copy*"))


# --- putting one back


async def test_a_running_gateway_keeps_its_database(start, erp, run: Run, tmp_path: Path) -> None:
    await start(erp.url)
    assert (await run("backup", str(tmp_path / "copy.db"))).code == 0
    refused = await run("restore", str(tmp_path / "copy.db"))
    assert (refused.code, "stop it first" in refused.err) == (1, True)
    assert (await run("restore")).code == 2
    assert (await run("restore", "--finish", str(tmp_path / "copy.db"))).code == 2


async def later(start: Any, run: Run, tmp_path: Path, url: str, **parts: str) -> Any:
    """Copied with `waits` still to deliver; then that and `after` are delivered, the copy is put back, and all is sent anew."""
    running = await start(url, **parts)
    await running.gateway._operations(SimpleNamespace(action="target-hold", name="erp", who="test", reason=""))
    await running.deliver(acme.body("waits"))
    await running.until(lambda: has(running, "outbox", "ready"))
    assert (await run("backup", str(tmp_path / "copy.db"))).code == 0
    await running.gateway._operations(SimpleNamespace(action="target-release", name="erp", who="test", reason=""))
    await running.deliver(acme.body("after"))
    await running.until(lambda: has(running, "outbox", "done", 2))
    await running.stop()
    put = await run("restore", str(tmp_path / "copy.db"))
    assert put.code == 0, put.err
    assert "1 open deliveries" in put.out
    running = await start(url, **parts)
    await running.gateway._operations(SimpleNamespace(action="target-release", name="erp", who="test", reason=""))  # as the copy had it
    await running.deliver(acme.body("after"))  # the vendor sends again what it was not told of, or a poll brings it
    return running


async def has(running: Any, queue: str, status: str, count: int = 1) -> bool:
    return len(await running.rows(queue, status=status)) == count


async def test_an_old_copy_sends_nothing_twice_where_the_erp_can_be_asked(start, plain_erp, run: Run, tmp_path: Path) -> None:
    running = await later(start, run, tmp_path, plain_erp.url, target=lookup(plain_erp))
    await running.until(lambda: has(running, "outbox", "done", 2))
    assert sorted(row["outcome"] for row in await running.rows("outbox")) == ["duplicate", "duplicate"]
    assert len(plain_erp.made) == 2, "waits and after, each once"


async def test_an_old_copy_holds_what_nobody_can_look_up(start, erp, run: Run, tmp_path: Path) -> None:
    running = await later(start, run, tmp_path, erp.url)
    await running.until(lambda: has(running, "outbox", "held", 2))
    assert len(erp.heard) == 2, "both from before the copy was put back"
    assert "may have been delivered" in (await running.rows("outbox"))[0]["reason"]
    said = await run("status")
    assert "RESTORED at " in said.out
    assert "Restored 20" in (await running.get("/"))[1]
    released = await run("release", "acme/after/1")
    assert released.code == 0, released.err
    await running.until(lambda: has(running, "outbox", "done", 1))
    assert [heard.key for heard in erp.heard].count("acme/after/1") == 2, "a person said so"


async def test_when_the_gap_is_closed_orders_go_as_ever(start, erp, run: Run, tmp_path: Path) -> None:
    running = await later(start, run, tmp_path, erp.url)
    await running.until(lambda: has(running, "outbox", "held", 2))
    assert (await run("restore", "--finish")).out.startswith("finished")
    assert (await run("restore", "--finish")).out.startswith("nothing")
    await running.deliver(acme.body("new"))
    await running.until(lambda: has(running, "outbox", "done", 1))
    assert "RESTORED" not in (await run("status")).out


async def test_what_stood_there_is_kept_beside_it(start, erp, run: Run, tmp_path: Path) -> None:
    running = await start(erp.url)
    assert (await run("backup", str(tmp_path / "copy.db"))).code == 0
    await running.deliver(acme.body("o1"))
    await running.stop()
    put = await run("restore", "--json", str(tmp_path / "copy.db"))
    assert put.json["events"] == 0
    (aside,) = (tmp_path / "data").glob("gateway.db.before-*[0-9]")
    with sqlite3.connect(aside) as db:
        assert db.execute("SELECT order_ref FROM orders").fetchall() == [("o1",)]


async def test_without_the_marking_an_old_copy_sends_twice(start, plain_erp, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    """The known-bad mutant: the same run with the copy put back as it is, against an ERP that is not asked first."""
    monkeypatch.setattr(copies, "_PERHAPS_SENT", "UPDATE outbox SET id = id WHERE ? < 0")
    running = await later(start, run, tmp_path, plain_erp.url)
    await running.until(lambda: has(running, "outbox", "done", 1))
    assert len(plain_erp.made) == 3


async def test_a_copy_gives_up_before_the_log_grows_too_long(start, erp, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    """What is read for long keeps the log from being emptied; a copy under heavy traffic is tried again at another hour."""
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    monkeypatch.setattr(copies, "_LOOK_EVERY", 10)
    monkeypatch.setattr(copies, "_LONGEST_LOG_BYTES", 0)
    sizes = iter((0, *[1] * 1000))
    monkeypatch.setattr(copies, "_log_bytes", lambda _: next(sizes))
    refused = await run("backup", str(tmp_path / "copy.db"))
    assert (refused.code, "orders come in too fast" in refused.err) == (1, True), refused
    assert not list(tmp_path.glob("*copy*"))


async def test_a_foreign_reader_that_keeps_the_log_is_named(start, erp, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.service.maintenance.WAL_LIMIT_BYTES", 4096)
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    reader = sqlite3.connect(f"file:{tmp_path / 'data' / 'gateway.db'}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM orders").fetchone()
    try:
        for n in range(5):
            await running.deliver(acme.body(f"more-{n}"))
        await running.until(lambda: is_named(run))
    finally:
        reader.close()
    await running.until(lambda: is_over(running))


async def is_named(run: Run) -> bool:
    return "another program keeps the database open for reading" in (await run("status")).out


async def is_over(running: Any) -> bool:
    return (await running.get("/readyz"))[0] == 200
