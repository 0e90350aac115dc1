"""Orders that take several requests: what is finished stays finished, whatever happens between (erp_targets.md 7, test 11)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.store.outcome import Progress
from gateway.testing.erp import Made

from .unkeyed import LOOKUP, Desk, desk

LINES = """
[[steps]]
name = "lines"
url = "URL/{captured.erp_id}/lines"
for_each = "order.lines"
body = '{ "article": item.article_number, "quantity": item.quantity }'
DONE
[[steps]]
name = "confirm"
url = "URL/{captured.erp_id}/confirm"
if = "order.currency = 'EUR'"
REPEAT
"""


def text(*, done: str = 'done = "body.value[0].lines"', repeat: str = "", complete: str = "body.value[0].confirmed > 0") -> str:
    made = LOOKUP.replace("[preflight]", f'[preflight]\ncomplete = "{complete}"' if complete else "[preflight]")
    return made + LINES.replace("DONE", done).replace("REPEAT", repeat)


async def until_settled(made: Desk) -> None:
    await made.pass_time(500)


def whole(made: Desk) -> bool:
    """One order, each line once, confirmed once."""
    (order,) = made.erp.made
    return order.lines == ["A1", "A2", "A3"] and order.confirmed == 1


async def test_lines_and_the_confirmation_follow_the_order(tmp_path: Path) -> None:
    async with desk(tmp_path, text()) as made:
        await made.order("o1", articles=3)
        await made.run_once()
        assert await made.state() == ("done", "delivered")
        assert whole(made)


async def test_a_step_whose_condition_is_not_true_is_left_out(tmp_path: Path) -> None:
    async with desk(tmp_path, text().replace("'EUR'", "'USD'")) as made:
        await made.order("o1", articles=2)
        await made.run_once()
        assert await made.state() == ("done", "delivered")
        assert (made.erp.made[0].lines, made.erp.made[0].confirmed) == (["A1", "A2"], 0)


@pytest.mark.parametrize("finished", [Progress(step=1, erp_id="1"), Progress(step=1, item=2), Progress(step=2)])
async def test_a_crash_between_two_requests_goes_on_behind_the_last_one(tmp_path: Path, finished: Progress) -> None:
    async with desk(tmp_path, text()) as made:
        made.erp.arm("status", status=503, on="step", times=1)  # the order itself is made
        await made.order("o1", articles=3)
        await made.run_once()
        assert (len(made.erp.made), made.erp.made[0].lines) == (1, [])
        made.erp.made[0].lines = ["A1", "A2", "A3"][: 3 if finished.step == 2 else finished.item]
        made.clock.advance(5)
        (row,) = await made.store.lease_outbox("erp", 1, records_intent=True)
        await made.store.record_progress(row, finished)
        await made.store.release_all_leases()
        await until_settled(made)
        assert await made.state() == ("done", "delivered")
        assert whole(made)


@pytest.mark.parametrize("fault", ["lose_answer", "drop_before"])
@pytest.mark.parametrize("which", [1, 2, 3, 4])
async def test_a_lost_answer_of_a_step_is_found_out(tmp_path: Path, which: int, fault: Any) -> None:
    """Of the first, second or third line, or of the confirmation."""
    async with desk(tmp_path, text(repeat='done = "body.value[0].confirmed"')) as made:
        for _ in range(which - 1):
            made.erp.arm("slow", delay_s=0, on="step")
        made.erp.arm(fault, on="step")
        await made.order("o1", articles=3)
        await made.run_once()
        assert (await made.state())[0] == "unknown"
        await until_settled(made)
        assert await made.state() == ("done", "delivered")
        assert whole(made)


@pytest.mark.parametrize("at", ["start_request", "lines 2", "confirm"])
async def test_a_crash_in_mid_request_is_found_out(tmp_path: Path, at: str) -> None:
    """The process dies while a request is on its way, and the ERP does it all the same."""
    async with desk(tmp_path, text(repeat='done = "body.value[0].confirmed"')) as made:
        await made.order("o1", articles=3)
        skips = {"start_request": 0, "lines 2": 1, "confirm": 3}[at]
        if at == "start_request":
            made.erp.arm("slow", delay_s=0.2)
        else:
            for _ in range(skips):
                made.erp.arm("slow", delay_s=0, on="step")
            made.erp.arm("slow", delay_s=0.2, on="step")
        await made.deliver._start_up_to(1)
        (task,) = made.deliver._tasks
        while not (made.erp.looks and not made.erp._armed):  # the slow request is with the ERP
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.3)
        await until_settled(made)
        assert (await made.state())[0] == "done"
        assert whole(made)


async def test_a_step_that_may_be_repeated_is_simply_repeated(tmp_path: Path) -> None:
    async with desk(tmp_path, text(repeat="repeat = true", complete="")) as made:
        for _ in range(3):
            made.erp.arm("slow", delay_s=0, on="step")
        made.erp.arm("lose_answer", on="step")
        await made.order("o1", articles=3)
        await made.run_once()
        await until_settled(made)
        assert await made.state() == ("done", "delivered")
        assert (len(made.erp.made), made.erp.made[0].lines) == (1, ["A1", "A2", "A3"])


async def test_an_unclear_step_that_nobody_can_tell_is_a_persons(tmp_path: Path) -> None:
    async with desk(tmp_path, text(done="")) as made:
        made.erp.arm("lose_answer", on="step")
        await made.order("o1", articles=3)
        await made.run_once()
        await until_settled(made)
        row = await made.row()
        assert (row["status"], row["outcome"], made.erp.made[0].lines) == ("held", "unknown", ["A1"])
        assert "it is unknown whether step lines was done; check the target's order SO-000001" in row["reason"]


async def test_a_refused_step_is_a_dead_letter_and_a_replay_goes_on_there(tmp_path: Path) -> None:
    async with desk(tmp_path, text()) as made:
        made.erp.arm("slow", delay_s=0, on="step")
        made.erp.arm("status", status=422, body="unknown article", on="step")
        await made.order("o1", articles=3)
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["erp_number"]) == ("dead", "SO-000001")
        assert row["reason"] == "step lines: the target refuses the order (422)"
        await made.store.replay(["acme/o1/1"], "anna")
        await until_settled(made)
        assert await made.state() == ("done", "delivered")
        assert whole(made)


async def test_an_order_that_was_made_and_lost_before_its_steps_gets_them(tmp_path: Path) -> None:
    async with desk(tmp_path, text()) as made:
        made.erp.arm("lose_answer")
        await made.order("o1", articles=3)
        await made.run_once()
        assert (await made.state())[0] == "unknown"
        await until_settled(made)
        assert (await made.state())[0] == "done"
        assert whole(made)


async def test_a_half_made_order_of_somebody_else_is_a_persons(tmp_path: Path) -> None:
    async with desk(tmp_path, text()) as made:
        await made.order("o1", articles=3)
        await made.run_once()
        made.erp.made[0].name, made.erp.made[0].confirmed = "o2", 0
        await made.order("o2", articles=3)
        await made.run_once()
        row = await made.row("o2")
        assert (row["status"], row["outcome"], len(made.erp.made)) == ("held", "held", 1)
        assert "not all of it" in row["reason"]


async def test_an_order_that_is_there_without_a_word_on_its_steps_is_a_persons(tmp_path: Path) -> None:
    """A release of what was unknown must not count an order as whole whose lines were never sent."""
    async with desk(tmp_path, text(complete=""), retry={"max_age_s": 50.0}, breaker={"failures": 1000}) as made:
        made.erp.arm("lose_answer")
        made.erp.arm("slow", delay_s=0, on="look")
        made.erp.arm("status", status=503, times=100, on="look")
        await made.order("o1", articles=2)
        await made.pass_time(120)
        assert await made.state() == ("held", "unknown")
        made.erp.disarm()
        await made.store.release(["acme/o1/1"], "anna")
        await made.run_once()
        row = await made.row()
        assert (row["status"], len(made.erp.made)) == ("held", 1)
        assert "it is unknown whether its steps were done" in row["reason"]


async def test_an_unclear_order_that_is_another_ones_gets_no_lines(tmp_path: Path) -> None:
    async with desk(tmp_path, text().replace("{order.order_ref}", "{order.currency}")) as made:
        await made.order("EUR", articles=1)
        await made.run_once()
        made.erp.made[0].confirmed = 0
        await made.order("o2", articles=3)
        (row,) = await made.store.lease_outbox("erp", 1, records_intent=True)
        await made.store.start_request(row, None)
        await made.store.release_all_leases()
        await until_settled(made)
        shown = await made.row("o2")
        assert (shown["status"], made.erp.made[0].lines) == ("held", ["A1"])
        assert "was made of acme/EUR/1" in shown["reason"]


async def test_a_configuration_that_has_fewer_steps_now_ends_the_order(tmp_path: Path) -> None:
    async with desk(tmp_path, LOOKUP) as made:
        await made.order("o1")
        (row,) = await made.store.lease_outbox("erp", 1, records_intent=True)
        await made.store.record_progress(row, Progress(step=2, erp_id="1"))
        await made.store.start_request(row, None)
        await made.store.release_all_leases()
        made.erp.made.append(Made(id=1, name="o1", key="acme/o1/1"))
        await made.run_once()
        assert await made.state() == ("done", "delivered")


@pytest.mark.parametrize("fault", ["lose_answer", "drop_before"])
async def test_the_last_request_is_found_out_by_whether_the_order_is_complete(tmp_path: Path, fault: Any) -> None:
    async with desk(tmp_path, text()) as made:
        for _ in range(3):
            made.erp.arm("slow", delay_s=0, on="step")
        made.erp.arm(fault, on="step")
        await made.order("o1", articles=3)
        await made.run_once()
        assert (await made.state())[0] == "unknown"
        await until_settled(made)
        assert await made.state() == ("done", "delivered")
        assert whole(made)
