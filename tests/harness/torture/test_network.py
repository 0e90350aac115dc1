"""The network's faults: one kind on each leg in `make test`, as the seed says; every kind in `make test-all`.

The seed is printed, and `TEST_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import pytest

from gateway.testing import ManualClock
from tests.harness.torture.faulty_proxy import KINDS
from tests.harness.torture.network import FOR_OPERATORS, NO_SENSE, NetworkHarness, one_leg
from tests.harness.torture.protocol import Tally
from tests.harness.torture.site import LEGS, Patience
from tests.seed import SEED

pytestmark = pytest.mark.skipif(NetworkHarness().needs() is not None, reason="needs the openssl command to make certificates")


def test_every_kind_is_tried_on_every_leg_or_has_its_reason() -> None:
    assert len(KINDS) == 14
    assert len(LEGS) == 4
    assert all(leg in LEGS and kind in KINDS and reason for (leg, kind), reason in NO_SENSE.items())
    assert set(FOR_OPERATORS) < set(KINDS)


class BusyMachine(ManualClock):
    """Who wants to be woken is woken so many times later."""

    def __init__(self, slower: float) -> None:
        super().__init__()
        self.slower = slower

    async def sleep(self, delay_s: float) -> None:
        self.advance(delay_s * self.slower)


@pytest.mark.parametrize(("slower", "waits_s"), [(1, 3), (4, 12), (1000, 50)])
async def test_a_second_counts_for_what_we_got_of_it_and_ten_times_the_limit_is_the_end(slower: float, waits_s: float) -> None:
    clock = BusyMachine(slower)
    patience = Patience(3.0, clock)
    while not patience.is_over():
        await patience.pause()
    assert round(clock.monotonic()) == waits_s


@pytest.mark.parametrize("kinds", [1, pytest.param(len(KINDS), marks=pytest.mark.long)])
async def test_no_fault_of_the_network_loses_doubles_or_overtakes(tmp_path: Path, kinds: int, capsys: pytest.CaptureFixture[str]) -> None:
    """So many kinds on each leg, none on two legs before every kind has had its turn; an ERP that knows repeats with every second seed."""
    tally, order = Tally(name="network"), Random(SEED).sample(KINDS, len(KINDS))
    share = {leg: (order[n * kinds :] + order)[:kinds] for n, leg in enumerate(LEGS)}
    began = time.monotonic()
    keyed = SEED % 2 == 0
    cells = await asyncio.gather(*(one_leg(leg, share[leg], Random(SEED), tally, tmp_path / leg, keyed=keyed) for leg in LEGS))
    with capsys.disabled():
        print(
            f"\n  network: seed {SEED}, {tally.faults.total()} faults, {tally.acknowledged} orders taken, {tally.lost} lost,"
            f" {tally.doubled} doubled, {tally.repeats} repeats at the ERP, {time.monotonic() - began:.0f} s"
        )
    assert [problem for one in cells for problem in one.problems] == [], f"TEST_SEED={SEED}"


_TRIES = 4
MUTANTS = {
    "new_key_each_time": ("erp", "reply lost", "is in the ERP under"),
    "no_timeouts": ("erp", "blackhole", "still not there"),
    "follow_redirects": ("vendor", "redirect", "went where a redirect pointed to"),
    "marks_unheard": ("vendor", "5xx", "mark of"),
    "hold_untold": ("erp", "TLS", "still not there"),
    "no_resync": ("hub", "refused", "of pushed"),
    "loop_blocked": ("vendor", "reset", "looks at its health were not answered"),
}


@pytest.mark.parametrize("mutant", ["new_key_each_time", *(pytest.param(one, marks=pytest.mark.long) for one in list(MUTANTS)[1:])])
async def test_known_bad_mutants_are_caught(tmp_path: Path, mutant: str) -> None:
    leg, kind, said = MUTANTS[mutant]
    found: list[str] = []
    for n in range(_TRIES):  # whether the fault meets what the mutant does wrong is chance
        tally, place = Tally(name=mutant), tmp_path / f"{mutant}{n}"
        cells = await one_leg(leg, [kind] * 12, Random(SEED + n), tally, place, "--mutant", mutant, patience_s=2.0, recovery_s=3.0)
        found += cells.problems
        if said in " ".join(found):
            return
    raise AssertionError(f"TEST_SEED={SEED}: not caught in {_TRIES} tries: {found}")
