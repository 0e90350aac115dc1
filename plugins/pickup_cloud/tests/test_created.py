"""A created order flows to the ERP, whichever comes first: the answer to its creation, or the hub (section 4, case 3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from gateway_pickup_cloud.constructed import CUSTOMER, article, response
from gateway_pickup_cloud.simulator import PickupCloudSimulator

from gateway import Customer, Event, Ignore, Order, PermanentError, Submission
from gateway.plugin.incoming import incoming
from gateway.store.submissions import SubmissionEnd
from gateway.testing import ManualClock

A, C, D = (article(n)["scanCode"] for n in (0, 2, 3))
ONCE = {
    "orderNumber": "N-1",
    "relatedNotes": "Kühl lagern",
    "dosageInformation": "1-0-1",
    "customerDetails": CUSTOMER,
    "articles": [article(0, 2), article(1, 1)],
}
AGAIN = ONCE | {
    "articles": [article(2, 10, interval=28), article(3, 2, interval=99)],
    "startDate": "2024-03-31T00:00:00",
    "endDate": "2024-12-31T00:00:00",
}
SECRETS = ("customer_", "pickup_0", "1-0-1", "Kühl lagern", "Łucja", "Dresden", "lucja@")


@pytest.fixture
def make(settings: Any, connector: Any, clock: ManualClock) -> Callable[..., Order]:
    """`make(AGAIN, previous, state="SCHEDULED")`: what normalize makes of a creation."""

    def call(asked: dict[str, Any], previous: Order | None = None, *, private: bool = False, **shown: Any) -> Order:
        said: dict[str, Any] = {"state": "SCHEDULED", "created": clock.now()} | shown
        answer = response("N-1", **said)
        document = b'{"request":' + json.dumps(asked).encode() + b',"answer":' + json.dumps(answer).encode() + b"}"
        order: Order = connector(settings(forward_personal_data=private)).normalize(
            Event(key="created-s-1", order_ref="N-1", occurred_at=clock.now()), document, previous
        )
        return order

    return call


@pytest.fixture
def hear(settings: Any, connector: Any, clock: ManualClock) -> Callable[..., Order]:
    """`hear("READYFORINPUT", previous)`: what normalize makes of a notification of the hub and the order fetched beside it."""

    def call(state: str, previous: Order | None = None, at: str | None = None, *, private: bool = False, **shown: Any) -> Order:
        said = json.dumps({"target": "OrderStateChanged", "arguments": ["N-1", "customer_1", state, at, ""]}).encode()
        seen: dict[str, Any] = {"state": state, "created": clock.now()} | shown
        answer = json.dumps(response("N-1", **seen)).encode()
        order: Order = connector(settings(forward_personal_data=private)).normalize(
            Event(key="k", order_ref="N-1", document=said, occurred_at=None), answer, previous
        )
        return order

    return call


def lines(order: Order) -> list[tuple[int, str | None, Any, int | None]]:
    return [(one.line_number, one.scan_code, one.quantity, one.interval_days) for one in order.lines]


RECURRENT_LINES = [(1, C, 10, 28), (2, D, 2, 99)]


def test_the_lines_of_a_recurrent_order_are_those_of_its_request(make: Callable[..., Order]) -> None:
    """Its answer lists none (seed 001)."""
    order = make(AGAIN)
    assert (order.order_number, order.status, lines(order)) == ("N-1", "scheduled", RECURRENT_LINES)
    assert order.extra["recurrent"] is True
    assert [line.name for line in order.lines] == ["Tabletten 500mg x 8", "Spray"]


def test_a_one_time_order_has_the_lines_that_the_answer_shows(make: Callable[..., Order]) -> None:
    order = make(ONCE, state="READYFORINPUT", articles=[article(0, 2), article(1, 1)])
    assert (order.status, lines(order)) == ("ready_for_input", [(1, A, 2, None), (2, article(1)["scanCode"], 1, None)])
    assert "recurrent" not in order.extra


def test_an_order_for_others_that_is_scheduled_is_not_recurrent(
    make: Callable[..., Order], hear: Callable[..., Order], connector: Any
) -> None:
    """Else it would be asked for until it is cancelled."""
    order = make(ONCE, hear("SCHEDULED"), state="SCHEDULED")
    assert order == make(ONCE, state="SCHEDULED")
    picked_up = hear("PICKEDUP", hear("READYFORINPUT", order), "2024-04-01T00:00:00Z")
    assert (picked_up.status, "recurrent" in picked_up.extra) == ("picked_up", False)


def test_nothing_personal_leaves_by_default(make: Callable[..., Order]) -> None:
    written = msgspec.json.encode(make(AGAIN)).decode()
    for secret in SECRETS:
        assert secret not in written


def test_what_is_personal_is_forwarded_where_the_settings_say_so_and_stays(make: Callable[..., Order], hear: Callable[..., Order]) -> None:
    order = make(AGAIN, private=True)
    assert (order.notes, order.extra["dosage_information"]) == ("Kühl lagern", "1-0-1")
    assert set(order.references) == {"pickup_code", "storage_code"}
    assert order.customer.name == CUSTOMER["fullName"]
    later = hear("READYFORINPUT", order, private=True)
    assert later.customer == order.customer
    assert lines(later) == RECURRENT_LINES
    assert hear("READYFORPICKUP", later).customer == Customer()


@pytest.mark.parametrize("private", [False, True])
def test_an_event_that_overtook_the_answer_gets_its_lines_later(
    make: Callable[..., Order], hear: Callable[..., Order], private: bool
) -> None:
    first = hear("SCHEDULED", private=private)
    assert (first.status, first.lines) == ("scheduled", ())
    order = make(AGAIN, first, private=private)
    assert (order.status, lines(order)) == ("scheduled", RECURRENT_LINES)
    assert (order.customer.name is not None) == private
    with pytest.raises(Ignore, match="known already"):
        make(AGAIN, order, private=private)


def test_an_answer_that_is_late_turns_no_state_back(make: Callable[..., Order], hear: Callable[..., Order]) -> None:
    ahead = hear("PICKEDUP", None, "2024-03-31T12:05:00Z", pickedUpDate="2024-03-31T12:05:00Z")
    order = make(AGAIN, ahead, state="SCHEDULED")
    assert (order.status, order.extra["state_changed_at"], lines(order)) == ("picked_up", "2024-03-31T12:05:00Z", RECURRENT_LINES)


def test_lines_that_article_events_made_are_the_requests_own(make: Callable[..., Order], settings: Any, connector: Any, clock: Any) -> None:
    dto = {"ArticleId": D, "RequiredQuantity": 2, "OrderArticleState": "SCHEDULED", "DueDate": "2024-04-28T00:00:00"}
    said = json.dumps({"target": "OrderArticleStateChanged", "arguments": ["N-1", "customer_1", dto]}).encode()
    answer = json.dumps(response("N-1", state="SCHEDULED", created=clock.now())).encode()
    first = connector(settings()).normalize(Event(key="k", order_ref="N-1", document=said), answer, None)
    order = make(AGAIN, first)
    assert lines(order) == [(1, D, 2, 99), (2, C, 10, 28)]
    assert [line.status for line in order.lines] == ["scheduled", None]


def test_a_one_time_order_that_the_hub_told_of_first_is_known(make: Callable[..., Order], hear: Callable[..., Order]) -> None:
    listed = [article(0, 2), article(1, 1)]
    first = hear("READYFORINPUT", articles=listed)
    with pytest.raises(Ignore, match="known already"):
        make(ONCE, first, state="READYFORINPUT", articles=listed)


@pytest.mark.parametrize(("notes", "flags"), [("$pickup-005-010", ("demo_trigger",)), ("$ 5", ("demo_trigger",)), ("5 $", ()), (None, ())])
def test_case_15_a_note_that_the_demo_instance_would_obey_is_flagged(
    make: Callable[..., Order], notes: str | None, flags: tuple[str, ...]
) -> None:
    assert make(ONCE | {"relatedNotes": notes}, state="READYFORINPUT", relatedNotes="").flags == flags


@pytest.mark.parametrize("document", [b'{"request":1}', b'{"request":{},"answer":[]}', b'{"request":{"orderNumber":"N-1"},"answer":{}}'])
def test_a_creation_that_is_none_is_a_dead_letter(settings: Any, connector: Any, document: bytes) -> None:
    with pytest.raises(PermanentError):
        connector(settings()).normalize(Event(key="created-x", order_ref="N-1"), document, None)


# --- through store and prepare step, with the simulator


class Caller:
    """Submits, and puts what follows into the store as the submit step does."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench

    async def create(self, command: str, body: dict[str, Any], id: str = "s-1") -> SubmissionEnd:
        source = self.bench.source
        decoded = msgspec.convert(body, source.connector.commands()[command].body)
        submission = Submission(id=id, command=command, body=decoded, accepted_at=self.bench.clock.now())
        made = await source.connector.submit(submission, source.client)
        return SubmissionEnd(answer=made.answer, codes=made.codes, events=tuple(incoming(made.events, source.stages)))

    async def settle(self, end: SubmissionEnd) -> None:
        await self.bench.store.accept(self.bench.source.name, "poll", list(end.events))


