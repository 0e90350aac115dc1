"""Orders from both doors through a real store to the ERP. The numbers of the edge cases are those of vendors/apicbase.md, 4."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import gateway_apicbase
import pytest
from gateway_apicbase.constructed import line
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway.service.gateway import Gateway
from gateway.testing import ErpSimulator, ManualClock, running_gateway


def signed(order: dict[str, Any]) -> tuple[bytes, str]:
    body = json.dumps(order).encode()
    return body, hmac.new(b"constructed-secret-do-not-use", body, "sha256").hexdigest()


async def test_case_1_an_order_sent_again_because_the_answer_got_lost_is_one_order(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, order = await bench(), simulator.new()
    first = await made.webhook(*signed(order))
    assert first == (200, {"status": "stored", "key": order["id"]})
    assert await made.webhook(*signed(order)) == first
    assert [m["order"]["order_ref"] for m in await made.sent()] == [order["id"]]
    assert await made.webhook(*signed(order)) == first
    assert await made.webhook(*signed(order | {"ordered_on": "2024-03-31T12:03:00Z"})) == first
    assert await made.sent() == []
    assert [row["outcome"] for row in await made.inbox()] == ["prepared"]


async def test_case_2_an_edited_order_waits_for_a_person_together_with_what_has_not_left(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, order = await bench(), simulator.new()
    await made.webhook(*signed(order))
    await made.prepare.run_once()
    status, answer = await made.webhook(*signed(order | {"packages": [line(0, 6)], "theoretical_price": "74.07"}))
    assert (status, answer["key"]) == (200, f"{order['id']}@2")
    assert await made.sent() == []
    assert [(row["version"], row["status"]) for row in await made.inbox()] == [(1, "done"), (2, "held")]
    await made.store.release([f"{order['id']}@2"], "test")
    messages = await made.sent()
    assert [(m["kind"], m["order"]["revision"], m["order"]["total"]) for m in messages] == [
        ("order.placed", 1, "49.38"),
        ("order.revised", 2, "74.07"),
    ]
    assert messages[1]["order"]["flags"] == ["resubmitted"]


async def test_case_2_an_edited_order_replaces_what_has_not_left_where_that_is_configured(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, order = await bench(on_revision="replace"), simulator.new()
    await made.webhook(*signed(order))
    await made.prepare.run_once()
    await made.webhook(*signed(order | {"order_remarks": "edited"}))
    assert [(m["kind"], m["order"]["revision"], m["order"]["notes"]) for m in await made.sent()] == [("order.placed", 2, "edited")]


async def test_case_3_an_order_by_webhook_and_by_poll_is_one_order(bench: Any, simulator: ApicbaseSimulator) -> None:
    """The listed one has marks beside it, and its texts are encoded in another way."""
    made, order = await bench(), simulator.new(order_remarks="é")
    await made.webhook(*signed(order))
    simulator.enlist(
        order, raw=json.dumps(order | {"fetched_by_supplier": True, "owned_by": order["owned_by"]}, ensure_ascii=False).encode()
    )
    await made.poller.round()
    simulator.deliver(order["id"])
    await made.poller.round()
    assert len(simulator.asked) == 4
    assert [m["order"]["order_ref"] for m in await made.sent()] == [order["id"]]
    assert [(row["door"], row["version"]) for row in await made.inbox()] == [("webhook", 1)]


async def test_case_3_an_order_by_poll_and_then_by_webhook_is_one_order(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, order = await bench(), simulator.new()
    simulator.enlist(order)
    await made.poller.round()
    assert (await made.webhook(*signed(order)))[0] == 200
    assert len(await made.sent()) == 1
    assert [(row["door"], row["version"]) for row in await made.inbox()] == [("poll", 1)]


async def test_an_order_edited_at_apicbase_is_a_revision_through_the_list_as_well(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, order = await bench(on_revision="send"), simulator.new()
    await made.webhook(*signed(order))
    simulator.enlist(order | {"order_remarks": "edited"})
    await made.poller.round()
    assert [(m["kind"], m["order"]["notes"]) for m in await made.sent()] == [("order.placed", None), ("order.revised", "edited")]


@pytest.mark.parametrize("policy", ["hold", "replace", "send"])
async def test_a_list_that_lags_behind_the_webhook_brings_no_older_version_back(
    bench: Any, simulator: ApicbaseSimulator, policy: Any
) -> None:
    made, order = await bench(on_revision=policy), simulator.new()
    newer = order | {"order_remarks": "newer", "ordered_on": "2024-03-31T12:05:00.500000Z"}
    for one in (order, newer):
        await made.webhook(*signed(one))
        await made.sent()
    before = len(await made.inbox())
    simulator.enlist(order | {"order_remarks": "typed in between", "ordered_on": "2024-03-31T12:04:00Z"})
    for _ in range(2):
        await made.poller.round()
    assert await made.sent() == []
    assert [row["outcome"] for row in await made.inbox()][before:] == ["earlier_version"], "it is kept once"
    assert (await made.webhook(*signed(order)))[0] == 200, "a recorded request"
    assert await made.sent() == []
    simulator.enlist(newer | {"ordered_on": "2024-03-31T12:05:00Z"})  # as the list shows it
    await made.poller.round()
    assert [row["outcome"] for row in await made.inbox()][before:] == ["earlier_version"] * 2


async def test_case_15_an_unreadable_webhook_is_a_400_and_kept_with_its_raw_body(bench: Any, simulator: ApicbaseSimulator) -> None:
    made = await bench()
    body = b"\xef\xbb\xbf" + signed(simulator.new())[0]
    signature = hmac.new(b"constructed-secret-do-not-use", body, "sha256").hexdigest()
    status, answer = await made.webhook(body, signature)
    assert status == 400
    (row,) = await made.inbox()
    assert (row["status"], row["key"].removeprefix("apicbase/")) == ("dead", answer["key"])
    (shown,) = await made.reader.show(row["key"])
    assert shown["body"] == body


async def test_an_unreadable_row_of_the_list_is_kept_once_however_often_it_comes(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, good = await bench(), simulator.new()
    simulator.enlist(simulator.new(), raw=b'{"id": "p", "theoretical_price": NaN}')
    simulator.enlist(good)
    await made.poller.round()
    await made.poller.round()
    assert [(row["status"], row["order_ref"]) for row in await made.inbox()] == [("dead", None), ("ready", good["id"])]


async def test_a_wrong_signature_is_a_401_and_nothing_is_stored(bench: Any, simulator: ApicbaseSimulator) -> None:
    made = await bench()
    body, signature = signed(simulator.new())
    assert (await made.webhook(body + b" ", "0" * 64))[0] == 401
    assert (await made.webhook(body, "sha256=" + signature))[0] == 401
    assert await made.inbox() == []


async def test_a_refused_order_can_be_edited_and_sent_again(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, cart = await bench(refuse=("empty_order",)), simulator.new(lines=[])
    assert await made.webhook(*signed(cart)) == (422, {"status": "rejected", "reason": "The order has no articles."})
    assert await made.inbox() == []
    assert (await made.webhook(*signed(cart | {"packages": [line(0, 4)], "theoretical_price": "49.38"})))[0] == 200
    (message,) = await made.sent()
    assert (message["kind"], message["order"]["revision"], message["order"]["flags"]) == ("order.placed", 1, [])


async def test_an_unwanted_order_by_poll_waits_until_a_person_has_told_the_customer(bench: Any, simulator: ApicbaseSimulator) -> None:
    made = await bench(refuse=("unknown_customer",), known_customers=("0010023",))
    strange = simulator.enlist(simulator.new(customer="UNKNOWN-9"))
    await made.poller.round()
    assert await made.sent() == []
    (row,) = await made.inbox()
    assert row["status"] == "held"
    assert "supplier_customer_number is not among known_customers" in row["reason"]
    assert "UNKNOWN-9" not in row["reason"]
    assert "tell the customer" in row["reason"]
    await made.store.release([strange], "test")
    (message,) = await made.sent()
    assert message["order"]["flags"] == ["unknown_customer"]


async def test_marks_follow_what_is_stored_and_what_the_erp_has_taken(bench: Any, simulator: ApicbaseSimulator) -> None:
    made, order = await bench(mark_fetched="stored", mark_viewed="delivered"), simulator.new()
    await made.webhook(*signed(order))
    simulator.enlist(order)
    await made.acknowledge.run_once()
    assert set(simulator.listed[order["id"]].marks) == {"fetched_by_supplier"}
    await made.sent()
    await made.acknowledge.run_once()
    assert set(simulator.listed[order["id"]].marks) == {"fetched_by_supplier", "viewed_by_supplier"}
    await made.poller.round()
    assert await made.sent() == []


async def test_case_7_the_door_is_down_while_the_credentials_are_wrong(
    bench: Any, simulator: ApicbaseSimulator, clock: ManualClock
) -> None:
    made = await bench()
    simulator.client_secret = "changed at the vendor"
    assert await made.poller.round() >= 900
    simulator.client_secret = "constructed-client-secret"
    simulator.enlist(simulator.new())
    await made.poller.round()
    assert len(await made.sent()) == 1


async def test_case_8_a_429_of_the_poll_does_not_touch_the_webhook(bench: Any, simulator: ApicbaseSimulator) -> None:
    made = await bench()
    simulator.limit_per_minute = 0
    simulator.names_wait = False
    assert await made.poller.round() > 0
    assert (await made.webhook(*signed(simulator.new())))[0] == 200


@pytest.fixture
async def live() -> AsyncIterator[ApicbaseSimulator]:
    """A simulator whose clock is the machine's, as the gateway's is."""
    async with ApicbaseSimulator() as simulator:
        yield simulator


@pytest.fixture
async def gateway(live: ApicbaseSimulator, erp: ErpSimulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A whole gateway in this process, as configured for the demo."""
    source = live.source(tmp_path)
    source["settings"]["poll_interval_s"] = 0.5
    async with running_gateway(gateway_apicbase, source, tmp_path, erp.url, name="apicbase") as gateway:
        yield gateway


