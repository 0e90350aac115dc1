"""The breaker: notices once, tries one order at a time, another one each time, and is mended by what that order is answered."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.breaker import Breaker, doubling, once_then


def breaker(failures: int = 3) -> Breaker:
    return Breaker(failures=failures, cooldown_s=10, cap_s=60)


def fail(made: Breaker, now: float, *rows: int) -> list[bool]:
    """Each of these rows fails, having left a moment before."""
    return [made.record_failure(now, row, began=now - 0.5) for row in rows]


def opened(at: float = 0.0) -> Breaker:
    made = breaker()
    fail(made, at, 1, 2, 3)
    return made


def test_it_opens_after_failures_in_a_row_of_several_orders_and_says_so_once() -> None:
    made = breaker()
    assert fail(made, 0, 1, 2, 3, 4) == [False, False, True, False]
    assert (made.kind, made.blocks, made.next_probe_s(0)) == ("down", True, 10)


def test_a_success_in_between_starts_the_count_over() -> None:
    made = breaker()
    for n in range(10):
        fail(made, 0, 1, 2)
        assert made.record_success(n, began=0) is None
    assert not made.is_open


def test_one_order_that_fails_alone_stops_no_other() -> None:
    """The target counts as down while that is all there is to see, and a new order leaves at once (issue 12, point 5)."""
    made = breaker()
    assert fail(made, 0, *[7] * 50)[2] is True
    assert (made.kind, made.blocks) == ("down", False)
    assert made.record_success(8, began=1) == "down"
    assert not made.is_open


def test_an_order_that_fails_alone_again_and_again_no_longer_counts() -> None:
    """Else `readyz` goes up and down for as long as it is tried."""
    made = breaker()
    for n in range(20):
        fail(made, n, *[7] * 5)
        made.record_success(8, began=n)
    assert fail(made, 100, *[7] * 20) == [False] * 20
    assert fail(made, 101, 1, 2, 3)[-1], "others count as before"
    assert made.record_success(7, began=102) == "down"
    assert fail(made, 103, *[7] * 3)[-1], "once it is taken, it counts again"


def test_where_nothing_can_be_reached_it_is_no_orders_fault() -> None:
    made = breaker()
    for _ in range(3):
        made.record_failure(0, 7, began=-1, reached=False)
    assert made.blocks


def test_it_tries_at_the_cadence_that_is_configured_for_as_long_as_it_takes() -> None:
    """What is back after hours is noticed as soon as what is back after a minute."""
    made, now, pauses = opened(), 0.0, []
    for n in range(20):
        pauses.append(made.next_probe_s(now))
        now += pauses[-1]
        made.record_probe(now, n)
        made.record_failure(now + 0.125, n, began=now)
        now += 0.125
    assert pauses == [10.0] * 20


def test_it_tries_another_order_than_those_that_failed_and_begins_anew_when_there_is_none() -> None:
    made = opened()
    assert made.probed == {1, 2, 3}
    made.record_probe(10, 4)
    made.record_failure(10.1, 4, began=10)
    assert made.probed == {1, 2, 3, 4}
    made.record_probe(21, 1)
    made.record_failure(21.1, 1, began=21)
    assert made.probed == {1}


def test_late_failures_of_the_old_flight_do_not_lengthen_the_pause() -> None:
    made = opened()
    made.record_failure(1, 4, began=-1)
    made.record_failure(2, 5, began=-1)
    assert made.next_probe_s(4) == 6


def test_somebody_who_knows_better_ends_the_pause_and_a_failed_try_begins_another() -> None:
    made = opened()
    made.probe_now()
    assert made.next_probe_s(1) == 0
    made.record_failure(1, 4, began=0.9)
    assert made.next_probe_s(1) == 10
    well = breaker()
    well.probe_now()
    assert not well.is_open


def test_no_pause_is_longer_than_the_cap() -> None:
    made = Breaker(failures=2, cooldown_s=30, cap_s=5)
    fail(made, 100.0, 1, 2)
    assert made.next_probe_s(100.0) == 5


# --- on hold


def held(pauses: object = None) -> Breaker:
    made = breaker()
    assert made.record_refusal(0, 1, pauses or doubling(30, 600), began=-1)  # type: ignore[arg-type]
    return made


def test_a_hold_is_tried_soon_then_more_and_more_seldom() -> None:
    made, now, pauses = held(), 0.0, []
    for n in range(8):
        pauses.append(made.next_probe_s(now))
        now += pauses[-1]
        made.record_refusal(now + 0.125, n, doubling(30, 600), began=now)
        now += 0.125
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]
    assert (made.kind, made.blocks) == ("paused", True)


def test_a_refused_password_is_tried_once_more_and_never_again_by_itself() -> None:
    made = held(once_then(30, math.inf))
    made.record_refusal(31, 2, once_then(30, math.inf), began=30)
    assert made.next_probe_s(1e9) == math.inf


def test_a_target_that_is_down_while_it_is_tried_stays_on_hold_and_is_tried_again() -> None:
    made = held()
    made.record_failure(31, 2, began=30)
    assert (made.kind, made.next_probe_s(31)) == ("paused", 30)


def test_what_was_on_its_way_before_a_hold_neither_ends_nor_lengthens_it() -> None:
    made = held()
    assert made.record_success(2, began=-1) is None
    made.record_refusal(5, 3, doubling(30, 600), began=-1)
    assert (made.kind, made.next_probe_s(5)) == ("paused", 25)


def test_one_order_that_is_taken_ends_a_hold() -> None:
    made = held()
    assert made.record_success(2, began=30) == "paused"
    assert (made.is_open, made.blocks, made.next_probe_s(30)) == (False, False, 0)


def test_an_order_that_alone_holds_the_target_again_and_again_is_held_itself() -> None:
    made = breaker()
    for n in range(3):
        assert made.record_refusal(100.0 * n, 1, doubling(30, 600), began=100.0 * n - 1)
        made.record_success(2, began=100.0 * n + 30)
    assert not made.record_refusal(400, 1, doubling(30, 600), began=399)
    assert not made.is_open
    assert made.record_refusal(500, 3, doubling(30, 600), began=499), "another order may hold it as before"


def test_an_order_that_ends_a_hold_of_its_own_is_not_blamed() -> None:
    made = breaker()
    for n in range(10):
        assert made.record_refusal(100.0 * n, 1, doubling(30, 600), began=100.0 * n - 1)
        made.record_success(1, began=100.0 * n + 30)


@given(st.lists(st.tuples(st.sampled_from(["ok", "bad", "refused", "wait"]), st.integers(1, 4)), max_size=200))
def test_it_never_sticks(steps: list[tuple[str, int]]) -> None:
    """Whatever happened, after the longest pause one order tries, and its being taken ends it."""
    made, now = breaker(), 0.0
    for step, row in steps:
        now += 0.1
        if step == "ok":
            made.record_success(row, began=now - 0.05)
        elif step == "bad":
            made.record_failure(now, row, began=now - 0.05)
        elif step == "refused":
            made.record_refusal(now, row, doubling(30, 600), began=now - 0.05)
        else:
            now += 7
    assert made.next_probe_s(now + 601) == 0
    made.record_success(9, began=now + 601)
    assert not made.is_open
