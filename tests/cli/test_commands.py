"""The command line beside a running gateway and without one: what it prints, how it ends, and that it never shows a traceback."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec import Struct

from gateway import AuthError, Hold, PermanentError
from gateway.cli import main as cli
from gateway.cli import running_gateway
from gateway.service import operations
from gateway.targets.classify import Outcome
from gateway.testing import ErpSimulator
from tests import acme


class Result(Struct):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """The rows of a table, without its heads."""
        return self.out.splitlines()[1:]


Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`await run("status", "--json")`: the command as `gateway` would run it, in a thread of this process."""
    site = tmp_path / "site"
    info = site / "order_gateway_acme-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: order-gateway-acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gateway.connectors]\nacme = tests.acme\n")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()

    async def call(command: str, *arguments: str, config: Path | None = None) -> Result:
        def work() -> int:
            try:
                return cli.main([command, "--config", str(config or tmp_path / "gateway.toml"), *arguments])
            except SystemExit as end:
                return int(end.code or 0)

        capsys.readouterr()
        code = await asyncio.to_thread(work)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "Traceback" not in out or command == "plugins"
        return Result(code, out, err)

    return call


async def has(running: Any, queue: str, status: str, count: int = 1) -> bool:
    return len(await running.rows(queue, status=status)) == count


async def with_rows(start: Any, erp: ErpSimulator) -> Any:
    """One order delivered, one refused by the ERP, one held revision, one unreadable."""
    running = await start(erp.url)
    await running.deliver(acme.body("good"))
    await erp.wait_for(1)
    erp.arm("status", status=422, body='{"error": "no \x1b[2Jcredit"}')
    await running.deliver(acme.body("refused"))
    await running.until(lambda: has(running, "outbox", "dead"))
    await running.deliver(acme.body("good", qty=2))
    await running.until(lambda: has(running, "inbox", "held"))
    await running.deliver(b'{"id": 7, "\x1b]0;owned\x07": 1}')
    await running.until(lambda: has(running, "outbox", "done"))
    return running


# --- status and sources


