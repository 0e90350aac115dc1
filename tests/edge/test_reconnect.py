"""How long to wait after each kind of ending; pure."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Reconnect
from gateway.edge.reconnect import Backoff, Cause, Disconnected

RECONNECT = Reconnect(base_s=1, factor=2, cap_s=60)
CAUSES: tuple[Cause, ...] = get_args(Cause)


def high() -> float:
    return 1.0


def low() -> float:
    return 0.0


def test_a_wait_that_a_hub_asks_for_is_believed_up_to_an_hour_or_three_of_our_pauses() -> None:
    far, dice = ended(retry_after_s=1e9), lambda: 0.0
    assert Backoff(dice=dice).after(far, 0, Reconnect(base_s=1, factor=2, cap_s=60)) == 3600
    assert Backoff(dice=dice).after(far, 0, Reconnect(base_s=1, factor=2, cap_s=3000)) == 9000


def ended(cause: Cause = "broken", retry_after_s: float | None = None) -> Disconnected:
    return Disconnected(cause, "x", retry_after_s=retry_after_s)


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(dice=high)
    assert [backoff.after(ended(), 0, RECONNECT) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_full_jitter_begins_near_nothing_but_never_at_it() -> None:
    backoff = Backoff(dice=low)
    assert [backoff.after(ended(), 0, RECONNECT) for _ in range(3)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("online_s", [0.0, 0.1, 29.9])
def test_a_connection_that_did_not_last_does_not_start_over(online_s: float) -> None:
    backoff = Backoff(dice=high)
    for _ in range(5):
        backoff.after(ended(), 0, RECONNECT)
    assert backoff.after(ended(), online_s, RECONNECT) == 32


def test_a_connection_that_lasted_starts_over() -> None:
    backoff = Backoff(dice=high)
    for _ in range(5):
        backoff.after(ended(), 0, RECONNECT)
    assert [backoff.after(ended(), 30, RECONNECT), backoff.after(ended(), 0, RECONNECT)] == [1, 2]


def test_a_hub_that_sent_us_away_is_left_alone() -> None:
    backoff = Backoff(dice=low)
    assert [backoff.after(ended("close_no_reconnect"), online_s, RECONNECT) for online_s in (0, 1000)] == [30, 30]


@pytest.mark.parametrize("cause", ["credential", "not_a_hub", "connector"])
def test_what_only_a_person_can_mend_waits_near_the_cap(cause: Cause) -> None:
    assert Backoff(dice=low).after(ended(cause), 0, RECONNECT) == 30
    assert Backoff(dice=high).after(ended(cause), 0, RECONNECT) == 60


@pytest.mark.parametrize("cause", CAUSES)
def test_a_hub_that_names_a_time_is_not_asked_before(cause: Cause) -> None:
    assert Backoff(dice=low).after(ended(cause, 3000.0), 0, RECONNECT) == 3000


@given(st.sampled_from(CAUSES), st.integers(0, 3000), st.integers(0, 2**32), st.floats(0.01, 10), st.floats(1, 1e6))
def test_every_wait_is_within_its_limits(cause: Cause, tries: int, seed: int, base_s: float, factor: float) -> None:
    reconnect = Reconnect(base_s=base_s, factor=factor, cap_s=60)
    backoff = Backoff(dice=random.Random(seed).random)
    backoff._steps = tries
    wait_s = backoff.after(ended(cause), 0, reconnect)
    assert (30 if cause == "close_no_reconnect" else 0.5) <= wait_s <= 60


def test_a_reason_holds_no_address() -> None:
    assert str(Disconnected("credential", "the hub answers 401")) == "credential: the hub answers 401"


@pytest.mark.parametrize(
    ("values", "key"),
    [({"base_s": 0}, "base_s"), ({"base_s": float("nan")}, "base_s"), ({"factor": 0.5}, "factor"), ({"base_s": 70}, "cap_s")],
)
def test_a_reconnect_that_makes_no_sense_is_named(values: dict[str, float], key: str) -> None:
    assert key in [name for name, _ in Reconnect(**values).check()]
