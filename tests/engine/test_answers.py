"""What ERPs answer, and what it means for a target whose ERP recognises no repeat (erp_targets.md 4.2; 7, tests 4, 7, 10 and 12)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import PermanentError

from .unkeyed import KEY, LOOKUP, desk, message

BARE = LOOKUP.replace('"body.id"', '"bare"').replace('erp_number = "body.number"', "")
LOCATION = LOOKUP.replace('"body.id"', '{ header = "Location", after = "salesOrder/", before = "?" }').replace(
    'erp_number = "body.number"', ""
)


@pytest.mark.parametrize(
    ("text", "answer", "erp_id"),
    [
        (LOOKUP, {"status": 200, "body": '{"id": 4711, "number": "SO-1"}'}, "4711"),
        (LOOKUP.replace("body.id", "body.result"), {"status": 200, "body": '{"result": [42]}'}, "42"),
        (BARE, {"status": 200, "body": "42"}, "42"),
        (BARE, {"status": 200, "body": '"42"'}, "42"),
        (LOCATION, {"status": 204, "headers": {"Location": "https://erp.example/record/v1/salesOrder/815?x=1"}}, "815"),
    ],
)
async def test_the_erps_id_is_read_from_where_it_is(tmp_path: Path, text: str, answer: dict[str, Any], erp_id: str) -> None:
    async with desk(tmp_path, text) as made:
        made.erp.arm("status", **answer)
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["outcome"], row["erp_id"]) == ("done", "delivered", erp_id)


@pytest.mark.parametrize("body", ["{}", "<html>", '{"id": null}', '{"id": true}'])
async def test_a_success_without_an_id_is_looked_up(tmp_path: Path, body: str) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=200, body=body)
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("unknown", "unknown")


async def test_a_success_that_speaks_of_an_error_is_a_refusal(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=200, body='{"jsonrpc": "2.0", "error": {"message": "no such customer"}}')
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["outcome"], row["reason"]) == ("dead", "refused", "the target's answer holds an error")


async def test_202_is_looked_up(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=202)
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("unknown", "unknown")


RULES = """
[[classify]]
status = 500
where = "$contains(text, 'could not convert')"
class = "refused"
message = "body.message"
[[classify]]
status = ["400-499", 200]
where = "body.code = 'DUP'"
class = "duplicate"
[[classify]]
header = { X-Error = "busy" }
class = "retry"
[[classify]]
status = 403
where = "$contains(text, 'CSRF')"
class = "throttled"
"""


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"status": 500, "body": '{"message": "could not convert"}'}, ("dead", "refused")),
        ({"status": 500, "body": "anything else"}, ("unknown", "unknown")),
        ({"status": 400, "body": '{"code": "DUP"}'}, ("done", "duplicate")),
        ({"status": 200, "body": '{"code": "DUP"}'}, ("done", "duplicate")),
        ({"status": 400, "body": '{"code": "BAD"}'}, ("dead", "refused")),
        ({"status": 400, "headers": {"X-Error": "Busy now"}}, ("ready", "retry")),
        ({"status": 403, "body": "CSRF token"}, ("ready", "throttled")),
        ({"status": 403, "body": "go away"}, ("ready", "paused")),
    ],
)
@pytest.mark.parametrize("strategy", ["lookup", "header"])
async def test_rules_come_first(tmp_path: Path, strategy: str, answer: dict[str, Any], state: tuple[str, str]) -> None:
    text = LOOKUP.replace('"lookup"', f'"{strategy}"') + RULES
    if strategy == "header" and state[0] == "unknown":
        state = ("ready", "retry")
    async with desk(tmp_path, text) as made:
        made.erp.arm("status", **answer)
        await made.order("o1")
        await made.run_once()
        assert await made.state() == state


async def test_a_rule_that_cannot_be_evaluated_leaves_the_answer_unknown(tmp_path: Path) -> None:
    async with desk(tmp_path, LOOKUP + '[[classify]]\nstatus = 200\nwhere = "$mul(body.id, text) = 1"\nclass = "success"\n') as made:
        made.erp.arm("status", status=200, body='{"id": "x"}')
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("unknown", "unknown")


async def test_the_rules_message_is_shown_with_the_row_and_in_no_list(tmp_path: Path) -> None:
    async with desk(tmp_path, LOOKUP + RULES) as made:
        made.erp.arm("status", status=500, body='{"message": "could not convert string to Decimal"}')
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert row["reason"] == "the target answers 500: refused by its classify rule"
        assert "Decimal" not in str(row)
        assert (await made.shown(row["row"]))["tried"][0]["detail"] == "could not convert string to Decimal"


@pytest.mark.parametrize("how", ["seconds", "date", "reset in seconds", "reset at", "absent"])
async def test_a_slower_pace_is_kept_and_costs_no_attempt(tmp_path: Path, how: str) -> None:
    async with desk(tmp_path) as made:
        at = made.clock.now() + timedelta(seconds=30)
        headers = {
            "seconds": {"Retry-After": "30"},
            "date": {"Retry-After": format_datetime(at.astimezone(UTC), usegmt=True)},
            "reset in seconds": {"X-RateLimit-Reset": "30"},
            "reset at": {"X-RateLimit-Reset": str(round(at.timestamp()))},
            "absent": {},
        }[how]
        made.erp.arm("status", status=429, headers=headers)
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["outcome"], row["attempts"]) == ("ready", "throttled", 0)
        wait_s = 2 if how == "absent" else 30
        assert await made.store.next_due_s("outbox", "erp") == wait_s
        assert made.deliver._allowance() == 0
        made.clock.advance(wait_s)
        assert made.deliver._allowance() == 8
        await made.run_once()
        assert (await made.state(), made.erp.doubled()) == (("done", "delivered"), [])


async def test_a_backlog_drains_within_the_rate(tmp_path: Path) -> None:
    """The ERP was away; its rate counts look-ups too."""
    async with desk(tmp_path, KEY.replace("KIND", "none") + "[flow]\nrate = { calls = 10, per_s = 60 }\n") as made:
        for n in range(25):
            await made.order(f"o{n:02}")
        await made.deliver._start_up_to(100)
        arrived = []
        for _ in range(5):
            for _ in range(50):
                await asyncio.sleep(0.002)
            arrived.append(len(made.erp.made))
            made.clock.advance(60)
        while made.deliver._tasks:
            await asyncio.gather(*made.deliver._tasks)
        assert arrived[:3] == [10, 20, 25]
        assert [order.name for order in made.erp.made] == sorted(order.name for order in made.erp.made)


@pytest.mark.parametrize(
    ("windows", "at", "closed_s"),
    [
        (["Sun 02:00-04:00"], "2026-11-22T03:00:00", 3600),
        (["Sun 02:00-04:00"], "2026-11-23T03:00:00", 0),
        (["02:00-04:00"], "2026-11-23T04:00:00", 0),
        (["23:00-01:00"], "2026-11-23T23:30:00", 5400),
        (["23:00-01:00"], "2026-11-23T00:30:00", 1800),
        (["Sat 22:00-02:00", "Sun 02:00-03:00"], "2026-11-21T23:00:00", 4 * 3600),
        (["sat 22:00-24:00"], "2026-11-21T23:00:00", 3600),
    ],
)
async def test_nothing_is_sent_in_a_maintenance_window(tmp_path: Path, windows: list[str], at: str, closed_s: float) -> None:
    flow = {"maintenance": windows, "time_zone": "Europe/Berlin"}
    async with desk(tmp_path, flow=flow) as made:
        made.clock._wall = datetime.fromisoformat(at + "+01:00").astimezone(UTC)
        assert made.target.closed_for_s() == closed_s
        assert (made.deliver._allowance() == 0) == (closed_s > 0)
        made.clock.advance(closed_s)
        assert made.deliver._allowance() == 8


@pytest.mark.parametrize(("condition", "wanted"), [("order.currency = 'EUR'", True), ("$count(order.lines) > 5", False)])
async def test_a_target_says_which_orders_it_wants(tmp_path: Path, condition: str, wanted: bool) -> None:
    async with desk(tmp_path, accepts_if=condition) as made:
        assert made.target.settings.wants(message("o1", at=made.clock.now())) is wanted


@pytest.mark.parametrize("condition", ["order.currency", "$error('no')"])
async def test_a_condition_that_does_not_say_loses_no_order(tmp_path: Path, condition: str) -> None:
    async with desk(tmp_path, accepts_if=condition) as made:
        with pytest.raises(PermanentError):
            made.target.settings.wants(message("o1", at=made.clock.now()))
