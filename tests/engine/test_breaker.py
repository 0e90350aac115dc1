"""The breaker: notices once, probes with one, comes back without a storm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.breaker import Breaker


def breaker() -> Breaker:
    return Breaker(failures=3, cooldown_s=10, cap_s=60, concurrency=8)


def opened(at: float = 0.0) -> Breaker:
    made = breaker()
    for _ in range(3):
        made.failed(at)
    return made


def test_it_opens_after_failures_in_a_row_and_says_so_once() -> None:
    made = breaker()
    assert [made.failed(0), made.failed(0), made.failed(0), made.failed(0)] == [None, None, "opened", None]
    assert made.may_fly(0) == 0


def test_a_success_in_between_starts_the_count_over() -> None:
    made = breaker()
    for _ in range(10):
        made.failed(0)
        made.failed(0)
        assert made.succeeded() is None
    assert not made.is_open


def test_one_probe_flies_after_the_pause() -> None:
    made = opened()
    assert (made.may_fly(9.9), made.may_fly(10)) == (0, 1)
    assert made.next_probe_s(4) == 6


def test_a_failed_probe_doubles_the_pause_up_to_the_cap() -> None:
    made, now, pauses = opened(), 0.0, []
    for _ in range(6):
        pause = made.next_probe_s(now)
        pauses.append(pause)
        now += pause
        made.failed(now)
    assert pauses == [10, 20, 40, 60, 60, 60]


def test_late_failures_of_the_old_flight_do_not_lengthen_the_pause() -> None:
    made = opened()
    made.failed(1)
    made.failed(2)
    assert made.may_fly(10) == 1


def test_somebody_who_knows_better_ends_the_pause_and_a_failed_probe_begins_another() -> None:
    made = opened()
    made.hurry()
    assert (made.may_fly(1), made.next_probe_s(1)) == (1, 0)
    made.failed(1)
    assert (made.may_fly(1), made.next_probe_s(1)) == (0, 20)
    well = breaker()
    well.hurry()
    assert not well.is_open


def test_it_comes_back_with_one_and_doubles() -> None:
    made = opened()
    assert made.succeeded() == "closed"
    flying = [made.may_fly(10)]
    for _ in range(4):
        made.succeeded()
        flying.append(made.may_fly(10))
    assert flying == [1, 2, 4, 8, 8]


@given(st.lists(st.sampled_from(["ok", "bad", "wait"]), max_size=200))
def test_it_never_allows_more_than_the_concurrency_and_never_sticks(steps: list[str]) -> None:
    made, now = breaker(), 0.0
    for step in steps:
        if step == "ok":
            made.succeeded()
        elif step == "bad":
            made.failed(now)
        else:
            now += 7
        assert 0 <= made.may_fly(now) <= 8
    assert made.may_fly(now + 61) >= 1


def test_no_pause_is_longer_than_the_cap() -> None:
    made = Breaker(failures=1, cooldown_s=30, cap_s=5, concurrency=8)
    made.failed(100.0)
    assert made.next_probe_s(100.0) == 5