def said(messages: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(one["kind"], one["order"]["status"], len(one["order"]["lines"])) for one in messages]


@pytest.mark.parametrize(
    ("command", "body", "status"), [("create_order", ONCE, "ready_for_input"), ("create_recurrent_order", AGAIN, "scheduled")]
)
async def test_the_hubs_events_of_a_created_order_follow_it_to_the_erp(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock, command: str, body: dict[str, Any], status: str
) -> None:
    simulator.creations.announces = "never"
    made = await bench()
    caller = Caller(made)
    await caller.settle(await caller.create(command, body))
    (message,) = await made.sent()
    assert (message["kind"], message["order"]["order_ref"]) == ("order.placed", "N-1")
    assert said([message]) == [("order.placed", status, 2)]
    clock.advance(60)
    await simulator.move("N-1", "READYFORPICKUP")
    clock.advance(60)
    await simulator.move("N-1", "PICKEDUP")
    assert said(await made.sent()) == [("order.status", "ready_for_pickup", 2), ("order.status", "picked_up", 2)]


@pytest.mark.parametrize(
    ("command", "body", "told"),
    [
        ("create_order", ONCE, [("order.placed", "ready_for_input", 2)]),
        ("create_recurrent_order", AGAIN, [("order.placed", "scheduled", 0), ("order.status", "scheduled", 2)]),
    ],
)
async def test_case_3_an_event_that_overtakes_the_answer_is_of_the_same_order(
    bench: Any, simulator: PickupCloudSimulator, clock: ManualClock, command: str, body: dict[str, Any], told: Any
) -> None:
    """The hub tells of it before it answers; the event is made into an order before the answer is in."""
    made = await bench()
    caller = Caller(made)
    end = await caller.create(command, body)
    first = await made.sent()
    await caller.settle(end)
    messages = first + await made.sent()
    assert said(messages)[: len(told)] == told
    assert {message["order"]["order_ref"] for message in messages} == {"N-1"}
    assert len(messages[-1]["order"]["lines"]) == 2


