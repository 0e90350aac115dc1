"""Orders, their repeats and their versions through a real store. The numbers of the edge cases are those of
vendors/supercat.md, section 4.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_supercat.constructed import PROMOTION, line
from gateway_supercat.settings import Start
from gateway_supercat.simulator import SupercatSimulator


def told(messages: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(m["kind"], m["order"]["order_number"], m["order"]["revision"]) for m in messages]


def number(simulator: SupercatSimulator, id: int) -> str:
    return str(simulator.submitted[id].record["order_number"])


async def test_case_1_what_was_stored_and_not_marked_comes_again_and_is_a_repeat(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(), simulator.submit()
    simulator.acknowledging = False
    assert len(await made.round()) == 1
    await made.acknowledge.run_once()
    for _ in range(3):
        assert await made.round() == []
    assert await made.inbox("outcome") == [("prepared",)]
    simulator.acknowledging = True
    made.clock.advance(3600)
    await made.acknowledged()
    assert simulator.posted[-1] == [number(simulator, id)]
    assert simulator.submitted[id].marked_by == "gateway"


async def test_case_1_the_same_id_in_another_spelling_is_a_repeat(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(), simulator.submit()
    assert len(await made.round()) == 1
    simulator.edit(id, id=str(id), uuid=simulator.submitted[id].record["uuid"].lower())
    assert await made.round() == []
    assert len(await made.inbox()) == 1


async def test_case_3_hold_lets_neither_go_that_came_together(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(), simulator.submit(lines=[line(0, 2)])
    second = simulator.submit(again=first, lines=[line(0, 4), line(2, 1)])
    assert await made.round() == []
    assert await made.inbox("status", "version") == [("done", 1), ("held", 2)]
    status, reason, shown = await made.outcome(f"{second}@2")
    assert (status, "other content" in reason) == ("held", True)
    assert "20BRAD-1, quantity 2 -> 4" in shown
    assert "+ line 2: LAMP_7, quantity 1" in shown
    await made.store.release([f"{second}@2"], "anna")
    assert told(await made.sent()) == [
        ("order.placed", number(simulator, first), 1),
        ("order.revised", number(simulator, second), 2),
    ]


async def test_case_3_nothing_leaves_while_the_later_version_waits_to_be_looked_at(simulator: SupercatSimulator, bench: Any) -> None:
    """The two are prepared one after the other; in between, the ERP's side must not get the first."""
    made, first = await bench(), simulator.submit()
    simulator.submit(again=first, lines=[line(0, 4)])
    await made.poller.round()
    await made.prepare.run_once()
    assert await made.inbox("status") == [("done",), ("ready",)]
    assert await made.store.lease_outbox("erp", 10) == []


