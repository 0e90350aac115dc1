"""Every parser and verifier on bytes that nobody meant: only what it documents may escape.

`make test` gives each 60 inputs, the same each time; `make test-all` `FUZZ_RUNS` (default 1,000) others, from a seed that a failure
prints and `TEST_SEED` repeats. `make fuzz` gives each as many as there is time for, guided by what they reach
(`python -m tests.harness.fuzz --help`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.seed import SEED

from . import command_api, core, vendors
from .mutation import mutated
from .target import TARGETS, Target

RUNS = int(os.environ.get("FUZZ_RUNS", "1000"))
FOUND = Path(__file__).parent / "found"
limits = settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def fuzz(target: Target, limits: settings = limits) -> None:
    """The corpus as it is, then changed."""
    for data in target.corpus():
        target.feed(data)
    limits(given(mutated(list(target.corpus())))(target.feed))()


@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_errors_escape(name: str) -> None:
    fuzz(TARGETS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_errors_escape_from_many(name: str) -> None:
    print(f"TEST_SEED={SEED}")
    many = settings(limits, max_examples=RUNS, derandomize=False)
    seed(SEED)(many(given(mutated(list(TARGETS[name].corpus())))(TARGETS[name].feed)))()


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_found_no_more(name: str) -> None:
    for file in sorted((FOUND / name).glob("*")):
        TARGETS[name].feed(file.read_bytes())


def test_every_part_that_reads_from_outside_is_there() -> None:
    assert len(TARGETS) >= 39
    assert {"core", "vendors", "command_api"} <= {module.__name__.rsplit(".", 1)[-1] for module in (core, vendors, command_api)}


# --- known-bad mutants: parsers as they are written when nobody thinks of this


def reads_deeply(data: bytes) -> None:
    """What is nested too deeply is no ValueError."""
    json.loads(data)


def trusts_the_shape(data: bytes) -> None:
    """Takes for a list of objects whatever stands there."""
    found = json.loads(data)
    [row["id"] for row in found["results"]]


def waits_as_long_as_it_says(data: bytes) -> None:
    """Takes for a number whatever stands behind `wait=`."""
    int(json.loads(data)["Prefer"].partition("wait=")[2])


MUTANTS = {
    "depth": Target("mutant", reads_deeply, (ValueError,), lambda: [b"[]", b'{"qty": 1}']),
    "shape": Target("mutant", trusts_the_shape, (ValueError,), lambda: [b'{"results": [{"id": 1}]}']),
    "wait": Target("mutant", waits_as_long_as_it_says, (json.JSONDecodeError, UnicodeDecodeError), lambda: [b'{"Prefer": "wait=10"}']),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_known_bad_mutant_is_found(mutant: str) -> None:
    with pytest.raises((RecursionError, KeyError, TypeError, ValueError)):
        fuzz(MUTANTS[mutant], settings(limits, max_examples=3000, derandomize=True))
