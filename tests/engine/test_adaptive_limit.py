"""How many at a time: fewer where the target says so, more while it takes them, against a model of a target with little room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.adaptive_limit import AdaptiveLimit


def test_it_gets_half_as_many_and_one_more_for_each_round_that_it_takes() -> None:
    made = AdaptiveLimit(16)
    assert made.record_overload(1, began=0, in_flight=16)
    assert (made.size, made.lowered) == (8, (8, 16))
    for _ in range(8):
        made.record_success(2)
    assert (made.size, made.lowered) == (9, (9, 16))
    for _ in range(200):
        made.record_success(3)
    assert (made.size, made.lowered) == (16, None)


def test_those_that_left_together_lower_it_once() -> None:
    made = AdaptiveLimit(16)
    assert [made.record_overload(1 + n / 100, began=0, in_flight=16 - n) for n in range(11)] == [True] * 11
    assert made.size == 8


def test_one_that_was_alone_says_nothing_about_how_many() -> None:
    made = AdaptiveLimit(16)
    assert not made.record_overload(1, began=0, in_flight=1)
    assert (made.size, made.lowered) == (16, None)


def test_what_was_under_way_is_halved_and_not_what_was_allowed() -> None:
    made = AdaptiveLimit(16)
    made.record_overload(1, began=0, in_flight=4)
    assert made.size == 2


def test_after_an_outage_it_begins_with_one_and_doubles_up_to_what_it_took_before() -> None:
    made = AdaptiveLimit(8)
    made.record_overload(1, began=0, in_flight=8)
    made.slow_start()
    sizes = [made.size]
    for _ in range(3):
        made.record_success(2)
        sizes.append(made.size)
    assert sizes == [1, 2, 4, 4]


@given(st.lists(st.tuples(st.sampled_from(["taken", "too much", "small"]), st.integers(1, 20)), max_size=300))
def test_it_is_never_less_than_one_nor_more_than_the_configuration_allows(steps: list[tuple[str, int]]) -> None:
    made = AdaptiveLimit(16)
    for n, (step, in_flight) in enumerate(steps):
        if step == "taken":
            made.record_success(n)
        elif step == "small":
            made.slow_start()
        else:
            made.record_overload(n, began=n - 0.5, in_flight=in_flight)
        assert 1 <= made.size <= 16


def rounds(made: AdaptiveLimit, room: int, count: int) -> int:
    """What a target with so much room takes in so many rounds: what is over it is refused. How many it took."""
    taken = 0
    for n in range(count):
        in_flight = made.size
        for _ in range(min(in_flight, room)):
            made.record_success(n + 0.5)
        for _ in range(max(in_flight - room, 0)):
            made.record_overload(n + 0.6, began=n, in_flight=in_flight)
        taken += min(in_flight, room)
    return taken


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """The known-bad mutant: too much stops it, as a breaker does, and it begins with one again."""

    def record_overload(self: AdaptiveLimit, now: float, *, began: float, in_flight: int) -> bool:
        self.slow_start()
        self._ceiling = self._most
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdaptiveLimit, "record_overload", record_overload)
        yield


@pytest.mark.parametrize(("most", "room"), [(16, 5), (16, 1), (64, 10), (8, 8)])
def test_a_target_with_little_room_gets_most_of_what_it_can_take(most: int, room: int) -> None:
    assert rounds(AdaptiveLimit(most), room, 400) >= 0.7 * 400 * room


def test_the_mutant_that_stops_gets_much_less() -> None:
    with all_or_nothing():
        assert rounds(AdaptiveLimit(16), 5, 400) < 0.7 * 400 * 5
