"""The marks `fetched_by_supplier` and `viewed_by_supplier`, against a simulated Apicbase."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway import AuthError, RateLimited, Receipt, TransientError
from gateway.testing import ManualClock

FETCHED, VIEWED = "fetched_by_supplier", "viewed_by_supplier"
MARKED_AT = "2024-03-31T12:00:00Z"


def receipts(*ids: str, stage: Any = "stored") -> list[Receipt]:
    return [Receipt(id=n, reference=id, order_ref=id, stage=stage) for n, id in enumerate(ids, 1)]


def listed(simulator: ApicbaseSimulator, count: int) -> list[str]:
    return [simulator.enlist(simulator.new()) for _ in range(count)]


def test_no_mark_is_sent_unless_somebody_asked_for_it(connector: Any, settings: Any) -> None:
    assert connector(settings()).stages() == frozenset()
    client = {"client_id": "supplier-1", "client_secret": settings().webhook_secrets[0]}
    assert connector(settings(mark_fetched="stored", **client)).stages() == {"stored"}
    assert connector(settings(mark_viewed="delivered", **client)).stages() == {"delivered"}
    assert connector(settings(mark_fetched="stored", mark_viewed="delivered", **client)).stages() == {"stored", "delivered"}


@pytest.mark.parametrize("body", ["one", "list"])
async def test_stored_is_fetched_and_delivered_is_viewed(simulator: ApicbaseSimulator, polling: Any, body: str) -> None:
    first, second, third = listed(simulator, 3)
    door = await polling(mark_body=body)
    assert set(await door.connector.acknowledge(receipts(first, second), door.client)) == {1, 2}
    assert set(await door.connector.acknowledge(receipts(second, stage="delivered"), door.client)) == {1}
    assert simulator.listed[first].marks == {FETCHED: MARKED_AT}
    assert simulator.listed[second].marks == {FETCHED: MARKED_AT, VIEWED: MARKED_AT}
    assert simulator.listed[third].marks == {}


@pytest.mark.parametrize("body", ["one", "list"])
async def test_an_order_that_apicbase_does_not_know_is_left_out_and_the_others_are_marked(
    simulator: ApicbaseSimulator, polling: Any, body: str
) -> None:
    first, second = listed(simulator, 2)
    door = await polling(mark_body=body)
    assert set(await door.connector.acknowledge(receipts(first, "unknown", second), door.client)) == {1, 3}
    assert [FETCHED in simulator.listed[id].marks for id in (first, second)] == [True, True]


async def test_marking_twice_keeps_the_first_time(simulator: ApicbaseSimulator, polling: Any, clock: ManualClock) -> None:
    (id,) = listed(simulator, 1)
    door = await polling()
    await door.connector.acknowledge(receipts(id), door.client)
    clock.advance(3600)
    assert set(await door.connector.acknowledge(receipts(id), door.client)) == {1}
    assert simulator.listed[id].marks == {FETCHED: MARKED_AT}


async def test_mark_path_may_hold_the_id(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = [simulator.enlist(simulator.new() | {"id": id}) for id in ("a", "a?b=c", "é/../é")]
    door = await polling(mark_path="api/v2/integrations/suppliers/purchase_orders/{id}/")
    assert set(await door.connector.acknowledge(receipts(*ids, "unknown"), door.client)) == {1, 2, 3}
    assert all(FETCHED in simulator.listed[id].marks for id in ids)


async def test_a_list_that_is_refused_as_a_whole_is_tried_one_by_one(simulator: ApicbaseSimulator, polling: Any) -> None:
    first, second = listed(simulator, 2)
    door = await polling(mark_body="list")
    simulator.answer_next(400)
    assert set(await door.connector.acknowledge(receipts(first, "unknown", second), door.client)) == {1, 3}
    assert [FETCHED in simulator.listed[id].marks for id in (first, second)] == [True, True]
    simulator.answer_next(404)
    assert set(await door.connector.acknowledge(receipts(first), door.client)) == set()


async def test_a_failure_of_the_other_side_confirms_nothing(simulator: ApicbaseSimulator, polling: Any) -> None:
    (id,) = listed(simulator, 1)
    door = await polling(mark_body="list")
    for status, error in ((429, RateLimited), (403, AuthError), (500, TransientError)):
        simulator.answer_next(status)
        with pytest.raises(error):
            await door.connector.acknowledge(receipts(id), door.client)
    assert simulator.listed[id].marks == {}


async def test_no_more_than_a_minutes_calls_are_made_at_once(connector: Any, settings: Any) -> None:
    """The rest comes again; waiting for the budget inside the call would end in a timeout that confirms nothing."""
    called = []

    class Client:
        async def request(self, *_: Any, json: Any, **__: Any) -> Any:
            called.append(json)
            return type("Answer", (), {"status": 200, "headers": {}, "body": b"{}"})()

    made = connector(settings(calls_per_minute=4))
    assert set(await made.acknowledge(receipts(*"abcdef"), Client())) == {1, 2, 3, 4}
    assert called == [{"id": id, FETCHED: True} for id in "abcd"]


@pytest.mark.parametrize(
    ("answer", "confirmed"),
    [
        (b"", {1, 2}),
        (b"{}", {1, 2}),
        (b"<html>", {1, 2}),
        (b'[{"id": "a", "fetched_by_supplier": true}, {"id": "b", "fetched_by_supplier": false}]', {1}),
        (b'{"results": [{"id": "b"}]}', {2}),
        (b"[]", set()),
        (b'[7, null, {"id": 8}]', set()),
    ],
)
async def test_a_list_is_confirmed_as_far_as_the_answer_names_it(connector: Any, settings: Any, answer: bytes, confirmed: set[int]) -> None:
    class Client:
        async def request(self, *_: Any, **__: Any) -> Any:
            return type("Answer", (), {"status": 200, "headers": {}, "body": answer})()

    made = connector(settings(mark_body="list"))
    assert set(await made.acknowledge(receipts("a", "b"), Client())) == confirmed
