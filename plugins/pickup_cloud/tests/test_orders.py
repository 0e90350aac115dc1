"""Orders from the hub's call through a real store to the ERP. The numbers of the edge cases are those of vendors/pickup_cloud.md, 4."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from gateway_pickup_cloud.constructed import CATALOGUE, article, midnight
from gateway_pickup_cloud.events import UNKNOWN
from gateway_pickup_cloud.simulator import PickupCloudSimulator

from gateway.testing import ManualClock

A, B = CATALOGUE[0][0], CATALOGUE[1][0]


def said(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["kind"], message["order"]["status"]) for message in messages]


async def test_an_order_goes_through_all_its_states(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    made, number = await bench(), simulator.create(article(0))
    for state in ("READYFORINPUT", "READYFORPICKUP", "PICKEDUP"):
        clock.advance(60)
        await simulator.move(number, state)
    messages = await made.sent()
    assert said(messages) == [("order.placed", "ready_for_input"), ("order.status", "ready_for_pickup"), ("order.status", "picked_up")]
    assert [m["key"] for m in messages] == [f"pickup_cloud/{number}/{n}" for n in (1, 2, 3)]
    assert [m["occurred_at"] for m in messages] == [f"2024-03-31T12:0{n}:00Z" for n in (1, 2, 3)]
    assert [len(m["order"]["lines"]) for m in messages] == [1, 1, 1]


async def test_a_cancellation_is_an_order_cancelled(bench: Any, simulator: PickupCloudSimulator) -> None:
    made, number = await bench(), simulator.create()
    await simulator.move(number, "READYFORINPUT")
    await simulator.move(number, "CANCELED")
    assert said(await made.sent()) == [("order.placed", "ready_for_input"), ("order.cancelled", "cancelled")]


async def test_the_nasty_sequence(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    """vendors/pickup_cloud.md 5.6, row by row; the alias of row 6 is in test_hubs.py, since names are the door's."""
    made, number = await bench(), simulator.create(article(0))
    five_past_ten = datetime.fromisoformat("2024-03-31T10:05:00Z")
    await simulator.move(number, "PICKEDUP", at=five_past_ten)
    assert said(await made.sent()) == [("order.placed", "picked_up")]
    await simulator.tell(number, "READYFORPICKUP", at=five_past_ten - timedelta(minutes=7))
    assert await made.sent() == []
    await simulator.tell(number, "PICKEDUP", at=five_past_ten)
    assert await made.sent() == []
    await simulator.tell_article(number, A, "SCHEDULED", due=midnight(clock.now(), 28))
    (message,) = await made.sent()
    assert (message["kind"], message["order"]["status"]) == ("order.status", "picked_up")
    assert [(line["due_at"], line["status"]) for line in message["order"]["lines"]] == [("2024-04-27T22:00:00Z", "scheduled")]
    await simulator.tell(number, "RETURNED", at=five_past_ten + timedelta(minutes=1))
    assert await made.sent() == []
    assert await made.outcomes() == [
        ("prepared", None),
        ("ignored", "it is older than the change to picked_up"),
        ("prepared", None),
        ("flagged", UNKNOWN),
    ]