async def test_status_says_how_things_are(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    said = await run("status")
    assert (said.code, said.err) == (0, "")
    assert re.match(r"running since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", said.out)
    assert re.search(r"^acme +webhook up  poll up", said.out, re.MULTILINE)
    assert re.search(r"^erp +up +-$", said.out, re.MULTILINE)
    assert re.search(r"^queue +ready +leased +unknown +held +dead +done$", said.out, re.MULTILINE)
    assert re.search(r"^inbox +0 +0 +- +1 +1 +2$", said.out, re.MULTILINE)
    assert re.search(r"^outbox +0 +0 +0 +0 +1 +1$", said.out, re.MULTILINE)


async def test_status_as_json_is_what_the_contract_says(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    await running.gateway._store.note_last_messages()
    said = (await run("status", "--json")).json
    assert said["sources"]["acme"]["doors"] == {"webhook": "up", "poll": "up"}
    assert said["sources"]["acme"]["last_message_at"].endswith("Z")
    assert said["inbox"] == {"ready": 0, "leased": 0, "done": 2, "held": 1, "dead": 1}
    assert said["outbox"] == {"ready": 0, "leased": 0, "done": 1, "held": 0, "dead": 1, "unknown": 0}


async def test_status_without_a_gateway_reads_the_store(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    await running.stop()
    said = await run("status")
    assert said.code == 0
    assert said.out.startswith("not running\n")
    assert re.search(r"^acme +webhook off  poll off", said.out, re.MULTILINE)
    as_json = (await run("status", "--json")).json
    assert (as_json["running"], as_json["inbox"]["held"], as_json["targets"]["erp"]["state"]) == (False, 1, "off")


async def test_status_names_everything_that_is_down(start, erp, run: Run) -> None:
    running = await start(erp.url)

    async def refused(**_: Any) -> Any:
        raise AuthError("the vendor answers 401")

    acme.faults["poll"] = refused
    running.gateway._runtime.resume("acme")
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason="the target answers 403"), 0, 0.0)
    running.gateway._store.look_at_disk = lambda: None
    running.gateway._store.refusing = "the disk is nearly full"
    await running.until(lambda: reasons(running, 3))
    said = await run("status")
    assert said.code == 1
    assert "DOWN store: refuses new orders: the disk is nearly full" in said.out.splitlines()
    for line in ("acme poll: the vendor answers 401", "target erp: the target answers 403"):
        assert re.search(rf"^DOWN {line} \(tried again \d{{4}}-\S+Z\)$", said.out, re.MULTILINE)
    assert len((await run("status", "--json")).json["reasons"]) == 3


async def reasons(running: Any, count: int) -> bool:
    return len((await running.get("/api/status"))[1]["reasons"]) == count


async def test_sources_are_listed_with_their_doors(start, erp, run: Run) -> None:
    await start(erp.url, source='on_revision = "send"')
    said = await run("sources")
    assert said.lines == ["acme    acme       send         webhook up  poll up  -"]
    (source,) = (await run("sources", "--json")).json
    assert source == {
        "source": "acme",
        "connector": "acme",
        "on_revision": "send",
        "doors": {"webhook": "up", "poll": "up"},
        "last_message_at": None,
        "reason": None,
    }


# --- rows and orders


async def test_rows_are_listed_newest_first_and_as_they_are_asked_for(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    for stopped in (False, True):
        if stopped:
            await running.stop()
        inbox = await run("inbox")
        assert [line.split()[0] for line in inbox.lines] == ["inbox:4", "inbox:3", "inbox:2", "inbox:1"]
        assert [line.split()[2] for line in (await run("inbox", "--status", "held")).lines] == ["acme/good@2"]
        assert [row["key"] for row in (await run("outbox", "--json")).json] == ["acme/refused/1", "acme/good/1"]
        assert [row["status"] for row in (await run("outbox", "--target", "erp", "--limit", "1", "--json")).json] == ["dead"]
        for nobody in (("inbox", "--source", "nobody"), ("outbox", "--target", "nobody"), ("outbox", "--status", "held")):
            assert (await run(*nobody)).out == "nothing\n"
            assert (await run(*nobody, "--json")).json == []


async def test_a_table_is_aligned_and_keeps_to_the_line(start, erp, run: Run) -> None:
    running = await start(erp.url)

    def ask() -> None:
        raise Hold("Which one?\n\x1b[2J" + "x" * 500)

    acme.faults["normalize"] = ask
    await running.deliver(acme.body("o1"))
    await running.deliver(acme.body("a-much-longer-order-number"))
    await running.until(lambda: has(running, "inbox", "held", 2))
    said = await run("inbox")
    heads, *lines = said.out.splitlines()
    assert len(lines) == 2
    at = heads.index("reason")
    for line in lines:
        assert line[at:].startswith(r"Which one? \x1b[2Jxxx")
        assert line.endswith("x…")
        assert len(line) < at + 120
    assert "\x1b" not in said.out


async def test_orders_say_where_their_newest_message_is(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    said = await run("orders")
    for line, begins, waits in zip(
        said.lines,
        (["acme", "refused", "1", "1", "erp: dead (refused)"], ["acme", "good", "2", "1", "erp: done (delivered)"]),
        ("the target refuses the order (422); a person", "version 2 of the order has other content; a person"),
        strict=True,
    ):
        assert re.split("  +", line)[:5] == begins
        assert re.split("  +", line)[5].startswith(waits)
    assert [order["order_ref"] for order in (await run("orders", "--source", "acme", "--limit", "1", "--json")).json] == ["refused"]
    assert (await run("orders", "--source", "nobody")).out == "nothing\n"


# --- show


async def test_show_tells_all_of_an_order_by_any_of_its_names(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    for name in ("refused", "acme/refused", "acme/refused/1", "inbox:2", "outbox:2"):
        said = await run("show", name)
        assert said.code == 0
        assert "outbox:2  acme/refused/1  dead (refused)\n" in said.out
        assert re.search(r"^    target     erp$", said.out, re.MULTILINE)
        assert re.search(r"^    reason     the target refuses the order \(422\)$", said.out, re.MULTILINE)
        assert re.search(r'^    try 1      \S+Z  refused  \d+ ms  422 \{"error": "no \\x1b\[2Jcredit"\}$', said.out, re.MULTILINE)
        assert "\x1b" not in said.out
        assert "quantity" not in said.out
    assert "inbox:2" in (await run("show", "refused")).out
    assert "inbox:2" not in (await run("show", "outbox:2")).out


async def test_show_as_json_has_every_field(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    event, message = (await run("show", "refused", "--json")).json
    assert (event["queue"], event["key"], event["status"], event["outcome"]) == ("inbox", "acme/refused", "done", "prepared")
    assert (message["name"], message["kind"], message["attempts"]) == ("erp", "order.placed", 1)
    assert (message["tried"][0]["http_status"], message["tried"][0]["outcome"]) == (422, "refused")
    assert "body" not in message


async def test_show_body_prints_what_is_stored(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    said = await run("show", "refused", "--body")
    assert '\n\n{\n  "id": "refused",\n' in said.out
    assert '"schema": "order-gateway/1"' in said.out
    message = (await run("show", "outbox:2", "--body", "--json")).json[0]
    assert json.loads(message["body"])["key"] == "acme/refused/1"


async def test_show_body_of_something_unreadable_cannot_steer_the_terminal(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    said = await run("show", "inbox:4", "--body")
    assert r"\x1b]0;owned\x07" in said.out
    assert "\x1b" not in said.out
    assert "\x07" not in said.out


async def test_a_key_that_is_none_is_one_clear_line(start, erp, run: Run) -> None:
    await start(erp.url)
    for key in ("nobody", "inbox:99", "outbox:99", "ack:1", "number:1", "acme/good@9", "inbox:" + "9" * 40, "", "%", "two\nlines"):
        said = await run("show", key)
        assert (said.code, said.out) == (1, ""), key
        assert said.err.endswith("no such key; `gateway inbox`, `gateway outbox` and `gateway submissions` list what there is\n")
        assert len(said.err.splitlines()) == 1


# --- replay, release, drop


async def test_replay_by_key_sends_it_again(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    said = await run("replay", "acme/refused/1")
    assert (said.code, said.out) == (0, "replay: outbox:2 acme/refused/1\n")
    await erp.wait_for(2)
    assert [heard.key for heard in erp.heard] == ["acme/good/1", "acme/refused/1", "acme/refused/1"]


async def test_replay_of_everything_dead(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    dry = await run("replay", "--status", "dead", "--dry-run")
    unreadable = dry.out.splitlines()[0].split()[3]
    assert dry.code == 0
    assert dry.out.splitlines() == [f"would replay inbox:4: {unreadable} dead", "would replay outbox:2: acme/refused/1, dead"]
    as_json = (await run("replay", "--status", "dead", "--dry-run", "--json")).json
    assert [(one["row"], one["status"], one["would"]) for one in as_json] == [("inbox:4", "dead", True), ("outbox:2", "dead", True)]
    asked = await run("replay", "--status", "dead")
    assert (asked.code, asked.out) == (2, dry.out)
    assert asked.err == "gateway: 2 rows, and nothing was changed: add --yes to replay all of them, or name one\n"
    assert await has(running, "inbox", "dead")
    assert await has(running, "outbox", "dead")
    assert (await run("replay", "--status", "dead", "--source", "nobody")).out == "nothing to replay\n"
    assert (await run("replay", "--status", "dead", "--source", "nobody", "--dry-run")).out == "nothing to replay\n"
    said = await run("replay", "--status", "dead", "--source", "acme", "--yes", "--json")
    assert (said.code, [one["queue"] for one in said.json]) == (0, ["inbox", "outbox"])
    await erp.wait_for(2)
    await running.until(lambda: has(running, "inbox", "dead"))  # what could not be read still cannot


async def test_thousands_of_dead_letters_are_replayed_in_parts(start, erp, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cli.decide", "store.sqlite.choice"):
        monkeypatch.setattr(f"gateway.{module}.AT_ONCE", 7)
    running = await start(erp.url)
    for n in range(25):
        await running.deliver(f"nonsense {n}".encode())
    assert len((await run("replay", "--status", "dead", "--dry-run")).out.splitlines()) == 25
    asked = await run("replay", "--status", "dead")
    assert (asked.code, len(asked.out.splitlines())) == (2, 7)
    assert "7 or more rows, and nothing was changed" in asked.err
    said = await run("replay", "--status", "dead", "--yes")
    assert (said.code, len(said.out.splitlines())) == (0, 25)


async def test_release_lets_a_held_revision_go(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    said = await run("release", "acme/good@2")
    assert (said.code, said.out) == (0, "release: inbox:3 acme/good@2\n")
    await erp.wait_for(2)
    assert erp.messages()[-1]["kind"] == "order.revised"
    await running.until(lambda: has(running, "inbox", "held", 0))


async def test_drop_ends_a_row_and_keeps_who_and_why(start, erp, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "clerk")
    await with_rows(start, erp)
    asked = await run("drop", "acme/refused/1", "inbox:4", "--reason", "sent by fax")
    assert (asked.code, [line.split()[2] for line in asked.out.splitlines()]) == (2, ["outbox:2:", "inbox:4:"])
    said = await run("drop", "acme/refused/1", "inbox:4", "--reason", "sent by fax", "--yes", "--json")
    assert [(one["queue"], one["problem"]) for one in said.json] == [("outbox", None), ("inbox", None)]
    shown = await run("show", "outbox:2")
    assert shown.out.startswith("outbox:2  acme/refused/1  done (dropped)\n")
    assert re.search(r"^    decided    \S+Z  drop by clerk: sent by fax$", shown.out, re.MULTILINE)


async def test_who_decided_is_the_one_behind_sudo_or_the_one_who_is_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "here")
    assert operations.operator_name() == "here"
    monkeypatch.setenv("SUDO_USER", "behind")
    assert operations.operator_name() == "behind"


async def test_decisions_that_cannot_be_made_say_why(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    for arguments, text in (
        (("replay", "nobody"), "nobody: no such key"),
        (("replay", "good"), "good: nothing of it is dead (inbox done, inbox held, outbox done)."),
        (("release", "refused"), "refused: nothing of it is held"),
        (("drop", "acme/good/1", "--reason", "x"), "acme/good/1: nothing of it is held or dead or ready or unknown (outbox done)."),
    ):
        said = await run(*arguments)
        assert (said.code, said.out.startswith(text)) == (1, True), said.out
    mixed = await run("replay", "nobody", "refused")
    assert (mixed.code, len(mixed.out.splitlines())) == (1, 2)
    blank = await run("drop", "refused", "--reason", " ")
    assert (blank.code, blank.err) == (1, "gateway: a drop needs a reason: --reason TEXT\n")


async def test_decisions_without_a_gateway_are_carried_out_at_the_next_start(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    await running.stop()
    assert (await run("replay", "refused")).code == 0
    assert (await run("release", "good")).code == 0
    assert (await run("drop", "inbox:4", "--reason", "rubbish")).code == 0
    await start(erp.url)
    await erp.wait_for(3)
    assert sorted(erp.orders) == ["acme/good/1", "acme/good/2", "acme/refused/1"]


# --- purge, resume, target, migrate


async def test_purge_erases_bodies_and_keeps_keys(start, erp, run: Run) -> None:
    running = await with_rows(start, erp)
    assert (await run("purge")).out == "0 rows: bodies erased, keys kept\n"
    said = await run("purge", "--older-than-days", "0")
    assert said.code == 0
    assert int(said.out.split()[0]) >= 2
    event, message = (await run("show", "inbox:1", "--body", "--json")).json
    assert (event["body"], message["body"], message["key"]) == (None, None, "acme/good/1")
    await running.stop()
    assert (await run("purge", "--older-than-days", "0", "--json")).json == {"erased": 0}


async def test_resume_asks_the_vendor_at_once(start, erp, run: Run) -> None:
    running = await start(erp.url)
    asked = asyncio.Event()

    async def poll(cursor: str | None, **_: Any) -> Any:
        asked.set()
        raise PermanentError("x")

    acme.faults["poll"] = poll
    assert (await run("resume", "acme")).out == "resumed: acme\n"
    async with asyncio.timeout(5):
        await asked.wait()
    assert (await run("resume", "acme", "--json")).json == {"resumed": "acme"}
    unknown = await run("resume", "nobody")
    assert (unknown.code, unknown.err) == (1, "gateway: there is no source 'nobody'; there is acme\n")
    await running.stop()
    stopped = await run("resume", "acme")
    assert (stopped.code, stopped.err) == (1, "gateway: the gateway does not run; it starts with every door open\n")


async def test_a_target_is_held_and_released(start, erp, run: Run) -> None:
    running = await start(erp.url)
    assert (await run("target", "hold", "erp", "--reason", "stocktaking")).out == "paused: erp\n"
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "ready"))
    assert re.search(r"DOWN target erp: paused by \S+: stocktaking", (await run("status")).out)
    assert (await run("target", "release", "erp", "--json")).json == {"release": "erp"}
    await erp.wait_for(1)
    unknown = await run("target", "hold", "nobody")
    assert (unknown.code, unknown.err) == (1, "gateway: there is no target 'nobody'; there is erp\n")


async def test_what_a_person_holds_no_changed_secret_releases_and_no_answer_renames(start, erp, run: Run) -> None:
    running = await start(erp.url)
    await run("target", "hold", "erp", "--reason", "stocktaking")
    running.gateway._runtime.secrets_changed()
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason="the target answers 401"), 0, 0.0)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "ready"))
    assert re.search(r"DOWN target erp: paused by \S+: stocktaking", (await run("status")).out)
    assert erp.heard == []
    await run("target", "release", "erp")
    await erp.wait_for(1)
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason="the target answers 401"), 0, 0.0)
    running.gateway._runtime.secrets_changed()
    await running.deliver(acme.body("o2"))
    await erp.wait_for(2)


async def test_a_target_is_held_and_released_while_the_gateway_is_stopped(start, erp, run: Run) -> None:
    """What a person says is stored, and kept by the next start."""
    await (await start(erp.url)).stop()
    assert (await run("target", "hold", "erp", "--reason", "stocktaking")).out == "paused: erp\n"
    assert re.search(r"^erp +off +paused by \S+: stocktaking \(since [^)]+ UTC\)$", (await run("status")).out, re.MULTILINE)
    unknown = await run("target", "hold", "nobody")
    assert (unknown.code, unknown.err) == (1, "gateway: there is no target 'nobody'; there is erp\n")
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "ready"))
    await running.stop()
    assert erp.heard == []
    assert (await run("target", "release", "erp")).out == "released: erp\n"
    await start(erp.url)
    await erp.wait_for(1)


async def renamed(start: Any, erp: ErpSimulator, run: Run, *refs: str) -> None:
    """A stopped gateway whose target has another name now; so many orders wait for the old one."""
    running = await start(erp.url)
    await run("target", "hold", "erp")
    for ref in refs:
        await running.deliver(acme.body(ref))
    await running.until(lambda: has(running, "outbox", "ready", len(refs)))
    await running.stop()
    running.config.write_text(running.config.read_text().replace("[targets.erp]", "[targets.new]"))


async def test_check_names_rows_that_wait_for_a_target_that_is_in_no_file(start, erp, run: Run) -> None:
    """It reads the store where there is one, and touches no network (case 04)."""
    await renamed(start, erp, run, "o1", "o2")
    said = await run("check")
    assert said.code == 0
    assert "look: 2 rows wait in the outbox for the target erp, which is not configured" in said.out
    assert "gateway target move erp NAME" in said.out
    stopped = await run("status")
    assert stopped.code == 1
    assert "DOWN target erp: 2 rows wait" in stopped.out


async def test_check_says_where_the_store_cannot_be_read(start, erp, run: Run, tmp_path: Path) -> None:
    await (await start(erp.url)).stop()
    (tmp_path / "data" / "gateway.db").write_bytes(b"no database at all" * 1000)
    said = await run("check")
    assert said.code == 0
    assert re.search(r"^look: \S+gateway\.db cannot be read", said.out, re.MULTILINE)


async def test_what_waits_for_a_renamed_target_is_moved_by_a_person(start, erp, run: Run) -> None:
    await renamed(start, erp, run, "o1", "o2")
    refused = await run("target", "move", "erp", "new")
    assert (refused.code, "2 rows would go" in refused.err, "--yes" in refused.err) == (2, True, True)
    dry = await run("target", "move", "erp", "new", "--dry-run")
    assert (dry.code, len(dry.out.splitlines())) == (0, 2)
    assert re.fullmatch(r"would move outbox:\d+ acme/o1/1 \(ready\) to new", sorted(dry.out.splitlines())[0])
    moved = await run("target", "move", "erp", "new", "--yes", "--json")
    assert (moved.code, [one["problem"] for one in moved.json]) == (0, [None, None])
    assert (await run("target", "move", "erp", "new")).out == "nothing waits for erp\n"
    shown = await run("show", "acme/o1/1")
    assert re.search(r"decided +\S+ +target-move by \S+: from erp to new", shown.out)
    nobody = await run("target", "move", "erp", "nobody")
    assert (nobody.code, nobody.err) == (1, "gateway: there is no target 'nobody'; there is new\n")
    own = await run("target", "move", "new", "new")
    assert (own.code, "is configured, and delivers itself" in own.err) == (1, True)


async def test_migrate_is_for_a_gateway_that_is_stopped(start, erp, run: Run) -> None:
    running = await start(erp.url)
    beside = await run("migrate")
    assert (beside.code, beside.err.startswith("gateway: the gateway is running")) == (1, True)
    await running.stop()
    said = await run("migrate")
    assert (said.code, said.out.endswith("gateway.db is up to date\n")) == (0, True)


# --- check, schema, plugins


async def test_check_reports_a_good_configuration_in_a_line(start, erp, run: Run) -> None:
    await (await start(erp.url)).stop()
    said = await run("check")
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("gateway.toml: 1 sources with 2 doors, 1 targets, no problem found\n")


async def test_check_reports_every_problem_at_once_and_exits_2(start, erp, run: Run, tmp_path: Path) -> None:
    await (await start(erp.url)).stop()
    file = tmp_path / "gateway.toml"
    text = file.read_text()
    file.write_text(text.replace("[targets.erp]", "[targets.erp]\nconcurency = 3").replace('connector = "acme"', 'connector = "acmee"'))
    said = await run("check")
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 2
    assert re.search(r"gateway\.toml:\d+: targets\.erp\.concurency: .*did you mean concurrency", said.err)
    assert re.search(r"gateway\.toml:\d+: sources\.acme\.connector: no connector 'acmee' is installed", said.err)


async def test_check_online_signs_in_everywhere_and_sends_no_order(start, erp, run: Run) -> None:
    await (await start(erp.url)).stop()
    good = await run("check", "--online")
    assert (good.code, good.out.splitlines()[1:]) == (0, ["sources.acme: signed in", "targets.erp: reached, answers HEAD with 200"])
    assert erp.heard == []
    await erp.stop()
    bad = await run("check", "--online")
    assert (bad.code, bad.out.splitlines()[-1]) == (1, "targets.erp: no connection: connection refused")


async def test_the_schema_describes_what_the_erp_receives(start, erp, run: Run) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await erp.wait_for(1)
    said = await run("schema")
    assert said.code == 0
    jsonschema.Draft202012Validator.check_schema(said.json)
    jsonschema.validate(erp.messages()[0], said.json)


async def test_plugins_are_listed_and_loaded_only_where_asked(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gateway.toml").write_text('[sources.shop]\nconnector = "acme"\n')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(Path(acme.__file__).parent)]))
    listed = await run("plugins")
    assert re.search(r"^acme +order-gateway-acme +1 +shop +-$", listed.out, re.MULTILINE)
    points = tmp_path / "site" / "order_gateway_acme-1.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "broken = no_such_module_anywhere\nends = ends_the_process\n")
    (tmp_path / "site" / "ends_the_process.py").write_text("print('x', flush=True)\nimport os\nos._exit(3)\n")
    broken = await run("plugins", "--load")
    assert broken.code == 1
    assert re.search(r"^acme +order-gateway-acme +1 +shop +webhook poll +Acme test vendor$", broken.out, re.MULTILINE)
    assert re.search(r"^broken .*BROKEN: cannot be imported: ModuleNotFoundError", broken.out, re.MULTILINE)
    assert re.search(r"^ends .*BROKEN: the process ended with 3 while it was imported", broken.out, re.MULTILINE)
    found = {one["name"]: one for one in (await run("plugins", "--load", "--json")).json}
    assert (found["acme"]["doors"], found["acme"]["sources"], found["ends"]["doors"]) == (["webhook", "poll"], ["shop"], [])
    plain = await run("plugins", "--json")
    assert (plain.code, [*plain.json[0]]) == (0, ["name", "distribution", "version", "problem", "sources"])


# --- errors are one clear line and the right exit code

LOOKS = [["status"], ["sources"], ["inbox"], ["outbox"], ["orders"], ["show", "o1"], ["replay", "--status", "dead", "--dry-run"]]
LOOKS += [["drop", "o1", "--reason", "x", "--dry-run"], ["release", "--status", "held", "--dry-run"]]
WORKS = [
    ["replay", "o1"],
    ["release", "o1"],
    ["drop", "o1", "--reason", "x"],
    ["resend", "o1", "--reason", "x"],
    ["purge"],
    ["resume", "acme"],
    ["target", "hold", "erp"],
    ["migrate"],
]


async def test_without_a_configuration_every_command_says_so(run: Run, tmp_path: Path) -> None:
    for command in [["check"], *LOOKS, *WORKS]:
        said = await run(*command, config=tmp_path / "missing.toml")
        assert said.code == 2, command
        assert said.err == f"{tmp_path}/missing.toml: cannot be read: No such file or directory; give another one with --config FILE\n", (
            command
        )


async def test_before_the_first_start_every_command_says_so(start, erp, run: Run, tmp_path: Path) -> None:
    await (await start(erp.url)).stop()
    data = tmp_path / "data"
    data.rename(tmp_path / "elsewhere")
    for command in [*LOOKS, *WORKS]:
        said = await run(*command)
        assert said.code == 1, command
        assert said.err == f"gateway: there is no {data}/gateway.db yet; it is made when the gateway is first started\n", command
    assert not data.exists()  # looking made nothing


async def test_a_foreign_file_is_not_touched(start, erp, run: Run, tmp_path: Path) -> None:
    await (await start(erp.url)).stop()
    (tmp_path / "data" / "gateway.db").write_bytes(b"not a database, " * 100)
    for command in [*LOOKS, ["replay", "o1"], ["migrate"]]:
        said = await run(*command)
        assert (said.code, len(said.err.splitlines())) == (1, 1), command
        assert "gateway.db" in said.err


async def test_a_gateway_that_hangs_is_said_to_hang(start, erp, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await start(erp.url)).stop()
    monkeypatch.setattr(running_gateway, "_LOOK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(running_gateway, "_WORK_TIMEOUT_S", 0.1)
    with (tmp_path / "data" / "gateway.lock").open() as lock, socket.socket(socket.AF_UNIX) as silent:
        fcntl.flock(lock, fcntl.LOCK_EX)
        silent.bind(str(tmp_path / "data" / "control.sock"))
        silent.listen()
        for command in (["status"], ["sources"], ["replay", "o1"], ["resume", "acme"]):
            said = await run(*command)
            assert (said.code, said.err) == (
                1,
                "gateway: the gateway runs and does not answer within 0.1 s; look at its log and at the disk\n",
            )
        assert (await run("inbox")).out == "nothing\n"  # rows are read from the store


async def test_a_gateway_that_is_just_starting_is_waited_for(start, erp, run: Run, tmp_path: Path) -> None:
    await (await start(erp.url)).stop()
    with (tmp_path / "data" / "gateway.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["status"], ["release", "o1"]):
            said = await run(*command)
            assert (said.code, len(said.err.splitlines())) == (1, 1)
            assert "cannot be used (No such file or directory); run this as root (sudo) or as the service's user, or wait" in said.err


async def test_a_failure_inside_the_gateway_is_said_to_be_one(start, erp, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start(erp.url)

    async def broken(*_: Any) -> Any:
        raise RuntimeError("Jane Doe")

    monkeypatch.setattr(running.gateway._store, "replay", broken)
    said = await run("replay", "o1")
    assert (said.code, said.err) == (1, "gateway: the gateway failed (500); its log says where\n")


USAGE = [
    [],
    ["explode"],
    ["show"],
    ["replay"],
    ["replay", "o1", "--status", "dead"],
    ["replay", "--status", "done"],
    ["drop", "o1"],
    ["drop", "--source", "acme", "--reason", "x"],
    ["drop", "o1", "--status", "dead", "--reason", "x"],
    ["release"],
    ["release", "--status", "dead"],
    ["release", "--older-than", "2 days"],
    ["resend", "o1"],
    ["resend", "--reason", "x"],
    ["target", "explode", "erp"],
    ["inbox", "--limit", "0"],
    ["inbox", "--limit", "²"],
    ["inbox", "--status", "lost"],
    ["purge", "--older-than-days", "-1"],
    ["purge", "--older-than-days", "nan"],
    ["purge", "--older-than-days", "inf"],
    ["purge", "--older-than-days", "1e99"],
    ["purge", "--older-than-days", "soon"],
    ["show", "\udcff"],
    ["replay", "o1", "\udcff"],
    ["drop", "o1", "--reason", "\udcff"],
    ["resume", "\udcff"],
    ["inbox", "--source", "\udcff"],
]


async def test_wrong_usage_exits_2(start, erp, run: Run) -> None:
    await start(erp.url)
    for arguments in USAGE:
        said = await run(*(arguments or [""]))
        assert (said.code, said.out) == (2, ""), arguments
        assert said.err


# --- as a process


AS_NOBODY = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main())"


def process(tmp_path: Path, *arguments: str, nobody: bool = False) -> subprocess.Popen[bytes]:
    main = AS_NOBODY if nobody else "sys.exit(main())"
    command = [sys.executable, "-c", f"import sys; from gateway.cli.main import main; {main}"]
    command += [arguments[0], "--config", str(tmp_path / "gateway.toml"), *arguments[1:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_a_reader_that_has_seen_enough_is_no_error(start, erp, tmp_path: Path) -> None:
    running = await start(erp.url)
    for n in range(200):
        await running.deliver(f"nonsense {n}".encode())
    shown = process(tmp_path, "inbox", "--limit", "200", "--json")
    assert shown.stdout is not None
    assert shown.stdout.read(1) == b"["
    shown.stdout.close()
    assert shown.stderr is not None
    assert await asyncio.to_thread(shown.wait, 20) == 1
    assert shown.stderr.read() == b""
    shown.stderr.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
async def test_somebody_who_may_not_is_told_what_to_do(start, erp, tmp_path: Path) -> None:
    running = await start(erp.url)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the configuration can be read, the data directory not
    for state, commands in (("running", (["status"], ["replay", "o1"])), ("stopped", (["inbox"], ["migrate"]))):
        if state == "stopped":
            await running.stop()
        asked = [process(tmp_path, *command, nobody=True) for command in commands]
        ended = [(*await asyncio.to_thread(one.communicate, None, 20), one.returncode) for one in asked]
        for out, err, code in ended:
            assert (code in (1, 2), out) == (True, b""), (state, err)
            assert len(err.splitlines()) == 1, err
            assert b"root" in err or b"owner" in err
