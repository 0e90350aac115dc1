"""An ERP that recognises no repeat: whatever is lost on the way, one order is one order (erp_targets.md sections 4.1 and 7)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.engine.deliver import Deliver
from gateway.targets.preflight import Seen
from gateway.testing.erp import Made

from .unkeyed import KEY, LOOKUP, Desk, desk

NONE = KEY.replace("KIND", "none")


async def settle(made: Desk) -> None:
    await made.pass_time(400)


# --- with a look-up


async def test_an_order_is_looked_for_and_then_made(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["outcome"], row["erp_id"], row["erp_number"]) == ("done", "delivered", "1", "SO-000001")
        assert (made.erp.looks, len(made.erp.made)) == (1, 1)


@pytest.mark.parametrize("fault", ["lose_answer", "reset", "half_answer"])
async def test_what_was_taken_and_not_answered_is_found(tmp_path: Path, fault: Any) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm(fault)
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("unknown", "unknown")
        await settle(made)
        row = await made.row()
        assert (row["status"], row["outcome"], row["erp_id"]) == ("done", "duplicate", "1")
        assert len(made.erp.made) == 1


@pytest.mark.parametrize("fault", [{"fault": "drop_before"}, *({"fault": "status", "status": s} for s in (408, 500, 502, 504))])
async def test_what_was_not_taken_is_sent_again_once_that_is_sure(tmp_path: Path, fault: dict[str, Any]) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm(**fault)
        await made.order("o1")
        await made.run_once()
        await made.pass_time(110)
        assert await made.state() == ("unknown", "unknown"), "not before the ERP has had its time"
        await settle(made)
        assert (await made.state(), len(made.erp.made)) == (("done", "delivered"), 1)
        assert made.erp.looks >= 1 + 5 + 1, "before it, five times after it, and before the second time"


async def test_an_order_that_the_erp_takes_after_we_gave_up_is_found(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("slow", delay_s=0.8)
        await made.order("o1")
        await made.run_once()
        made.clock.advance(5)
        await made.run_once()  # too early: it is not there yet
        assert (await made.state(), len(made.erp.made)) == (("unknown", "unknown"), 0)
        await asyncio.sleep(0.8)
        await settle(made)
        assert (await made.state(), len(made.erp.made)) == (("done", "duplicate"), 1)


async def test_a_crash_in_mid_request_makes_no_second_order(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("slow", delay_s=0.2)
        await made.order("o1")
        (row,) = await made.store.lease_outbox("erp", 1, records_intent=True)
        await made.store.start_request(row, None)
        await made.store.release_all_leases()  # what a restart does
        assert await made.state() == ("unknown", None)
        made.erp.disarm()
        await made.run_once()
        assert len(made.erp.made) == 0, "nothing is sent before it is known that the first one was not taken"
        await settle(made)
        assert (await made.state(), made.erp.doubled()) == (("done", "delivered"), [])


async def test_a_crash_before_anything_left_costs_no_time(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await made.order("o1")
        await made.store.lease_outbox("erp", 1, records_intent=True)
        await made.store.release_all_leases()
        await made.run_once()
        assert await made.state() == ("done", "delivered")


async def test_two_workers_make_one_order(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        other = Deliver(made.target, {}, made.store, made.metrics, made.clock)
        for n in range(30):
            await made.order(f"o{n}")
        await asyncio.gather(*(made.run_once(worker, 7) for worker in (made.deliver, other) * 5))
        assert (len(made.erp.made), made.erp.doubled()) == (30, [])


async def test_two_orders_under_one_name_are_made_once_and_the_second_is_a_persons(tmp_path: Path) -> None:
    """A customer's number twice, at the same moment: the ERP would find the one when it is asked for the other."""
    text = LOOKUP.replace("{order.order_ref}", "{order.currency}")
    async with desk(tmp_path, text) as made:
        for ref in ("EUR", "o2"):
            await made.order(ref)
        await made.run_once()
        states = sorted([await made.state("EUR"), await made.state("o2")])
        assert (states, len(made.erp.made)) == ([("done", "delivered"), ("held", "held")], 1)
        held = next(row for row in (await made.rows()).values() if row["status"] == "held")
        assert "another order under the same name" in held["reason"]


async def test_a_change_of_an_order_that_is_there_is_a_persons(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await made.order("o1")
        await made.run_once()
        await made.order("o1", 2, "order.revised")
        await made.run_once()
        row = (await made.rows())["acme/o1/2"]
        assert (row["status"], len(made.erp.made)) == ("held", 1)
        assert "make it there by hand" in row["reason"]


async def test_several_orders_under_one_name_are_a_persons(tmp_path: Path) -> None:
    """Made twice by hand, or a look-up that does not look for this order alone, and would count everything as delivered."""
    async with desk(tmp_path) as made:
        made.erp.made += [Made(id=1, name="o1", key="by hand"), Made(id=2, name="o1", key="by hand")]
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["reason"]) == ("held", "the target has 2 orders under this name: 1, 2; look at them")


