"""`answer = "delivered"`: a sender hears what the targets say, and what is refused to its face can be sent anew."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.testing import ErpSimulator
from tests import acme

PATIENT = 'answer = "delivered"\nanswer_wait_s = 20'


async def test_an_order_that_the_target_takes_is_answered_after_it(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, source=PATIENT)
    erp.arm("slow", delay_s=0.3)
    assert await running.deliver(acme.body("o1")) == (200, {"status": "stored", "key": "o1"})
    assert list(erp.orders) == ["acme/o1/1"]


async def test_an_order_that_the_target_refuses_is_a_422_with_its_words_and_leaves_nothing_to_decide(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, source=PATIENT)
    erp.arm("status", status=422, body="no such customer")
    assert await running.deliver(acme.body("o1")) == (422, {"status": "rejected", "reason": "no such customer"})
    assert [(row["status"], row["outcome"]) for row in await running.rows("outbox")] == [("done", "rejected")]
    assert [(row["status"], row["outcome"]) for row in await running.rows("inbox")] == [("done", "rejected")]


async def test_a_target_that_knows_where_its_words_are_says_only_those(start: Any, erp: ErpSimulator) -> None:
    target = """classify = [{ status = 422, class = "refused", message = "body.error" }]"""
    running = await start(erp.url, source=PATIENT, target=target)
    erp.arm("status", status=422, body='{"error": "no such customer", "debug": "Traceback"}')
    assert await running.deliver(acme.body("o1")) == (422, {"status": "rejected", "reason": "no such customer"})


async def test_the_same_order_sent_again_is_tried_again(start: Any, erp: ErpSimulator) -> None:
    """The master data is there now, and the customer presses send once more."""
    running = await start(erp.url, source=PATIENT)
    erp.arm("status", status=422, times=2)
    for wanted in (422, 422, 200, 200):
        assert (await running.deliver(acme.body("o1")))[0] == wanted
    (message,) = erp.messages()
    assert (message["kind"], message["order"]["flags"]) == ("order.placed", [])


async def test_an_edited_order_is_no_revision_of_the_refused_one(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, source=PATIENT)  # on_revision = hold
    erp.arm("status", status=422)
    assert (await running.deliver(acme.body("o1", 1)))[0] == 422
    assert (await running.deliver(acme.body("o1", 2)))[0] == 200
    (message,) = erp.messages()
    assert (message["kind"], message["order"]["lines"][0]["quantity"]) == ("order.placed", "2")
    assert (await running.deliver(acme.body("o1", 3)))[0] == 200  # a revision of one that was taken: held, and safe
    newest, *_ = await running.rows("inbox")
    assert newest["status"] == "held"


async def test_time_up_is_a_200_because_the_order_is_safe_and_will_go(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, source='answer = "delivered"\nanswer_wait_s = 0.1')
    erp.arm("slow", delay_s=1.0)
    assert (await running.deliver(acme.body("o1")))[0] == 200
    assert erp.orders == {}
    await erp.wait_for(1)


async def test_a_target_that_is_down_is_waited_for_and_then_a_200(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, source='answer = "delivered"\nanswer_wait_s = 0.3')
    await erp.stop()
    assert (await running.deliver(acme.body("o1")))[0] == 200
    await erp.start()
    await erp.wait_for(1)


async def test_many_senders_wait_at_the_same_time(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, source=PATIENT)
    erp.arm("status", status=422, times=5)
    answers = await asyncio.gather(*(running.deliver(acme.body(f"o{n}")) for n in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 15 + [422] * 5
    assert len(erp.orders) == 15


async def test_stored_is_the_default_and_waits_for_nobody(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url)
    erp.arm("status", status=422)
    assert (await running.deliver(acme.body("o1")))[0] == 200
