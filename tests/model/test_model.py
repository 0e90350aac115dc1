"""The engine against its reference, on the real store with the real steps.

The suite runs the same 25 lives of at most 40 actions each time. `MODEL_RUNS=5000 MODEL_SEED=1` runs others; a failure prints the
shortest life that shows it, and the seed repeats it. The known-bad twins run the same over stores with one fault in each.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.store.sqlite import SqliteStore
from gateway.target import auth

from .machine import Engine
from .submitting import WayBack
from .twins import OUTWARD, TWINS

RUNS = int(os.environ.get("MODEL_RUNS", "25"))
SEED = int(os.environ.get("MODEL_SEED", random.randrange(10**6)))
RANDOM = "MODEL_RUNS" in os.environ or "MODEL_SEED" in os.environ


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Thousands of targets are opened here: reading the system's certificates for each, and logging, would be most of the time."""
    monkeypatch.setattr(auth, "tls_context", cache(auth.tls_context))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def limits(runs: int, *, derandomize: bool = True) -> settings:
    return settings(
        max_examples=runs,
        stateful_step_count=40,
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_what_was_accepted_is_delivered_or_waits_or_was_dropped_by_a_person() -> None:
    class Seeded(Engine):
        pass

    if RANDOM:
        print(f"MODEL_RUNS={RUNS} MODEL_SEED={SEED}")
        seed(SEED)(Seeded)
    run_state_machine_as_test(Seeded, settings=limits(RUNS, derandomize=not RANDOM))


def test_what_a_caller_handed_in_is_done_once_or_waits_or_was_ended_by_a_person() -> None:
    class Seeded(WayBack):
        pass

    if RANDOM:
        print(f"MODEL_RUNS={RUNS} MODEL_SEED={SEED}")
        seed(SEED)(Seeded)
    run_state_machine_as_test(Seeded, settings=limits(RUNS, derandomize=not RANDOM))


@pytest.mark.parametrize(
    ("machine", "twin"),
    [*((Engine, twin) for twin in TWINS), *((WayBack, twin) for twin in OUTWARD)],
    ids=lambda one: one.__name__,
)
def test_known_bad_twin_is_found(machine: type[Engine] | type[WayBack], twin: type[SqliteStore]) -> None:
    class Bad(machine):  # type: ignore[misc, valid-type]
        make = twin

    without_shrinking = settings(limits(150), phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Bad, settings=without_shrinking)