async def test_case_3_replace_sends_the_newest_alone(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(on_revision="replace"), simulator.submit()
    simulator.submit(again=first, lines=[line(0, 4)])
    third = simulator.submit(again=first, lines=[line(0, 5)])
    (message,) = await made.round()
    assert told([message]) == [("order.placed", number(simulator, third), 3)]
    assert message["order"]["flags"] == ["resubmitted"]


async def test_case_3_send_sends_every_version_in_the_order_of_their_ids(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(on_revision="send"), simulator.submit()
    second, third = simulator.submit(again=first, lines=[line(0, 4)]), simulator.submit(again=first, lines=[line(0, 5)])
    assert told(await made.round()) == [
        ("order.placed", number(simulator, first), 1),
        ("order.revised", number(simulator, second), 2),
        ("order.revised", number(simulator, third), 3),
    ]


@pytest.mark.parametrize("policy", ["hold", "replace", "send"])
async def test_case_3_both_come_again_and_again_until_they_are_marked_and_are_repeats(
    simulator: SupercatSimulator, bench: Any, policy: str
) -> None:
    made, first = await bench(on_revision=policy), simulator.submit()
    simulator.submit(again=first, lines=[line(0, 4)])
    simulator.acknowledging = False
    await made.round()
    for _ in range(4):
        assert await made.round() == []
    assert await made.inbox("version") == [(1,), (2,)]


async def test_case_4_a_version_of_what_the_erp_has_is_a_task_with_the_difference(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(), simulator.submit(lines=[line(0, 2), line(1, 1), PROMOTION])
    assert len(await made.round()) == 1
    await made.acknowledged()
    assert number(simulator, first) in simulator.posted[0]
    second = simulator.submit(again=first, lines=[line(0, 2, price="600.00"), PROMOTION], placeholder_ship_date="4/2/24")
    assert await made.round() == []
    status, _, shown = await made.outcome(f"{second}@2")
    assert status == "held"
    for said in ("20BRAD-1, unit_price 625.00 -> 600.00", "- line 2: 9KAYABLD71CL", "requested_for: none -> 2024-04-02 04:00:00"):
        assert said in shown
    assert "likely_new_order" not in shown
    await made.acknowledged()
    assert simulator.submitted[second].marked_by == "gateway"
    await made.store.drop([f"{second}@2"], "anna", "typed twice, says the rep")
    assert await made.sent() == []


async def test_case_5_a_version_without_a_base_is_held_with_the_number_to_look_up(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(), simulator.submit(version=2)
    base = number(simulator, id).removesuffix("-2")
    assert await made.round() == []
    status, reason, _ = await made.outcome(str(id))
    assert status == "held"
    assert f"version 2 of {base}" in reason
    assert f"Look up {base} in the ERP" in reason
    await made.store.release([str(id)], "anna")
    (message,) = await made.sent()
    assert told([message]) == [("order.placed", f"{base}-2", 1)]
    assert message["order"]["flags"] == ["base_unknown"]
    assert message["order"]["references"]["supercat_base"] == base


@pytest.mark.parametrize("policy", ["replace", "send"])
async def test_case_5_it_goes_where_versions_go_by_themselves(simulator: SupercatSimulator, bench: Any, policy: str) -> None:
    made, _ = await bench(on_revision=policy), simulator.submit(version=2)
    (message,) = await made.round()
    assert (message["kind"], message["order"]["flags"]) == ("order.placed", ["base_unknown"])


async def test_case_5_the_original_after_its_version_does_not_overtake_it(simulator: SupercatSimulator, bench: Any) -> None:
    """The version came alone and waits; the original, marked by another system once, is flagged anew and comes behind it."""
    made, first = await bench(), simulator.submit()
    simulator.another_poller()
    second = simulator.submit(again=first, lines=[line(0, 4)])
    assert await made.round() == []
    simulator.reflag(first)
    assert await made.round() == []
    assert await made.inbox("key", "status") == [(f"supercat/{second}", "held"), (f"supercat/{first}", "done")]
    await made.store.release([str(second)], "anna")
    assert told(await made.sent()) == [("order.placed", number(simulator, second), 1)]
    assert await made.inbox("outcome") == [("prepared",), ("earlier_version",)]


@pytest.mark.parametrize(
    "other",
    [{"lines": [line(1, 1), PROMOTION], "customer": 0}, {"lines": [line(0, 2), PROMOTION], "customer": 1}],
    ids=["items", "customer"],
)
async def test_case_6_another_order_under_an_old_number_is_said_to_be_likely_a_new_one(
    simulator: SupercatSimulator, bench: Any, other: dict[str, Any]
) -> None:
    made, first = await bench(), simulator.submit(lines=[line(0, 2), PROMOTION])
    assert len(await made.round()) == 1
    second = simulator.submit(again=first, **other)
    assert await made.round() == []
    status, reason, _ = await made.outcome(f"{second}@2")
    assert (status, "looks like another order" in reason) == ("held", True)
    await made.store.release([f"{second}@2"], "anna")
    (message,) = await made.sent()
    assert {"resubmitted", "likely_new_order"} <= set(message["order"]["flags"])


async def test_case_8_the_same_number_with_a_new_id_is_a_new_version(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(), simulator.submit()
    assert len(await made.round()) == 1
    mutant = simulator.submit(again=first)
    simulator.edit(mutant, **(simulator.submitted[first].record | {"id": mutant}))
    assert await made.round() == []
    assert (await made.outcome(f"{mutant}@2"))[0] == "held"
    await made.acknowledged()
    assert simulator.posted == [[number(simulator, first)]]
    assert simulator.submitted[mutant].marked_by == "gateway"


async def test_case_9_the_same_number_with_another_uuid_is_another_order(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(), simulator.submit()
    second = simulator.submit(number=number(simulator, first), lines=[line(1, 1)])
    messages = await made.round()
    assert [m["order"]["references"]["supercat_id"] for m in messages] == [str(first), str(second)]
    assert {m["kind"] for m in messages} == {"order.placed"}
    assert len({m["order"]["order_ref"] for m in messages}) == 2


async def test_case_9_a_version_whose_uuid_is_not_its_bases_waits_for_a_person(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(), simulator.submit()
    assert len(await made.round()) == 1
    other = simulator.submit(number=number(simulator, first) + "-1")
    assert await made.round() == []
    status, reason, _ = await made.outcome(str(other))
    assert (status, "no earlier one with its uuid" in reason) == ("held", True)


async def test_case_10_the_same_id_with_other_content_before_it_left_is_held_with_it(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(), simulator.submit()
    await made.poller.round()
    await made.prepared()
    simulator.edit(id, placeholder_lines=[line(0, 7)])
    assert await made.round() == []
    assert await made.inbox("key", "status") == [(f"supercat/{id}", "done"), (f"supercat/{id}@2", "held")]
    await made.store.drop([f"{id}@2"], "anna", "the first was right")
    assert told(await made.sent()) == [("order.placed", number(simulator, id), 1)]


async def test_case_10_the_newer_copy_replaces_what_has_not_left_where_that_is_configured(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(on_revision="replace"), simulator.submit()
    await made.poller.round()
    await made.prepared()
    simulator.edit(id, placeholder_lines=[line(0, 7)])
    (message,) = await made.round()
    assert (message["kind"], message["order"]["lines"][0]["quantity"]) == ("order.placed", "7")


async def test_case_10_other_content_after_it_left_is_held(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(), simulator.submit()
    simulator.acknowledging = False
    assert len(await made.round()) == 1
    simulator.edit(id, placeholder_lines=[line(0, 7)])
    assert await made.round() == []
    assert (await made.outcome(f"{id}@2"))[0] == "held"
    assert await made.round() == []
    assert len(await made.inbox()) == 2


async def test_case_10_content_that_goes_back_to_what_it_was_is_an_earlier_version(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(on_revision="send"), simulator.submit(lines=[line(0, 1)])
    simulator.acknowledging = False
    quantities = []
    for quantity in (1, 2, 1, 1):
        simulator.edit(id, placeholder_lines=[line(0, quantity)])
        quantities += [m["order"]["lines"][0]["quantity"] for m in await made.round()]
    assert quantities == ["1", "2"]
    status, reason, _ = await made.outcome(f"{id}@earlier-1")
    assert (status, "as version 1" in reason) == ("done", True)


async def test_case_10_what_supercat_changes_by_itself_is_no_version_where_it_is_named(simulator: SupercatSimulator, bench: Any) -> None:
    made, id = await bench(volatile=("downloads",)), simulator.submit(downloads=1)
    assert len(await made.round()) == 1
    simulator.edit(id, downloads=2)
    assert await made.round() == []
    assert len(await made.inbox()) == 1


@pytest.mark.parametrize("policy", ["hold", "replace", "send"])
async def test_case_11_an_older_version_does_not_overtake_a_newer_one(simulator: SupercatSimulator, bench: Any, policy: str) -> None:
    """The original is seen after its version, and has changed meanwhile."""
    made, first = await bench(on_revision=policy), simulator.submit()
    second = simulator.submit(again=first, lines=[line(0, 4)])
    simulator.submitted[first].marked_by = "another"
    await made.round()
    await made.store.release([str(second)], "anna")
    await made.sent()
    simulator.reflag(first)
    assert await made.round() == []
    status, reason, _ = await made.outcome(str(first))
    assert status == "done"
    assert "the vendor counts it before the newest version" in reason
    assert await made.inbox("outcome") == [("prepared",), ("earlier_version",)]
    await made.acknowledged()
    assert simulator.submitted[first].marked_by == "gateway", "else it would come again for ever"
    simulator.reflag(first)
    assert await made.round() == []
    assert len(await made.inbox()) == 2


async def test_case_11_ids_are_compared_as_numbers(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench(on_revision="send")
    simulator._next_id = 999_999
    first = simulator.submit()
    second = simulator.submit(again=first, lines=[line(0, 4)])
    assert (first, second) == (999_999, 1_000_000)
    assert [m["order"]["references"]["supercat_id"] for m in await made.round()] == ["999999", "1000000"]


async def test_case_11_a_version_that_is_flagged_anew_and_unchanged_is_a_repeat(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(on_revision="send"), simulator.submit()
    await made.round()
    await made.acknowledged()
    simulator.submit(again=first, lines=[line(0, 4)])
    await made.round()
    simulator.reflag(first)
    assert await made.round() == []
    assert len(await made.inbox()) == 2


async def test_case_12_unreadable_records_are_dead_letters_and_the_rest_goes_on(simulator: SupercatSimulator, bench: Any) -> None:
    made = await bench()
    parked = [simulator.submit(number=None), simulator.submit(number=""), simulator.submit(uuid=None)]
    good = simulator.submit()
    for _ in range(2):
        await made.poller.round()
    assert [m["order"]["references"]["supercat_id"] for m in await made.sent()] == [str(good)]
    assert sorted(await made.inbox("status")) == [("dead",)] * 3 + [("done",)]
    await made.acknowledged()
    assert simulator.posted == [[number(simulator, good)]]
    assert all(simulator.submitted[id].marked_by is None for id in parked)


async def test_case_12_a_dead_letter_can_be_replayed(simulator: SupercatSimulator, bench: Any) -> None:
    """Still unreadable, it is dead again; what a newer plugin can read becomes an event."""
    made, id = await bench(), simulator.submit(number=None)
    await made.poller.round()
    ((key,),) = await made.inbox("key")
    await made.store.replay([key], "anna")
    assert await made.sent() == []
    assert await made.inbox("status") == [("dead",)]
    whole = json.dumps(simulator.submitted[id].record | {"order_number": "6385-033124-001"}).encode()
    (event,) = made.source.connector.read(envelope(made, whole))
    assert event.key == str(id)


def envelope(made: Any, body: bytes) -> Any:
    from gateway import Envelope

    return Envelope(source="supercat", body=body, received_at=made.clock.now())


async def test_case_18_what_another_poller_takes_is_not_seen_and_a_gap_is_no_error(simulator: SupercatSimulator, bench: Any) -> None:
    made, first = await bench(), simulator.submit()
    assert len(await made.round()) == 1
    simulator.submit()
    assert simulator.another_poller()
    third = simulator.submit()
    assert [m["order"]["references"]["supercat_id"] for m in await made.round()] == [str(third)]
    assert made.door() == ("up", "")
    await made.acknowledged()
    assert simulator.submitted[first].marked_by == "another"


async def test_first_run_marks_what_is_up_to_the_start_and_forwards_nothing_of_it(simulator: SupercatSimulator, bench: Any) -> None:
    old = [simulator.submit() for _ in range(3)]
    new = [simulator.submit() for _ in range(2)]
    made = await bench(start=Start(after_id=old[-1]))
    assert [m["order"]["references"]["supercat_id"] for m in await made.round()] == [str(id) for id in new]
    assert await made.inbox("status", "outcome") == [("done", "ignored")] * 3 + [("done", "prepared")] * 2
    await made.acknowledged()
    assert [one.marked_by for one in simulator.submitted.values()] == ["gateway"] * 5
    again = simulator.submit(again=old[0])
    assert await made.round() == []
    assert "no earlier one" in (await made.outcome(str(again)))[1]


async def test_first_run_ignores_old_records_once_however_often_they_come(simulator: SupercatSimulator, bench: Any) -> None:
    old = simulator.submit()
    made = await bench(start=Start(after_id=old))
    simulator.acknowledging = False
    for _ in range(3):
        assert await made.round() == []
        simulator.edit(old, placeholder_po=str(made.clock.now()))
    assert await made.inbox("outcome") == [("ignored",)]


async def test_an_old_id_that_turns_up_after_the_first_run_is_shown_to_a_person(
    simulator: SupercatSimulator, bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A draft from before the start, submitted only now, is not forwarded either; somebody must hear of it."""
    old, draft = simulator.submit(), simulator.submit()
    waiting = simulator.submitted.pop(draft)
    made = await bench(start=Start(after_id=draft))
    assert await made.round() == []
    simulator.submitted[draft] = waiting
    for _ in range(2):
        assert await made.round() == []
    assert await made.inbox("key", "outcome") == [(f"supercat/{old}", "ignored"), (f"supercat/{draft}", "flagged")]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    await made.acknowledged()
    assert simulator.submitted[draft].marked_by == "gateway"
