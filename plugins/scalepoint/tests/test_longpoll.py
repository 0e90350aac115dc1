"""The poll door: one held call after the other, the cursor with the commit. Numbers: vendors/scalepoint.md, 4."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway_scalepoint.constructed import foreign
from gateway_scalepoint.settings import Start
from gateway_scalepoint.simulator import TENANT, ScalepointSimulator

from gateway import Url
from gateway.api.errors import StoreBusy

RECEIVE = f"/api/events/v1/dk/external/{TENANT}/receive?lastEventId="


def polls(simulator: ScalepointSimulator) -> list[str]:
    return [path.removeprefix(RECEIVE) for path in simulator.asked if path.startswith(RECEIVE)]


async def test_polling_begins_where_the_operator_says_and_asks_again_at_once(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    for one in [simulator.new() for _ in range(3)]:
        simulator.publish(one.event)
    wait_s = await made.poller.round()
    assert 0.9 <= wait_s <= 1.1
    assert polls(simulator) == ["_900000", "_900003"]
    assert await made.cursor() == "_900003"
    assert len(await made.sent()) == 3
    await made.poller.round()
    assert polls(simulator)[2:] == ["_900003"]


async def test_what_lies_before_the_start_is_not_asked_for(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench(start=Start(after_event="_900002"))
    orders = [simulator.new() for _ in range(3)]
    for one in orders:
        simulator.publish(one.event)
    await made.poller.round()
    assert [message["order"]["order_number"] for message in await made.sent()] == [orders[2].order["externalId"]]


async def test_case_11_an_empty_answer_and_a_timeout_are_no_news(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench(poll_timeout_s=0.1)
    for hold_s in (0.01, 5.0):
        simulator.hold_s = hold_s
        assert await made.poller.round() <= 1.1
        assert made.metrics.health.doors["claims", "poll"].state == "up"
    for status in (204, 304, 408):
        simulator.answer_next(status)
        assert await made.poller.round() <= 1.1
    assert made.metrics.health.doors["claims", "poll"].state == "up"
    assert polls(simulator) == ["_900000"] * 5


async def test_case_11_news_end_the_held_call(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    simulator.hold_s = 5.0
    task = asyncio.create_task(made.poller.round())
    async with asyncio.timeout(4):
        while not simulator.asked:
            await asyncio.sleep(0.005)
        one = simulator.new()
        simulator.publish(one.event)
        while not await made.inbox():
            await asyncio.sleep(0.005)
    task.cancel()
    assert await made.cursor() == "_900001"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (503, b""),
        (504, b"<html>"),
        (200, b"<html>sign in</html>"),
        (200, b'{"data": [{"id"'),
        (200, b"[]"),
        (302, b""),
        (404, b""),
        (200, b'{"data": [{"type": "x"}], "links": {}}'),
        (200, b'{"data": [1, 2]}'),
    ],
)
async def test_case_11_what_is_no_list_of_events_moves_nothing(
    bench: Any, simulator: ScalepointSimulator, status: int, body: bytes
) -> None:
    made = await bench()
    simulator.publish(simulator.new().event)
    simulator.answer_next(status, body)
    await made.poller.round()
    assert made.metrics.health.doors["claims", "poll"].state == "down"
    assert (await made.cursor(), await made.inbox()) == (None, [])
    await made.poller.round()
    assert made.metrics.health.doors["claims", "poll"].state == "up"
    assert len(await made.sent()) == 1


async def test_case_11_a_batch_whose_commit_failed_comes_again_whole(
    bench: Any, simulator: ScalepointSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await bench()
    for one in [simulator.new() for _ in range(3)]:
        simulator.publish(one.event)

    async def full(*_: Any, **__: Any) -> Any:
        raise StoreBusy("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(made.store, "accept", full)
        await made.poller.round()
    assert await made.cursor() is None
    await made.poller.round()
    assert polls(simulator) == ["_900000", "_900000", "_900003"]
    assert len(await made.sent()) == 3


async def test_case_11_a_batch_that_was_seen_before_a_restart_changes_nothing(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    for one in [simulator.new() for _ in range(3)]:
        simulator.publish(one.event)
    await made.poller.round()
    assert len(await made.sent()) == 3
    await made.store.accept("claims", "poll", [], cursor="_900000")
    await made.poller.round()
    assert await made.sent() == []
    assert len(await made.inbox()) == 3


@pytest.mark.parametrize("webhook_first", [True, False])
async def test_case_11_one_event_through_both_doors_is_one(bench: Any, simulator: ScalepointSimulator, webhook_first: bool) -> None:
    made, one = await bench(), simulator.new()
    simulator.publish(one.event)
    if webhook_first:
        await made.webhook(one.event)
    await made.poller.round()
    assert (await made.webhook(one.event))[0] == 200
    assert len(await made.sent()) == 1
    (row,) = await made.inbox()
    assert row["door"] == ("webhook" if webhook_first else "poll")
    assert sum("Orders" in path for path in simulator.asked) == 1


async def test_an_element_that_cannot_be_read_is_kept_and_the_rest_goes_on(bench: Any, simulator: ScalepointSimulator) -> None:
    made, good = await bench(), simulator.new()
    simulator.publish({"eventType": "order_created"})
    simulator.publish(good.event, attributes=None)
    simulator.publish(foreign("C0DE", simulator.now()))
    simulator.publish(good.event)
    await made.poller.round()
    assert len(await made.sent()) == 1
    assert [(row["status"], row["outcome"]) for row in await made.inbox()] == [
        ("dead", None),
        ("dead", None),
        ("done", "ignored"),
        ("done", "prepared"),
    ]
    assert await made.cursor() == "_900004"


async def test_an_element_can_be_read_again_once_the_settings_know_its_kind(bench: Any, simulator: ScalepointSimulator) -> None:
    """What `replay` does with it: it is read in the wrapper that it came in."""
    made, one = await bench(), simulator.new()
    simulator.publish({name: value for name, value in one.event.items() if name != "orderToken"})
    await made.poller.round()
    (row,) = await made.inbox()
    assert row["status"] == "dead"
    await made.store.replay([row["key"].removeprefix("claims/")], "test")
    assert await made.sent() == []
    (row,) = await made.inbox()
    assert (row["status"], row["reason"]) == ("dead", "an order event without an orderToken")


async def test_the_type_of_the_wrapper_counts_where_the_event_says_none(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new()
    simulator.publish({name: value for name, value in one.event.items() if name != "eventType"}, type="ORDER-CREATED")
    await made.poller.round()
    assert len(await made.sent()) == 1


@pytest.mark.parametrize(
    ("links", "cursor"),
    [
        ({"next": "https://elsewhere.example/receive?x=1&lastEventId=_900009"}, "_900009"),
        ({"next": "/receive?lastEventId=%5F900009"}, "_900009"),
        ({"next": None}, "_900001"),
        ({"next": "https://elsewhere.example/receive"}, "_900001"),
        ({"next": "https://[broken?lastEventId=_900009"}, "_900001"),
        ({"next": "/receive?lastEventId=a&lastEventId=b"}, "_900001"),
        ({}, "_900001"),
        ([], "_900001"),
        (None, "_900001"),
    ],
    ids=str,
)
async def test_the_next_id_is_taken_from_the_link_and_its_address_is_not_followed(
    bench: Any, simulator: ScalepointSimulator, links: Any, cursor: str
) -> None:
    made, one = await bench(), simulator.new()
    element = {"id": "_900001", "type": "order_created", "attributes": one.event}
    simulator.answer_next(200, json.dumps({"links": links, "data": [element]}).encode())
    await made.poller.round()
    assert await made.cursor() == cursor
    assert all(path.startswith(RECEIVE) for path in simulator.asked)


@pytest.mark.parametrize(
    "poison", [b"NaN", b'"\\ud83d"', b'"a\x01b"', b"[" * 5000 + b"]" * 5000], ids=["NaN", "surrogate", "control", "deep"]
)
async def test_one_poisoned_event_of_a_page_is_a_dead_letter_and_the_others_go_on(
    bench: Any, simulator: ScalepointSimulator, poison: bytes
) -> None:
    made = await bench()
    good = [json.dumps({"id": f"_90000{n}", "type": "order_created", "attributes": simulator.new().event}).encode() for n in (1, 3)]
    bad = b'{"id": "_900002", "type": "order_created", "attributes": {"orderToken": "T", "x": ' + poison + b"}}"
    simulator.answer_next(200, b'{"data": [' + b", ".join([good[0], bad, good[1]]) + b'], "links": {}}')
    await made.poller.round()
    assert sorted(row["status"] for row in await made.inbox()) == ["dead", "ready", "ready"]
    assert (await made.cursor(), made.metrics.health.doors["claims", "poll"].state) == ("_900003", "up")


async def test_ids_are_opaque_and_percent_encoded(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench(start=Start(after_event="a&b=c#d/é"))
    await made.poller.round()
    (asked,) = polls(simulator)
    assert asked.replace("%2F", "/") == "a%26b%3Dc%23d/%C3%A9"


async def test_a_server_that_does_not_move_on_is_not_hammered(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new()
    body = json.dumps({"links": {"next": "?lastEventId=_900000"}, "data": [{"id": "_900001", "attributes": one.event}]}).encode()
    simulator.answer_next(200, body, times=50)
    await made.poller.round()
    await made.poller.round()
    assert len(simulator.asked) <= 4
    assert made.metrics.health.doors["claims", "poll"].state == "down"


async def test_each_api_is_called_with_a_token_of_its_own_scope(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    simulator.publish(simulator.new().event)
    await made.poller.round()
    assert len(await made.sent()) == 1
    assert [form["scope"] for form in simulator.identity.forms] == ["events", "orders"]


async def test_the_event_api_may_be_on_another_host(bench: Any, simulator: ScalepointSimulator) -> None:
    other = ScalepointSimulator(now=simulator.now)
    other.hold_s, other.identity = 0.05, simulator.identity
    audience = simulator.identity.audience
    await other.start()
    simulator.identity.audience = audience
    try:
        made = await bench(receive_url=Url(other.settings()["receive_url"]))
        other.publish(simulator.new().event)
        await made.poller.round()
        assert len(await made.sent()) == 1
    finally:
        await other.stop()
