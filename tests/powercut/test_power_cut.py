"""Power cuts at random moments: what was acknowledged is there afterwards, the file is whole, and each order leaves once.

50 cuts in `make test`, `POWER_CUTS` (default 2,000) in `make test-all`; a failure names its seed, which repeats it: `POWER_CUT_SEED=17`.
The known-bad mutant runs the same with `synchronous=NORMAL`, as most programs have it, and must lose orders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.api.errors import StoreFailed
from gateway.store.sqlite import connection
from tests.store.conformance import accept, incoming

from .disk import NEVER
from .world import World

CUTS = int(os.environ.get("POWER_CUTS", "2000"))
SEED = os.environ.get("POWER_CUT_SEED")
HUNDREDS = [range(first, first + 100) for first in range(0, CUTS, 100)]


@pytest.mark.parametrize("seeds", [HUNDREDS[0][:50], *(pytest.param(seeds, marks=pytest.mark.long) for seeds in HUNDREDS)], ids=str)
async def test_nothing_acknowledged_is_lost_in_a_power_cut(seeds: Sequence[int], tmp_path: Path) -> None:
    for seed in [int(SEED)] if SEED else seeds:
        world = World(seed, tmp_path / "gateway.db")
        await world.run()
        assert world.problems == [], f"POWER_CUT_SEED={seed}"


async def test_the_harness_cuts_while_orders_are_under_way(tmp_path: Path) -> None:
    """A cut that comes before the first order, or never, would prove nothing."""
    at_work = in_recovery = syncs_failed = 0
    for seed in range(80):
        world = World(seed, tmp_path / "gateway.db")
        await world.run()
        at_work += bool(world.acknowledged)
        in_recovery += world.cuts > 1
        syncs_failed += bool(world.disk.failed_syncs)
        assert world.disk.left <= NEVER
    assert at_work >= 40
    assert in_recovery >= 20
    assert syncs_failed >= 3


async def test_a_disk_that_fails_at_any_point_of_a_start_is_said_in_the_stores_words(tmp_path: Path) -> None:
    world = World(1, tmp_path / "gateway.db")
    world.disk.left = NEVER
    store = await world.open()
    await store.register(["acme"])
    await accept(store, incoming("o1"))
    await store.lease_inbox("acme", 1)  # so that the next start has something to take over
    world.disk.is_off = True
    await store.close()
    failed = 0
    for left in range(100):
        world.disk.power_on(left=left)
        try:
            store = await world.open()
        except StoreFailed:
            failed += 1
        else:
            await store.close()
            break
    assert 2 <= failed < 99


async def test_known_bad_mutant_normal_synchronous_loses_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = tuple(
        ("synchronous", "NORMAL", 1) if name == "synchronous" else (name, value, back) for name, value, back in connection._PRAGMAS
    )
    monkeypatch.setattr(connection, "_PRAGMAS", weak)
    lost: set[str] = set()
    for seed in range(100):
        world = World(seed, tmp_path / "gateway.db")
        await world.run()
        lost |= world.lost
        if lost:
            break
    assert lost


async def test_known_bad_mutant_that_trusts_the_log_it_finds_loses_orders(tmp_path: Path) -> None:
    """After a sync that failed, a log reads as if it were on the disk, and is not."""
    lost: set[str] = set()
    for seed in range(200):
        world = World(seed, tmp_path / "gateway.db")
        world.disk.renews = False
        await world.run()
        lost |= world.lost
        if lost:
            break
    assert lost
