"""Polling against a simulated Apicbase, over HTTP. The numbers of the edge cases are those of vendors/apicbase.md, 4."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateway_apicbase.settings import Start
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway import AuthError, Event, PermanentError, RateLimited, TransientError
from gateway.testing import ManualClock

NOON = datetime(2024, 3, 31, 12, tzinfo=UTC)


def enlist(simulator: ApicbaseSimulator, count: int, *, first: datetime = NOON - timedelta(minutes=10), step_s: float = 1.0) -> list[str]:
    """So many orders on the list, each a little later than the one before."""
    return [simulator.enlist(simulator.new(ordered_on=first + timedelta(seconds=n * step_s))) for n in range(count)]


async def test_poll_asks_as_the_vendor_advises(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 3)
    door = await polling()
    assert await door.round() == set(ids)
    assert simulator.asked == [
        {"status": "ORDERED", "ordered_on__gt": "2024-03-31T11:45:00.000000Z", "ordering": "ordered_on", "page_size": "200"},
        {"status": "DELIVERED", "ordered_on__gt": "2024-03-31T11:45:00.000000Z", "ordering": "ordered_on", "page_size": "200"},
    ]
    assert simulator.token_requests == ["application/x-www-form-urlencoded"]
    event = door.events[0]
    assert json.loads(event.document) == simulator.listed[ids[0]].order | {
        "fetched_by_supplier": False,
        "fetched_by_supplier_at": None,
        "viewed_by_supplier": False,
        "viewed_by_supplier_at": None,
    }
    assert event.document == simulator.listed[ids[0]].text()
    assert event.occurred_at == NOON - timedelta(minutes=10)


async def test_token_can_be_asked_for_in_json(simulator: ApicbaseSimulator, polling: Any) -> None:
    door = await polling(token_encoding="json")
    await door.round()
    assert simulator.token_requests == ["application/json"]


async def test_pages_follow_each_other_by_key_until_the_end(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 10)
    door = await polling(page_size=4)
    assert await door.round() == set(ids)
    assert {query["page_size"] for query in simulator.asked} == {"4"}
    assert not any("page" in query for query in simulator.asked)
    assert door.watermark == "2024-03-31T11:50:09Z"


async def test_case_4_an_order_that_arrives_between_two_pages_shifts_nothing(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 10)
    simulator.between_pages = [lambda: ids.extend(enlist(simulator, 1, first=NOON))] * 2
    door = await polling(page_size=4)
    assert await door.round() == set(ids)


async def test_case_4_an_order_that_leaves_between_two_pages_shifts_nothing(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 10)
    simulator.between_pages = [lambda: simulator.deliver(ids[0]), lambda: simulator.deliver(ids[1])]
    door = await polling(page_size=4)
    assert await door.round() == set(ids)


@pytest.mark.parametrize("shows", [{"count", "next"}, {"next"}, {"count"}, set()], ids=lambda s: "+".join(sorted(s)) or "neither")
@pytest.mark.parametrize("ignores", [set(), {"ordering"}, {"page_size"}, {"ordering", "page_size"}], ids=lambda s: " ".join(sorted(s)))
async def test_case_4_every_order_comes_whatever_the_list_ignores_and_leaves_out(
    simulator: ApicbaseSimulator, polling: Any, shows: set[str], ignores: set[str]
) -> None:
    ids = enlist(simulator, 23)
    simulator.shows, simulator.ignores = shows, ignores
    door = await polling()
    assert await door.round() == set(ids)


async def test_case_4_newest_first_with_an_order_arriving_is_read_again_until_nothing_shifts(
    simulator: ApicbaseSimulator, polling: Any
) -> None:
    ids = enlist(simulator, 10)
    simulator.ignores = {"ordering"}
    simulator.between_pages = [lambda: ids.extend(enlist(simulator, 1, first=NOON))]
    door = await polling(page_size=4)
    assert await door.round() == set(ids)
    assert [query.get("page", "1") for query in simulator.asked if query["status"] == "ORDERED"] == ["1", "2", "3", "1", "2", "3", "1"]


async def test_case_4_newest_first_with_an_order_leaving_skips_none(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 12)
    simulator.ignores = {"ordering"}
    simulator.between_pages = [lambda: simulator.deliver(ids[-1])]  # the newest: everything moves up by one
    door = await polling(page_size=4)
    assert await door.round() == set(ids)


async def test_case_4_a_list_that_never_rests_is_given_up_and_the_watermark_stays(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 5)
    simulator.ignores = {"ordering"}
    simulator.between_pages = [lambda: ids.extend(enlist(simulator, 1, first=NOON + timedelta(seconds=len(ids))))] * 22
    door = await polling(page_size=4)
    await door.round()
    assert door.watermark == "2024-03-31T11:45:00Z"
    simulator.between_pages.clear()
    await door.round()
    assert door.ids == set(ids)
    assert door.watermark == "2024-03-31T12:00:00Z"  # never later than the round's own beginning


async def test_case_4_rows_that_share_one_instant_over_several_pages_all_come(simulator: ApicbaseSimulator, polling: Any) -> None:
    early, same, late = (
        enlist(simulator, 3),
        enlist(simulator, 11, first=NOON, step_s=0),
        enlist(simulator, 5, first=NOON + timedelta(seconds=1)),
    )
    door = await polling(page_size=4)
    assert await door.round() == {*early, *same, *late}


async def test_case_4_newest_first_beginning_with_a_page_of_one_instant_is_found_out(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = [*enlist(simulator, 7), *enlist(simulator, 6, first=NOON, step_s=0)]
    simulator.ignores = {"ordering"}
    door = await polling(page_size=3)
    assert await door.round() == set(ids)


async def test_case_4_newest_first_in_pages_of_one_instant_each_skips_none_when_one_leaves(
    simulator: ApicbaseSimulator, polling: Any
) -> None:
    """Each page by itself could be part of an ascending list; one below the page before cannot."""
    ids = [*enlist(simulator, 3, step_s=0), *enlist(simulator, 3, first=NOON, step_s=0)]
    simulator.ignores = {"ordering"}
    simulator.between_pages = [lambda: simulator.deliver(ids[3])]
    door = await polling(page_size=3)
    assert await door.round() == set(ids)


async def test_pages_of_one_order_each_find_their_end(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 4)
    door = await polling(page_size=1)
    assert await door.round() == set(ids)


async def test_next_link_is_followed_by_its_query_and_never_to_another_host(simulator: ApicbaseSimulator, polling: Any) -> None:
    """The page selector is `page_order` on one page of the manual: the link knows, whatever `page_parameter` says."""
    ids = enlist(simulator, 10)
    simulator.ignores, simulator.page_parameter, simulator.next_host = {"ordering"}, "page_order", "https://elsewhere.example"
    door = await polling(page_size=4)
    assert await door.round() == set(ids)
    assert [query.get("page_order") for query in simulator.asked[:3]] == [None, "2", "3"]


async def test_a_page_selector_of_another_name_is_an_error_where_no_link_helps(simulator: ApicbaseSimulator, polling: Any) -> None:
    enlist(simulator, 10)
    simulator.ignores, simulator.page_parameter, simulator.shows = {"ordering"}, "page_order", set()
    door = await polling(page_size=4)
    with pytest.raises(PermanentError, match="page_parameter"):
        await door.round()
    right = await polling(page_size=4, page_parameter="page_order")
    assert len(await right.round()) == 10


async def test_a_list_that_ignores_the_filter_brings_nothing_from_before_the_start(simulator: ApicbaseSimulator, polling: Any) -> None:
    enlist(simulator, 5, first=NOON - timedelta(days=30))
    ids = enlist(simulator, 5)
    simulator.ignores = {"ordered_on__gt"}
    door = await polling(page_size=4)
    assert await door.round() == set(ids)


async def test_a_list_that_ignores_the_filter_does_not_make_polling_turn_on_the_spot(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 5, first=NOON, step_s=0.000001)
    simulator.ignores = {"ordered_on__gt"}
    door = await polling(page_size=2, start=Start(after=NOON))
    assert await door.round() == set(ids)


async def test_case_5_an_equal_timestamp_at_the_watermark_is_not_skipped(
    simulator: ApicbaseSimulator, polling: Any, clock: ManualClock
) -> None:
    (first,) = enlist(simulator, 1, first=NOON)
    door = await polling()
    assert await door.round() == {first}
    assert door.watermark == "2024-03-31T12:00:00Z"
    (second,) = enlist(simulator, 1, first=NOON)  # became visible late
    clock.advance(300)
    assert await door.round() == {first, second}
    assert simulator.asked[-1]["ordered_on__gt"] == "2024-03-31T11:45:00.000000Z"


async def test_case_5_overlap_is_a_setting(simulator: ApicbaseSimulator, polling: Any, clock: ManualClock) -> None:
    enlist(simulator, 1, first=NOON)
    door = await polling(overlap_s=60)
    await door.round()
    clock.advance(300)
    assert not await door.round() - set(simulator.listed)
    assert [query["ordered_on__gt"] for query in simulator.asked[::2]] == ["2024-03-31T11:59:00.000000Z", "2024-03-31T11:59:00.000000Z"]


async def test_case_5_a_list_that_shows_whole_seconds_only_loses_nothing_at_the_edge(simulator: ApicbaseSimulator, polling: Any) -> None:
    door = await polling(start=Start(after=NOON - timedelta(hours=1)))
    enlist(simulator, 1, first=NOON - timedelta(seconds=1, milliseconds=-300))
    await door.round()
    late = simulator.new(ordered_on=NOON - timedelta(seconds=901, milliseconds=-400))
    shown = late | {"ordered_on": "2024-03-31T11:44:59Z"}
    simulator.enlist(late, raw=json.dumps(shown).encode())
    assert late["id"] in await door.round()


async def test_watermark_never_passes_the_present(simulator: ApicbaseSimulator, polling: Any, clock: ManualClock) -> None:
    """One order with a date of next year must not hide those of today."""
    (strange,) = enlist(simulator, 1, first=NOON + timedelta(days=365))
    door = await polling()
    assert await door.round() == {strange}
    assert door.watermark == "2024-03-31T12:00:00Z"
    clock.advance(300)
    (today,) = enlist(simulator, 1, first=clock.now())
    assert today in await door.round()


async def test_a_first_start_by_a_clock_that_was_ahead_hides_nothing_once_it_is_right(
    simulator: ApicbaseSimulator, polling: Any, clock: ManualClock
) -> None:
    clock.jump(2 * 86400)
    door = await polling()
    door.since = clock.now()
    assert await door.round() == set()
    clock.jump(-2 * 86400)
    door.since = clock.now()
    (today,) = enlist(simulator, 1, first=clock.now())
    assert await door.round() == {today}


async def test_case_6_an_order_delivered_before_we_asked_comes_by_the_second_sweep(
    simulator: ApicbaseSimulator, polling: Any, clock: ManualClock
) -> None:
    door = await polling()
    ids = enlist(simulator, 3)
    simulator.deliver(ids[1])
    assert await door.round() == set(ids)
    delivered = next(event for event in door.events if event.key == ids[1])
    order = door.connector.normalize(Event(key=ids[1], order_ref=ids[1]), delivered.document)
    assert order.flags == ("delivered_unseen",)


async def test_case_6_the_second_sweep_begins_where_the_first_one_began(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 10)
    simulator.deliver(ids[0])
    door = await polling(page_size=4)
    assert await door.round() == set(ids)


async def test_case_6_an_older_delivered_order_is_found_behind_a_newer_one(
    simulator: ApicbaseSimulator, polling: Any, clock: ManualClock
) -> None:
    door = await polling(overlap_s=0, start=Start(after=NOON - timedelta(hours=1)))
    ids = enlist(simulator, 2)
    simulator.deliver(ids[0])
    assert await door.round() == set(ids)


async def test_case_6_an_order_placed_behind_the_sweeps_back_comes_in_the_next_round(
    simulator: ApicbaseSimulator, polling: Any, clock: ManualClock
) -> None:
    door = await polling(overlap_s=0)
    late: list[str] = []

    def meanwhile() -> None:
        clock.advance(2)
        late.extend(enlist(simulator, 2, first=NOON + timedelta(seconds=1)))
        simulator.deliver(late[1])

    simulator.between_pages = [meanwhile]
    assert await door.round() == {late[1]}
    assert late[0] in await door.round()


async def test_case_7_a_token_that_expires_between_two_pages_is_renewed_once(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 10)
    simulator.between_pages = [simulator.expire_tokens]
    door = await polling(page_size=4)
    assert await door.round() == set(ids)
    assert len(simulator.token_requests) == 2


async def test_case_7_a_second_401_is_an_error_of_the_configuration(simulator: ApicbaseSimulator, polling: Any) -> None:
    door = await polling()
    simulator.answer_next(401, times=2)
    with pytest.raises(AuthError):
        await door.page()
    assert len(simulator.token_requests) == 2
    simulator.client_secret = "another"
    simulator.expire_tokens()
    with pytest.raises(AuthError, match="client_id and client_secret"):
        await door.page()


async def test_case_8_429_waits_as_long_as_the_header_says_or_a_minute(simulator: ApicbaseSimulator, polling: Any) -> None:
    door = await polling()
    await door.page()
    simulator.limit_per_minute = 0
    with pytest.raises(RateLimited) as limited:
        await door.page()
    assert 1 <= (limited.value.retry_after_s or 0) <= 60
    simulator.limit_per_minute = 100
    simulator.answer_next(429, 1, **{"Retry-After": "17"})
    with pytest.raises(RateLimited) as limited:
        await door.page()
    assert limited.value.retry_after_s == 17
    simulator.answer_next(429)
    with pytest.raises(RateLimited) as limited:
        await door.page()
    assert limited.value.retry_after_s == 60


async def test_case_8_calls_per_minute_are_never_exceeded(simulator: ApicbaseSimulator, polling: Any, clock: ManualClock) -> None:
    door = await polling(calls_per_minute=3)
    await door.round()  # a token and two sweeps
    third = asyncio.create_task(door.page())
    await asyncio.wait([third], timeout=0.05)
    assert not third.done()
    assert len(simulator.asked) == 2
    clock.advance(60)
    await third
    assert len(simulator.asked) == 3


async def test_a_round_cut_short_goes_on_at_the_page_that_was_not_committed(
    simulator: ApicbaseSimulator, polling: Any, clock: ManualClock
) -> None:
    ids = enlist(simulator, 10)
    door = await polling(page_size=4)
    assert await door.page()
    committed = door.cursor
    await door.page()  # its page and cursor are lost
    again = await polling(page_size=4)
    again.cursor, again.since = committed, door.since
    clock.advance(7200)
    first = {event.key for event in door.events[:4]}
    assert first | await again.round() == set(ids)
    assert again.watermark == "2024-03-31T11:50:09Z"


async def test_an_error_keeps_the_cursor(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 6)
    door = await polling(page_size=4)
    await door.page()
    for status in (500, 503):
        simulator.answer_next(status)
        with pytest.raises(TransientError):
            await door.page()
    await door.round()
    assert door.ids == set(ids)


async def test_start_says_from_when_on_orders_are_wanted(simulator: ApicbaseSimulator, polling: Any) -> None:
    enlist(simulator, 1, first=NOON - timedelta(days=3))
    wanted = enlist(simulator, 2, first=NOON - timedelta(days=1))
    door = await polling(start=Start(after=NOON - timedelta(days=2)))
    assert await door.round() == set(wanted)
    assert await door.round() == {wanted[1], wanted[0]}  # the overlap
    assert min(query["ordered_on__gt"] for query in simulator.asked) == "2024-03-29T12:00:00.000000Z"


async def test_a_cursor_of_another_version_begins_again(simulator: ApicbaseSimulator, polling: Any) -> None:
    ids = enlist(simulator, 2)
    door = await polling()
    for text in ("{}", "rubbish", '{"watermark": 5}'):
        door.cursor = text
        assert await door.round() == set(ids)


async def test_a_gone_page_is_the_end_of_the_list_and_the_next_round_has_the_rest(simulator: ApicbaseSimulator, polling: Any) -> None:
    """Orders that all share one instant, and half of them leave: the second page is a 404 then."""
    ids = enlist(simulator, 6, first=NOON, step_s=0)
    simulator.between_pages = [lambda: [simulator.deliver(id) for id in ids[:3]]]
    door = await polling(page_size=3, overlap_s=0, start=Start(after=NOON - timedelta(hours=1)))
    assert await door.round() == set(ids[:3])
    assert await door.round() == set(ids)


async def test_a_404_on_the_first_page_is_an_error(polling: Any) -> None:
    door = await polling(list_path="api/v2/elsewhere/")
    with pytest.raises(PermanentError, match="404"):
        await door.page()