async def test_case_16_an_order_is_taken_while_the_erp_is_down_and_delivered_when_it_is_back(
    gateway: Gateway, live: ApicbaseSimulator, erp: ErpSimulator
) -> None:
    await erp.stop()
    url = f"http://127.0.0.1:{gateway.vendors.port}"
    sent = [await live.place(url, "apicbase") for _ in range(3)]
    assert [one.answer for one in sent] == ["taken"] * 3
    assert erp.orders == {}
    await erp.start()
    await erp.wait_for(3)
    assert {m["order"]["order_ref"] for m in erp.messages()} == {one.order_ref for one in sent}


async def test_the_simulators_script_ends_as_it_says(gateway: Gateway, live: ApicbaseSimulator, erp: ErpSimulator) -> None:
    sent = await live.script(f"http://127.0.0.1:{gateway.vendors.port}", "apicbase")
    placed = [one for one in sent if one.expected == "placed"]
    await erp.wait_for(len(placed))
    held: list[Any] = []
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        while len(held) < sum(one.expected == "held" for one in sent):
            async with session.get(f"http://127.0.0.1:{gateway.pages.port}/api/inbox?status=held") as answer:
                held = await answer.json()
    assert [row["order_ref"] for row in held] == [one.order_ref for one in sent if one.expected == "held"]
    assert [one.answer for one in sent if one.expected == "nothing"] == ["refused", "refused"]
    got = {m["order"]["order_ref"]: m["order"] for m in erp.messages()}
    assert {ref: (o["order_number"], len(o["lines"]), o["total"]) for ref, o in got.items()} == {
        one.order_ref: (one.order_number, one.lines, one.total) for one in placed
    }
    assert {flag for order in got.values() for flag in order["flags"]} == {"test", "delivered_unseen", "unreadable_price"}
    assert len(erp.messages()) == len(placed)