async def test_the_next_message_waits_while_one_is_unknown(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("lose_answer")
        await made.order("o1")
        await made.run_once()
        await made.order("o1", 2, "order.revised")
        assert await made.run_once() == 0


async def test_a_look_up_that_fails_decides_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, breaker={"failures": 1000}) as made:
        made.erp.arm("drop_before")
        await made.order("o1")
        await made.run_once()
        made.erp.arm("status", status=503, times=1000, on="look")
        await settle(made)
        assert (await made.state(), len(made.erp.made)) == (("unknown", "unknown"), 0)
        made.erp.disarm()
        await settle(made)
        assert (await made.state(), len(made.erp.made)) == (("done", "delivered"), 1)


async def test_what_stays_unknown_for_too_long_waits_for_a_person(tmp_path: Path) -> None:
    async with desk(tmp_path, breaker={"failures": 1000}, retry={"max_age_s": 300.0}) as made:
        made.erp.arm("lose_answer")
        await made.order("o1")
        await made.run_once()
        made.erp.arm("status", status=503, times=1000, on="look")
        await settle(made)
        assert await made.state() == ("held", "unknown")
        made.erp.disarm()
        await made.store.release(["acme/o1/1"], "anna")
        await made.run_once()
        assert (await made.state(), len(made.erp.made)) == (("done", "duplicate"), 1)


@pytest.mark.parametrize(("status", "hint"), [(401, "check its credentials"), (404, "check preflight.url"), (302, "redirects")])
async def test_a_look_up_that_is_set_up_wrongly_holds_the_target_and_sends_nothing(tmp_path: Path, status: int, hint: str) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=status, on="look")
        await made.order("o1")
        await made.run_once()
        assert made.metrics.health.targets["erp"].state == "paused"
        assert hint in (made.metrics.health.targets["erp"].reason or "")
        assert made.erp.heard == []


async def test_404_can_mean_that_it_is_not_there(tmp_path: Path) -> None:
    async with desk(tmp_path, LOOKUP.replace("[preflight]", "[preflight]\nabsent = [404]")) as made:
        made.erp.arm("status", status=404, on="look")
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("done", "delivered")


@pytest.mark.parametrize("found", ["body.value[0].id", "body.nonsense", "$count(body.value)"])
async def test_a_condition_that_is_neither_true_nor_false_sends_nothing(tmp_path: Path, found: str) -> None:
    async with desk(tmp_path, LOOKUP.replace("$count(body.value) > 0", found)) as made:
        await made.order("o1")
        await made.run_once()
        assert (made.metrics.health.targets["erp"].state, made.erp.heard) == ("paused", [])


async def test_a_look_up_that_answers_with_an_error_sends_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=200, body='{"error": {"code": 1}}', on="look")
        await made.order("o1")
        await made.run_once()
        assert (await made.state(), made.erp.heard) == (("held", "held"), [])


