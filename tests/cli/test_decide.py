"""`gateway replay | release | drop | resend` beside a running gateway: names, several rows, sending again, and what lists do not tell."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.testing import ErpSimulator
from tests import acme
from tests.engine.unkeyed import KEY, LOOKUP, desk

from .test_commands import Run, has, run, with_rows

__all__ = ["run"]

PERSON = "CANARY-Jane-1970"


async def test_a_name_of_two_orders_is_refused_with_names_that_can_be_pasted(start, erp, run: Run) -> None:
    running = await start(erp.url)
    erp.arm("status", status=422)
    await running.deliver(acme.body("x"))
    await running.until(lambda: has(running, "outbox", "dead"))
    await run("target", "hold", "erp")
    await running.deliver(acme.body("x/1"))
    await running.until(lambda: has(running, "outbox", "ready"))
    for command in (("drop", "acme/x/1", "--reason", "refused", "--yes"), ("replay", "acme/x/1"), ("resend", "acme/x/1", "--reason", "x")):
        said = await run(*command)
        assert (said.code, said.out.splitlines()[0]) == (1, "acme/x/1: this name may mean several things; name one of these:")
        assert "  message:acme/x/1 (the message: outbox:1 dead)" in said.out.splitlines()
    shown = await run("show", "acme/x/1")
    assert (shown.code, "may mean several things" in shown.err) == (1, True)
    assert (await run("drop", "message:acme/x/1", "--reason", "refused")).code == 0
    await run("target", "release", "erp")
    await erp.wait_for(1)
    assert list(erp.orders) == ["acme/x/1/1"]


@pytest.mark.parametrize("stopped", [False, True])
async def test_filters_work_for_all_three_beside_a_gateway_and_without_one(start, erp, run: Run, stopped: bool) -> None:
    running = await with_rows(start, erp)
    if stopped:
        await running.stop()
    for command, rows in (
        (("release", "--status", "held"), ["inbox:3"]),
        (("release", "--source", "nobody"), []),
        (("replay", "--target", "erp"), ["outbox:2"]),
        (("replay", "--older-than", "1d"), []),
        (("drop", "--status", "dead", "--reason", "x"), ["inbox:4", "outbox:2"]),
    ):
        said = await run(*command, "--dry-run", "--json")
        assert (said.code, [one["row"] for one in said.json]) == (0, rows), command
    said = await run("drop", "--status", "dead", "--reason", "x")
    assert (said.code, len(said.out.splitlines())) == (2, 2)
    assert (await run("release", "--status", "held")).out == "release: inbox:3 acme/good@2\n"
    assert (await run("drop", "--status", "dead", "--reason", "x", "--yes")).code == 0
    assert (await run("drop", "--status", "dead", "--reason", "x", "--yes")).out == "nothing to drop\n"


async def test_an_order_is_found_by_its_vendors_number(start, erp, run: Run) -> None:
    await with_rows(start, erp)
    number = erp.messages()[0]["order"]["order_number"]
    shown = await run("show", f"number:{number}", "--json")
    assert "outbox:1" in [row["row"] for row in shown.json]


# --- sending again


async def test_a_delivered_message_goes_again_with_a_reason(start, erp, run: Run) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "done"))
    blank = await run("resend", "acme/o1/1", "--reason", " ")
    assert (blank.code, blank.err) == (1, "gateway: a resend needs a reason: --reason TEXT\n")
    said = await run("resend", "o1", "--reason", "the ERP was put back")
    assert (said.code, said.out) == (0, "resend: outbox:1 acme/o1/1\n")
    await running.until(lambda: heard(erp, 2))
    first, second = erp.heard
    assert (first.key, first.body) == (second.key, second.body)
    await running.until(lambda: has(running, "outbox", "done"))
    shown = (await run("show", "outbox:1")).out
    assert "resend by " in shown
    assert "the ERP was put back" in shown
    assert shown.count("delivered") >= 2, "how it ended the first time is still told"


async def heard(erp: ErpSimulator, count: int) -> bool:
    return len(erp.heard) == count


async def test_what_was_purged_is_not_sent_again(start, erp, run: Run) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "done"))
    await run("purge", "--older-than-days", "0")
    said = await run("resend", "o1", "--reason", "x")
    assert (said.code, "its body has been erased" in said.out) == (1, True)


@pytest.mark.parametrize(("text", "is_there", "end", "made"), [
    (LOOKUP, True, "duplicate", 1),
    (LOOKUP, False, "delivered", 2),
    (KEY.replace("KIND", "none"), True, "delivered", 2),
])  # fmt: skip
async def test_sending_again_under_every_strategy(tmp_path: Path, text: str, is_there: bool, end: str, made: int) -> None:
    async with desk(tmp_path, text) as bench:
        await bench.order("o1")
        await bench.run_once()
        if not is_there:
            bench.erp.made[0].name = "gone"
        await bench.store.resend(["acme/o1/1"], "anna", "the ERP was put back")
        await bench.run_once()
        assert await bench.state() == ("done", end)
        assert len(bench.erp.made) == made


# --- other people's words


async def test_what_an_erp_says_is_in_no_list_and_goes_with_the_body(start, erp, run: Run, tmp_path: Path) -> None:
    rule = 'classify = [{ class = "refused", status = 422, message = "body.message" }]'
    running = await start(erp.url, target=rule)
    erp.arm("status", status=422, body=f'{{"message": "{PERSON} owes money"}}')
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "dead"))
    reason = "the target answers 422: refused by its classify rule"
    for command in (("outbox",), ("outbox", "--json"), ("orders",), ("orders", "--json"), ("status",), ("status", "--json")):
        said = (await run(*command)).out
        assert PERSON not in said
        assert reason in said
    assert PERSON not in str(await running.rows("outbox"))
    assert PERSON in (await run("show", "o1")).out
    await run("drop", "o1", "--reason", f"phoned {PERSON}")
    for command in (("outbox",), ("outbox", "--json"), ("orders",), ("status", "--json")):
        assert PERSON not in (await run(*command)).out
    await run("purge", "--older-than-days", "0")
    assert tables_with(tmp_path / "data" / "gateway.db", PERSON) == {"audit"}
    await run("resend", "o1", "--reason", "x")


def tables_with(path: Path, word: str) -> set[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table for table in tables for row in db.execute(f"SELECT * FROM {table}") if any(word in text(value) for value in row)}


def text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


async def test_status_and_the_page_say_what_does_not_move(start, erp, run: Run) -> None:
    running = await start(erp.url)
    await run("target", "hold", "erp", "--reason", "stocktaking")
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has(running, "outbox", "ready"))
    for said in ((await run("status")).out, await page(running), (await run("outbox")).out, (await run("show", "o1")).out):
        assert "target erp is paused by " in said
    (one,) = (await run("status", "--json")).json["waiting"]
    assert (one["queue"], one["name"], one["rows"], one["row"], one["on"]) == ("outbox", "erp", 1, "outbox:1", "side")
    await running.stop()
    assert "the gateway is not running" in (await run("outbox")).out


async def page(running: Any) -> str:
    async with aiohttp.ClientSession() as session, session.get(running.admin_url + "/") as answer:
        return await answer.text()
