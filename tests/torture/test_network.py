"""The network's faults in short: each kind on one leg, and two of the twins that the harness must catch, as the seed says.

`TORTURE_SEED` repeats a run, `TORTURE_WHOLE=1` takes every kind on every leg, and every twin.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from random import Random

import pytest

from gateway.testing import ManualClock
from tests.torture.network import FOR_OPERATORS, NO_SENSE, NetworkHarness, one_leg
from tests.torture.protocol import Tally
from tests.torture.site import LEGS, Patience
from tests.torture.wires import KINDS

SEED = int(os.environ.get("TORTURE_SEED", str(time.time_ns() % 10**6)))
WHOLE = "TORTURE_WHOLE" in os.environ
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


@pytest.mark.parametrize("keyed", [SEED % 2 == 0])
async def test_no_fault_of_the_network_loses_doubles_or_overtakes(tmp_path: Path, keyed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    tally, dice = Tally(name="network"), Random(SEED)
    kinds = dice.sample(KINDS, len(KINDS))
    share = {leg: kinds if WHOLE else kinds[n :: len(LEGS)] for n, leg in enumerate(dice.sample(LEGS, len(LEGS)))}
    began = time.monotonic()
    cells = await asyncio.gather(*(one_leg(leg, share[leg], Random(SEED), tally, tmp_path / leg, keyed=keyed) for leg in LEGS))
    with capsys.disabled():
        print(
            f"\n  network: seed {SEED}, {tally.faults.total()} faults, {tally.acknowledged} orders taken, {tally.lost} lost,"
            f" {tally.doubled} doubled, {tally.repeats} repeats at the ERP, {time.monotonic() - began:.0f} s"
        )
    assert [problem for one in cells for problem in one.problems] == [], f"TORTURE_SEED={SEED}"


TWINS = {
    "new_key_each_time": ("erp", "reply lost", "is in the ERP under"),
    "no_timeouts": ("erp", "blackhole", "still not there"),
    "follow_redirects": ("vendor", "redirect", "went where a redirect pointed to"),
    "marks_unheard": ("vendor", "5xx", "mark of"),
    "hold_untold": ("erp", "TLS", "still not there"),
    "no_resync": ("hub", "refused", "of pushed"),
    "loop_blocked": ("vendor", "reset", "looks at its health were not answered"),
}


async def test_known_bad_twins_are_caught(tmp_path: Path) -> None:
    """All at the same time: they mostly wait."""

    async def missed(twin: str) -> str | None:
        leg, kind, said = TWINS[twin]
        limits = {"patience_s": 2.0, "recovery_s": 3.0}
        cells = await one_leg(leg, [kind] * 12, Random(SEED), Tally(name=twin), tmp_path / twin, "--twin", twin, **limits)
        return None if said in " ".join(cells.problems) else f"{twin}: {cells.problems}"

    twins = list(TWINS) if WHOLE else Random(SEED).sample(list(TWINS), 2)
    assert list(filter(None, await asyncio.gather(*map(missed, twins)))) == [], f"TORTURE_SEED={SEED}"
