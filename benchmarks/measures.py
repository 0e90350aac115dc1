"""Numbers of several rounds, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from msgspec import Struct


class Spread(Struct, frozen=True, kw_only=True):
    """One number measured in several rounds."""

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """The median with the lowest and the highest."""
    return Spread(median=median(values), low=min(values), high=max(values), rounds=tuple(values))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """`p50_ms` and `p99_ms`."""
    ranked = sorted(seconds)
    last = len(ranked) - 1
    return {f"p{p}_ms": ranked[round(last * p / 100)] * 1000 for p in (50, 99)} if ranked else {}