async def test_case_1_what_a_gap_hid_is_forwarded_once_also_when_it_is_told_after_all(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create(article(0), article(1))
    await simulator.move(number, "READYFORINPUT")
    assert len(await made.sent()) == 1
    simulator.push = nobody  # type: ignore[method-assign]
    clock.advance(60)
    await simulator.move(number, "READYFORPICKUP")
    late = clock.now()
    await made.resync()
    await made.resync()
    assert said(await made.sent()) == [("order.status", "ready_for_pickup")]
    await made.resync()
    simulator.push = made.push  # type: ignore[method-assign]
    await simulator.tell(number, "READYFORPICKUP", at=late)
    assert await made.sent() == []
    assert [row["door"] for row in await made.inbox()] == ["realtime", "poll"]


async def nobody(target: str, *arguments: Any) -> None:
    pass


async def test_case_1_every_order_that_may_still_change_is_asked_for_and_no_other(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made = await bench()
    states = {"READYFORINPUT": True, "READYFORPICKUP": True, "SCHEDULED": True, "PICKEDUP": False, "CANCELED": False}
    numbers = {state: simulator.create(state=state) for state in states}
    recurrent = simulator.create(state="SCHEDULED")
    for state, number in numbers.items():
        await simulator.move(number, state)
    for state in ("SCHEDULED", "PICKEDUP"):
        await simulator.move(recurrent, state)
    await made.sent()
    before = {number: order.asked for number, order in simulator.orders.items()}
    await made.resync()
    asked = {number: order.asked - before[number] for number, order in simulator.orders.items()}
    assert asked == {number: int(states[state]) for state, number in numbers.items()} | {recurrent: 1}


async def test_case_1_the_states_of_articles_are_found_where_the_answer_shows_them(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create(article(0), article(1))
    await simulator.move(number, "READYFORINPUT")
    await made.sent()
    shown = simulator.orders[number].shown
    assert shown is not None
    shown["articles"][0] |= {"orderArticleState": "READYFORPICKUP", "orderArticleStateChangedDate": "2024-03-31T12:00:00Z"}
    await made.resync()
    await made.resync()
    (message,) = await made.sent()
    assert [line["status"] for line in message["order"]["lines"]] == ["ready_for_pickup", None]
    await made.resync()
    await simulator.tell_article(number, A, "READYFORPICKUP", at=clock.now())
    assert await made.sent() == []


async def test_case_2_an_answer_that_was_overtaken_changes_nothing(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    """The resync reads READYFORPICKUP; PICKEDUP is pushed and made before its event's turn comes."""
    made, number = await bench(), simulator.create(article(0))
    await simulator.move(number, "READYFORINPUT")
    await made.sent()
    clock.advance(60)
    simulator.push = nobody  # type: ignore[method-assign]
    await simulator.move(number, "READYFORPICKUP")
    simulator.push = made.push  # type: ignore[method-assign]
    clock.advance(60)
    await simulator.tell(number, "PICKEDUP", at=clock.now())
    await made.resync()
    assert said(await made.sent()) == [("order.status", "picked_up")]
    assert (await made.outcomes())[-1] == ("ignored", "it is older than the change to picked_up")


async def test_case_3_an_order_that_is_told_of_before_it_is_there_is_fetched_later(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create(article(0))
    shown, simulator.orders[number].shown = simulator.orders[number].shown, None
    await simulator.tell(number, "READYFORINPUT", at=clock.now())
    assert await made.sent() == []
    simulator.orders[number].shown = shown
    clock.advance(1)
    assert await made.sent() == []
    clock.advance(1)
    assert said(await made.sent()) == [("order.placed", "ready_for_input")]


async def test_case_6_a_recurrent_order_begins_again_after_each_pick_up(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create(state="SCHEDULED")
    statuses = []
    for _ in range(2):
        for state in ("SCHEDULED", "READYFORINPUT", "READYFORPICKUP", "PICKEDUP"):
            await simulator.move(number, state)
            statuses += said(await made.sent())
            await made.resync()
            clock.advance(7 * 86400)
    assert [status for _, status in statuses] == ["scheduled", "ready_for_input", "ready_for_pickup", "picked_up"] * 2
    assert [kind for kind, _ in statuses] == ["order.placed", *["order.status"] * 7]


async def test_case_6_the_next_interval_is_found_by_asking_as_well(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    made, number = await bench(), simulator.create(state="SCHEDULED")
    for state in ("SCHEDULED", "PICKEDUP"):
        await simulator.move(number, state)
    await made.sent()
    simulator.push = nobody  # type: ignore[method-assign]
    clock.advance(86400)
    shown = simulator.orders[number].shown
    assert shown is not None
    shown |= {"state": "SCHEDULED", "lastUpdateDate": None}
    for _ in range(2):
        await made.resync()
    assert said(await made.sent()) == [("order.status", "scheduled")]
    for _ in range(2):
        await made.resync()
    assert await made.sent() == []


async def test_case_6_what_must_be_remembered_outlives_the_erasing_of_bodies(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create(state="SCHEDULED")
    first, second = midnight(clock.now(), 28), midnight(clock.now(), 56)
    await simulator.move(number, "SCHEDULED")
    await simulator.tell_article(number, A, "READYFORPICKUP", at=clock.now(), due=first, quantity=2)
    await made.sent()
    clock.advance(40 * 86400)
    while await made.store.redact_bodies(clock.now(), 100):
        pass
    await simulator.tell_article(number, A, "SCHEDULED", due=second, quantity=2)
    (message,) = await made.sent()
    assert [(line["line_number"], line["status"]) for line in message["order"]["lines"]] == [(1, "ready_for_pickup"), (2, "scheduled")]


async def test_case_7_a_notification_that_comes_twice_is_stored_once(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create(article(0))
    for _ in range(2):
        await simulator.move(number, "READYFORINPUT", at=clock.now())
    simulator.layout = "camel"
    await simulator.tell(number, "READYFORINPUT", at=clock.now())
    assert len(await made.inbox()) == 1
    assert len(await made.sent()) == 1


async def test_case_7_scheduled_twice_is_forwarded_once(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    made, number = await bench(), simulator.create(state="SCHEDULED")
    for _ in range(2):
        await simulator.move(number, "SCHEDULED")
        await simulator.tell_article(number, A, "SCHEDULED", due=midnight(clock.now(), 28))
        clock.advance(1)
    assert said(await made.sent()) == [("order.placed", "scheduled"), ("order.status", "scheduled")]
    assert [outcome for outcome, _ in await made.outcomes()] == ["prepared", "prepared", "ignored", "ignored"]


async def test_case_8_articles_and_order_are_told_apart(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    made, number = await bench(), simulator.create(article(0), article(1))
    await simulator.move(number, "READYFORPICKUP")
    await simulator.tell_article(number, A, "PICKEDUP", at=clock.now())
    await simulator.tell_article(number, B, "READYFORPICKUP", at=clock.now())
    messages = await made.sent()
    assert {message["order"]["status"] for message in messages} == {"ready_for_pickup"}
    assert [line["status"] for line in messages[-1]["order"]["lines"]] == ["picked_up", "ready_for_pickup"]


async def test_case_9_an_order_that_is_not_known_waits_for_a_person_in_the_end(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(fetch_give_up_s=100.0, fetch_retry_s=(10.0, 50.0)), simulator.create()
    shown, simulator.orders[number].shown = simulator.orders[number].shown, None
    await simulator.tell(number, "READYFORINPUT", at=clock.now())
    for _ in range(4):
        assert await made.sent() == []
        clock.advance(50)
    ((outcome, reason),) = await made.outcomes()
    assert outcome == "given_up"
    assert "it is not ours, or not there yet" in reason
    simulator.orders[number].shown = shown
    (row,) = await made.inbox()
    await made.store.release([row["key"]], "anna")
    assert said(await made.sent()) == [("order.placed", "ready_for_input")]


AWKWARD = ["WEB/2024 00042#ä", "50%", "%2F", "?a=b&c", "a//b", "..a", "\u202e1", "+1;x", "x" * 200, " 1"]


@pytest.mark.parametrize("number", AWKWARD)
async def test_case_10_an_awkward_number_is_asked_for_as_it_is(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock, number: str
) -> None:
    made = await bench()
    simulator.create(number=number)
    await simulator.move(number, "READYFORINPUT")
    if not number.isprintable():
        assert [row["status"] for row in await made.inbox()] == ["dead"]
        return
    (message,) = await made.sent()
    assert message["order"]["order_number"] == number
    clock.advance(60)
    await simulator.move(number, "READYFORPICKUP")
    await made.resync()
    assert said(await made.sent()) == [("order.status", "ready_for_pickup")]


@pytest.mark.parametrize("number", [".", ".."])
async def test_case_10_a_number_that_means_a_folder_is_a_dead_letter(bench: Any, simulator: PickupCloudSimulator, number: str) -> None:
    made = await bench()
    simulator.create(number=number)
    await simulator.move(number, "READYFORINPUT")
    assert await made.sent() == []
    assert [row["status"] for row in await made.inbox()] == ["dead"]


async def test_case_14_the_notification_is_stored_as_it_came_before_anything_is_fetched(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock
) -> None:
    made, number = await bench(), simulator.create()
    simulator.refuses = [503] * 2
    await simulator.move(number, "READYFORINPUT", at=clock.now())
    assert simulator.orders[number].asked == 0
    (row,) = await made.inbox()
    (shown,) = await made.reader.show(row["key"])
    said_by_hub = json.loads(shown["body"])
    assert said_by_hub["arguments"][:3] == [number, simulator.orders[number].code, "READYFORINPUT"]
    assert await made.sent() == []
    for _ in range(2):
        clock.advance(10)
        messages = await made.sent()
    assert said(messages) == [("order.placed", "ready_for_input")]


@pytest.mark.parametrize("raw", [b"<html>Sign in</html>", b'{"orderNumber": "another"}', b"{}", b""])
async def test_an_answer_that_is_not_the_order_is_asked_for_again(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock, raw: bytes
) -> None:
    made, number = await bench(), simulator.create()
    simulator.orders[number].raw = raw or b" "
    await simulator.move(number, "READYFORINPUT")
    assert await made.sent() == []
    simulator.orders[number].raw = None
    clock.advance(2)
    assert said(await made.sent()) == [("order.placed", "ready_for_input")]


class TestResync:
    """What an answer to the resync may be, other than an order's news."""

    @pytest.fixture
    async def three(self, bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> Any:
        """Three open orders of which the last is picked up while nobody listens."""
        made = await bench()
        numbers = [simulator.create(article(0)) for _ in range(3)]
        for number in numbers:
            await simulator.move(number, "READYFORINPUT")
        await made.sent()
        clock.advance(60)
        simulator.push = nobody  # type: ignore[method-assign]
        await simulator.move(numbers[2], "PICKEDUP")
        return made, numbers

    async def found(self, made: Any, numbers: list[str]) -> bool:
        messages = await made.sent()
        return [(m["order"]["order_ref"], m["order"]["status"]) for m in messages] == [(numbers[2], "picked_up")]

    async def test_an_order_that_is_not_there_any_more_is_no_error(self, three: Any, simulator: PickupCloudSimulator) -> None:
        made, numbers = three
        simulator.orders[numbers[0]].shown = None
        await made.resync()
        assert await self.found(made, numbers)

    async def test_an_order_that_cannot_be_asked_for_costs_the_others_nothing(self, three: Any, simulator: PickupCloudSimulator) -> None:
        made, numbers = three
        simulator.refuses = [500, 400]
        await made.resync()
        assert await self.found(made, numbers)

    async def test_an_answer_that_cannot_be_read_is_a_dead_letter(self, three: Any, simulator: PickupCloudSimulator) -> None:
        made, numbers = three
        simulator.orders[numbers[0]].raw = b"<html>"
        simulator.orders[numbers[1]].raw = json.dumps(simulator.orders[numbers[0]].shown).encode()
        for _ in range(2):
            await made.resync()
        assert await self.found(made, numbers)
        assert [row["status"] for row in await made.inbox()].count("dead") == 2

    async def test_a_state_that_nobody_knows_is_kept_once_and_flagged(self, three: Any, simulator: PickupCloudSimulator) -> None:
        made, numbers = three
        await simulator.move(numbers[0], "RETURNED")
        for _ in range(2):
            await made.resync()
        assert await self.found(made, numbers)
        assert [reason for outcome, reason in await made.outcomes() if outcome == "flagged"] == [UNKNOWN]

    @pytest.mark.parametrize("status", [401, 403, 429, 503])
    async def test_where_nothing_can_be_asked_the_round_has_failed_and_finds_it_the_next_time(
        self, three: Any, simulator: PickupCloudSimulator, status: int
    ) -> None:
        made, numbers = three
        simulator.refuses = [status] * 3
        await made.resync()
        assert not made.poller._succeeded
        simulator.refuses = []
        await made.resync()
        assert await self.found(made, numbers)

    async def test_a_vendor_that_wants_quiet_is_not_asked_for_the_next_order(self, three: Any, simulator: PickupCloudSimulator) -> None:
        made, numbers = three
        before = [simulator.orders[number].asked for number in numbers]
        simulator.refuses = [429]
        await made.resync()
        assert [simulator.orders[number].asked for number in numbers] == before

    async def test_the_rate_of_calls_is_bounded(self, bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
        made = await bench(calls_per_minute=30)
        for _ in range(20):
            await simulator.move(simulator.create(), "READYFORINPUT")
        await made.sent()
        assert made.source.client is not None
        task = asyncio.ensure_future(made.resync())
        for _ in range(200):
            await asyncio.sleep(0.005)
        assert sum(order.asked for order in simulator.orders.values()) == 30
        clock.advance(60)
        await task
        assert sum(order.asked for order in simulator.orders.values()) == 40