async def test_a_created_order_is_asked_for_in_the_resync(bench: Any, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    simulator.creations.announces = "never"
    made = await bench()
    caller = Caller(made)
    await caller.settle(await caller.create("create_recurrent_order", AGAIN))
    await made.sent()
    simulator.push = nobody  # type: ignore[method-assign]
    clock.advance(60)
    await simulator.move("N-1", "READYFORINPUT")
    await made.resync()
    assert said(await made.sent()) == [("order.status", "ready_for_input", 2)]


async def nobody(target: str, *arguments: Any) -> None:
    pass


async def test_the_same_creation_found_twice_is_one_order(bench: Any, simulator: PickupCloudSimulator) -> None:
    simulator.creations.announces = "never"
    made = await bench()
    caller = Caller(made)
    end = await caller.create("create_order", ONCE)
    await caller.settle(end)
    await caller.settle(end)
    assert len(await made.sent()) == 1


async def test_the_shape_of_a_vendor_who_forgets_the_request_is_seen(bench: Any, simulator: PickupCloudSimulator) -> None:
    """The known-bad mutant: with the answer alone, a recurrent order has no lines."""
    simulator.creations.announces = "never"
    made = await bench()
    caller = Caller(made)
    end = await caller.create("create_recurrent_order", AGAIN)
    event = Event(key="answer-1", order_ref="N-1", document=end.answer)
    await made.store.accept("pickup_cloud", "poll", list(incoming([event])))
    assert said(await made.sent()) == [("order.placed", "scheduled", 0)]
