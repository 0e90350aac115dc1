"""The engine against its reference, on the real store with the real steps.

`make test` runs the same 8 lives of at most 40 actions each time, `make test-all` `MODEL_RUNS` others (default 100) from a seed that is
printed; `TEST_SEED` repeats it. A failure prints the shortest life that shows it. The known-bad mutants run the same over stores with
one fault in each; those that take a hundred lives to find are long.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.outbound.session import tls_context
from gateway.store.sqlite import SqliteStore
from gateway.targets import sender
from tests.seed import SEED

from .machine import Engine
from .mutants import MUTANTS, OUTWARD
from .submitting import CommandMachine

RUNS = int(os.environ.get("MODEL_RUNS", "100"))
FEW = 8
HARD_TO_FIND = (
    "AnnouncesNothing",
    "ErasesWhatHasNotLeft",
    "LetsCommandsOvertake",
    "LetsThemOvertake",
    "ResendsWhatIsOlder",
    "SettlesWithoutItsLease",
    "TakesWhatWasLeasedForDone",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Thousands of targets are opened here: reading the system's certificates for each, and logging, would be most of the time."""
    monkeypatch.setattr(sender, "tls_context", cache(tls_context))
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


@pytest.mark.parametrize("runs", [FEW, pytest.param(RUNS, marks=pytest.mark.long)])
@pytest.mark.parametrize("machine", [Engine, CommandMachine], ids=["engine", "commands"])
def test_what_came_in_is_done_once_or_waits_or_was_ended_by_a_person(machine: type[Engine] | type[CommandMachine], runs: int) -> None:
    class Seeded(machine):  # type: ignore[misc, valid-type]
        pass

    if runs != FEW:
        print(f"MODEL_RUNS={runs} TEST_SEED={SEED}")
        seed(SEED)(Seeded)
    run_state_machine_as_test(Seeded, settings=limits(runs, derandomize=runs == FEW))


def mutant(machine: type[Engine] | type[CommandMachine], made: type[SqliteStore]) -> Any:
    marks = [pytest.mark.long] if made.__name__ in HARD_TO_FIND else []
    return pytest.param(machine, made, id=f"{machine.__name__}-{made.__name__}", marks=marks)


@pytest.mark.parametrize(
    ("machine", "mutant"), [*(mutant(Engine, one) for one in MUTANTS), *(mutant(CommandMachine, one) for one in OUTWARD)]
)
def test_known_bad_mutant_is_found(machine: type[Engine] | type[CommandMachine], mutant: type[SqliteStore]) -> None:
    class Bad(machine):  # type: ignore[misc, valid-type]
        make = mutant

    without_shrinking = settings(limits(150), phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Bad, settings=without_shrinking)
