"""Back-off: full jitter under an exponential roof, ended by age."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.retry import backoff_s, is_over


@given(st.integers(1, 10_000), st.floats(0.01, 100), st.floats(100, 86_400), st.floats(0, 0.999999))
def test_backoff_stays_under_its_roof(attempt: int, base_s: float, cap_s: float, throw: float) -> None:
    wait_s = backoff_s(attempt, base_s=base_s, cap_s=cap_s, dice=lambda: throw)
    assert base_s / 10 <= wait_s <= max(cap_s, base_s / 10)
    assert wait_s <= max(base_s * 2 ** min(attempt - 1, 60), base_s / 10)


def test_backoff_doubles_its_roof_up_to_the_cap() -> None:
    roofs = [backoff_s(n, base_s=2, cap_s=900, dice=lambda: 1.0) for n in range(1, 12)]
    assert roofs == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_backoff_spreads_over_the_whole_range() -> None:
    waits = [backoff_s(8, base_s=2, cap_s=900) for _ in range(500)]
    assert min(waits) < 30
    assert max(waits) > 226


def test_age_ends_it() -> None:
    assert not is_over(604_799, 604_800)
    assert is_over(604_800, 604_800)