async def test_preflight_skipped_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad mutant of this file: nobody looks, and a lost answer makes two orders."""

    async def skipped(*_: Any) -> Seen:
        return Seen(found=False)

    monkeypatch.setattr("gateway.targets.attempt_io.look", skipped)
    async with desk(tmp_path) as made:
        made.erp.arm("lose_answer")
        await made.order("o1")
        await made.run_once()
        await settle(made)
        assert made.erp.doubled() == ["acme/o1/1"]


# --- 409 and 500


async def test_409_is_a_duplicate_where_it_is_there(tmp_path: Path) -> None:
    text = LOOKUP.replace('"lookup"', '"client_key"')
    async with desk(tmp_path, text) as made:
        await made.order("o1")
        made.erp.made.append(Made(id=1, name="o1", key="by hand"))
        made.erp.arm("status", status=409)
        await made.run_once()
        assert await made.state() == ("done", "duplicate")


async def test_409_is_a_lock_where_it_is_not_there_and_is_believed_five_times(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=409, times=4)
        await made.order("o1")
        for _ in range(40):
            await made.pass_time(30)
        assert await made.state() == ("done", "delivered")
        made.erp.arm("status", status=409, times=99)
        await made.order("o2")
        for _ in range(40):
            await made.pass_time(30)
        row = await made.row("o2")
        assert (row["status"], row["outcome"], row["reason"]) == ("dead", "refused", "the target refuses the order (5 times 409)")


async def test_500_is_believed_three_times(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=500, times=99)
        await made.order("o1")
        await made.pass_time(1500)
        row = await made.row()
        assert (row["status"], row["reason"]) == ("dead", "the target fails on this order (3 times 500)")
        assert len([heard for heard in made.erp.heard if heard.status == 500]) == 3
        made.erp.disarm()
        await made.store.replay(["acme/o1/1"], "anna")
        await made.run_once()
        assert await made.state() == ("done", "delivered")


# --- without a look-up


@pytest.mark.parametrize("fault", ["lose_answer", "drop_before"])
async def test_without_a_look_up_a_person_decides(tmp_path: Path, fault: Any) -> None:
    async with desk(tmp_path, NONE) as made:
        made.erp.arm(fault)
        await made.order("o1")
        await made.run_once()
        row = await made.row()
        assert (row["status"], row["outcome"]) == ("held", "unknown")
        assert "it is unknown whether it was taken" in row["reason"]
        await settle(made)
        assert len(made.erp.heard) == 1
        if fault == "drop_before":
            await made.store.release(["acme/o1/1"], "anna")
            await made.run_once()
            assert await made.state() == ("done", "delivered")
        else:
            await made.store.drop(["acme/o1/1"], "anna", "it is there")
            assert await made.state() == ("done", "dropped")
        assert made.erp.doubled() == []


async def test_without_a_look_up_a_crash_in_mid_request_is_a_persons(tmp_path: Path) -> None:
    async with desk(tmp_path, NONE) as made:
        await made.order("o1")
        (row,) = await made.store.lease_outbox("erp", 1, records_intent=True)
        await made.store.start_request(row, None)
        await made.store.release_all_leases()
        await made.run_once()
        assert (await made.state(), made.erp.heard) == (("held", "unknown"), [])


async def test_without_a_look_up_what_never_left_is_tried_again(tmp_path: Path) -> None:
    async with desk(tmp_path, NONE, breaker={"failures": 1000}) as made:
        await made.erp.stop()
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("ready", "retry")
        await made.erp.start()
        await settle(made)
        assert await made.state() == ("done", "delivered")


@pytest.mark.parametrize("strategy", ["client_key", "upsert"])
async def test_an_erp_that_knows_a_key_of_ours_is_sent_the_order_again(tmp_path: Path, strategy: str) -> None:
    async with desk(tmp_path, KEY.replace("KIND", strategy)) as made:
        made.erp.honours_key = True
        made.erp.arm("lose_answer")
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("ready", "retry")
        await settle(made)
        assert (await made.state(), len(made.erp.orders)) == (("done", "delivered"), 1)


async def test_a_shutdown_in_mid_request_leaves_it_unknown(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("slow", delay_s=0.2)
        await made.order("o1")
        await made.deliver._start_up_to(1)
        while not (await made.store._run(lambda db: db.execute("SELECT count(*) FROM outbox WHERE request_started = 1").fetchone()[0])):
            await asyncio.sleep(0.01)
        await made.deliver.drain(0)
        assert await made.state() == ("unknown", "handed_back")
        await asyncio.sleep(0.3)
        await settle_with(made)
        assert (await made.state(), len(made.erp.made)) == (("done", "duplicate"), 1)


async def settle_with(made: Desk) -> None:
    fresh = Deliver(made.target, {}, made.store, made.metrics, made.clock)
    for _ in range(20):
        made.clock.advance(30)
        await made.run_once(fresh)


# --- the breaker


async def test_a_target_that_is_down_is_probed_with_a_look_up_and_no_order(tmp_path: Path) -> None:
    async with desk(tmp_path, breaker={"failures": 3, "cooldown_s": 30.0}) as made:
        made.erp.arm("status", status=503, times=1000, on="look")
        for n in range(5):
            await made.order(f"o{n}")
        for _ in range(3):
            await made.run_once(limit=1)
        assert made.deliver.health.breaker.is_open
        made.clock.advance(31)
        assert made.deliver._allowance() == 1
        looks = made.erp.looks
        await made.run_once(limit=1)
        assert (made.erp.looks, made.erp.heard, made.deliver._allowance()) == (looks + 1, [], 0)
        made.erp.disarm()
        made.clock.advance(31)
        await made.run_once(limit=1)
        assert (made.deliver.health.breaker.is_open, len(made.erp.made)) == (False, 1)


async def test_an_order_that_never_reaches_the_target_says_nothing_about_it(tmp_path: Path) -> None:
    """Its message is damaged, or its mapping refuses it: the target is as down as before."""
    async with desk(tmp_path, LOOKUP.replace("{order.order_ref}", "{order.notes}"), breaker={"failures": 1, "cooldown_s": 30.0}) as made:
        made.deliver.health.breaker.record_failure(made.clock.monotonic(), 99, began=0.0)
        made.clock.advance(31)
        await made.order("o1")
        await made.run_once()
        assert await made.state() == ("dead", "refused")
        assert "order.notes" in (await made.row())["reason"]
        assert made.deliver.health.breaker.is_open
