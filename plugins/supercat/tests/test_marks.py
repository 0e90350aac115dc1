"""Marks, against a simulated SuperCat. The numbers of the edge cases are those of vendors/supercat.md, section 4."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_supercat.simulator import SupercatSimulator

from gateway import AuthError, Receipt, TransientError


def receipts(*numbers: str, stage: Any = "stored") -> list[Receipt]:
    return [Receipt(id=n, reference=number, order_ref=f"uuid {number}", stage=stage) for n, number in enumerate(numbers, 1)]


def submitted(simulator: SupercatSimulator, count: int) -> list[str]:
    return [simulator.submitted[simulator.submit()].record["order_number"] for _ in range(count)]


def marked(simulator: SupercatSimulator) -> set[str]:
    return {one.record["order_number"] for one in simulator.submitted.values() if one.marked_by == "gateway"}


def test_the_stage_is_the_settings_to_say(connector: Any, settings: Any) -> None:
    for stage, stages in (("stored", {"stored"}), ("delivered", {"delivered"}), ("off", set())):
        assert connector(settings(mark=stage)).stages() == stages
    assert settings().mark == "stored"


async def test_numbers_are_sent_as_they_came_each_once_and_at_most_a_hundred(simulator: SupercatSimulator, side: Any) -> None:
    numbers = submitted(simulator, 5)
    made = await side(mark_batch=2)
    assert set(await made.connector.acknowledge(receipts(*numbers, numbers[0]), made.client)) == {1, 2, 3, 4, 5, 6}
    assert simulator.posted == [numbers[:2], numbers[2:4], numbers[4:]]
    assert (await side()).connector.settings.mark_batch == 100


async def test_the_sample_of_a_partial_answer(simulator: SupercatSimulator, side: Any) -> None:
    """vendors/supercat.md 5.4: the first is marked, the second comes again, and so does the third, which the answer leaves out."""
    numbers = submitted(simulator, 3)
    simulator.refuses[numbers[1]] = 1
    simulator.forgets.add(numbers[2])
    made = await side()
    assert set(await made.connector.acknowledge(receipts(*numbers), made.client)) == {1}
    assert marked(simulator) == {numbers[0]}


async def test_case_2_a_failed_mark_is_kept_and_tried_again(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench()
    good, bad, lost = submitted(simulator, 3)
    simulator.refuses[bad] = 2
    simulator.forgets.add(lost)
    await made.round()
    await made.acknowledged()
    assert marked(simulator) == {good}
    rows = await made.reader.rows("acknowledgements")
    assert sorted((row["status"], row["attempts"]) for row in rows) == [("done", 1), ("ready", 1), ("ready", 1)]
    for _ in range(3):
        made.clock.advance(3600)
        assert await made.round() == []
        await made.acknowledged()
    assert marked(simulator) == {good, bad}
    simulator.forgets.clear()
    made.clock.advance(3600)
    await made.acknowledged()
    assert marked(simulator) == {good, bad, lost}
    assert [one for one in simulator.posted if good in one] == [[good, bad, lost]]


async def test_case_2_a_mark_that_never_works_is_shown_to_a_person(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench()
    (number,) = submitted(simulator, 1)
    simulator.refuses[number] = 10**6
    await made.round()
    for _ in range(8 * 24):
        await made.acknowledged()
        made.clock.advance(3600)
    (row,) = await made.reader.rows("acknowledgements")
    assert (row["status"], row["reason"]) == ("dead", "the vendor did not confirm it")


@pytest.mark.parametrize(
    "fault", ["failure", "error", "page", "sign_in", "redirect", "truncated", "broken_off", "no_data", "unavailable", "bare"]
)
async def test_case_13_nothing_is_confirmed_by_an_answer_that_failed(simulator: SupercatSimulator, side: Any, fault: Any) -> None:
    made, numbers = await side(), submitted(simulator, 2)
    simulator.fail_next(fault, method="POST")
    with pytest.raises(AuthError if fault == "sign_in" else TransientError):
        await made.connector.acknowledge(receipts(*numbers), made.client)
    assert marked(simulator) == set()


async def test_what_one_batch_confirmed_is_kept_where_the_next_failed(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench(mark_batch=1)
    numbers = submitted(simulator, 3)
    await made.round()
    original, calls = simulator._received, 0

    def once(number: str) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            simulator.fail_next("failure", method="POST")
        return original(number)

    simulator._received = once  # type: ignore[method-assign]
    await made.acknowledge.run_once()
    assert marked(simulator) == {numbers[0]}
    statuses = [row["status"] for row in await made.reader.rows("acknowledgements")]
    assert sorted(statuses) == ["done", "ready", "ready"]


@pytest.mark.parametrize(
    ("said", "confirmed"),
    [
        ({"success": True}, {1}),
        ({"success": True, "error": None}, {1}),
        ({"success": "true"}, set()),
        ({"success": 1}, set()),
        ({"success": False, "error": "x"}, set()),
        ({}, set()),
        (True, set()),
        (None, set()),
        ([], set()),
    ],
)
async def test_an_entry_confirms_by_success_true_alone(simulator: SupercatSimulator, side: Any, said: Any, confirmed: set[int]) -> None:
    made, numbers = await side(), submitted(simulator, 1)
    simulator._received = lambda number: said  # type: ignore[method-assign]
    assert set(await made.connector.acknowledge(receipts(*numbers), made.client)) == confirmed


async def test_an_order_is_marked_after_it_is_stored(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench()
    (number,) = submitted(simulator, 1)
    await made.poller.round()
    await made.acknowledged()
    assert marked(simulator) == {number}


async def test_an_order_is_marked_after_the_erp_has_it_where_that_is_configured(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench(mark="delivered")
    (number,) = submitted(simulator, 1)
    await made.poller.round()
    await made.prepared()
    await made.acknowledged()
    assert simulator.posted == []
    await made.sent()
    await made.acknowledged()
    assert marked(simulator) == {number}


async def test_nothing_is_marked_beside_another_integration(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench(mark="off")
    submitted(simulator, 1)
    assert len(await made.round()) == 1
    await made.acknowledged()
    assert await made.round() == []
    assert simulator.posted == []


async def test_the_path_may_be_another_one(simulator: SupercatSimulator, side: Any) -> None:
    made = await side(list_path="{org}/ext/v2/orders/elsewhere", mark_path="{org}/ext/v2/orders/new_orders")
    numbers = submitted(simulator, 1)
    assert set(await made.connector.acknowledge(receipts(*numbers), made.client)) == {1}
    assert made.connector.settings.list_at() == "demo/ext/v2/orders/elsewhere"
