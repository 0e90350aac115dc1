"""`make torture`: break the gateway in every way there is a harness for, and count what was lost.

    make torture ARGS="--seed 7 --budget 600 --only kills,cuts --json FILE"
    make torture ARGS="--seed 1 --seeds 20 --budget 0 --only network"     # one round of each of twenty seeds

Every decision comes from the seed, and a failure is repeated by the seed and the commit, as far as a race can be. Exit codes:
0 nothing wrong, 1 something was lost, doubled or else wrong, or a harness could not do its work although its tools are there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.harness.torture.broken_disk import FailingDisk, FullDisk
from tests.harness.torture.clocks import ClockHarness
from tests.harness.torture.cuts import CutHarness
from tests.harness.torture.drips import DripHarness
from tests.harness.torture.kills import KillHarness
from tests.harness.torture.machine import MachineHarness
from tests.harness.torture.names import NameHarness
from tests.harness.torture.network import NetworkHarness
from tests.harness.torture.plugins import PluginHarness
from tests.harness.torture.protocol import Harness, Tally
from tests.harness.torture.recorded import RecordedHarness
from tests.harness.torture.reloads import ReloadHarness
from tests.harness.torture.renamed import RenamedHarness
from tests.harness.torture.report import as_json, commit, merged, table
from tests.harness.torture.restores import RestoreHarness
from tests.harness.torture.strangers import StrangerHarness
from tests.harness.torture.sweep import SweepHarness
from tests.harness.torture.years import YearsHarness

_ALL: tuple[Any, ...] = (
    CutHarness,
    KillHarness,
    NameHarness,
    RecordedHarness,
    RenamedHarness,
    ReloadHarness,
    SweepHarness,
    FullDisk,
    FailingDisk,
    MachineHarness,
    NetworkHarness,
    DripHarness,
    StrangerHarness,
    PluginHarness,
    ClockHarness,
    YearsHarness,
    RestoreHarness,
)
HARNESSES: dict[str, Callable[[], Harness]] = {made.name: made for made in _ALL}
_EVERY_S = 10.0


async def torture(harnesses: Sequence[Harness], *, seed: int, budget_s: float, folder: Path) -> list[Tally]:
    """Run them one after the other; each has its share of the time that those before it have left."""
    tallies = [Tally(name=harness.name, skipped=harness.needs() or "") for harness in harnesses]
    waiting = [(harness, tally) for harness, tally in zip(harnesses, tallies, strict=True) if not tally.skipped]
    end = time.monotonic() + budget_s
    while waiting:
        shares = sum(harness.share for harness, _ in waiting)
        harness, tally = waiting.pop(0)
        began = time.monotonic()
        until = began + max(0.0, end - began) * harness.share / shares
        print(f"{harness.name}: until {until - began:.0f} s", flush=True)
        place = folder / harness.name
        place.mkdir()
        progress = asyncio.create_task(_say_progress(tally, began))
        try:
            await harness.run(Random(f"{seed}/{harness.name}"), until, tally, place)
        except Exception as error:
            traceback.print_exc()
            tally.problems.append(f"the harness broke off in round {tally.rounds}: {type(error).__name__}: {error}")
        finally:
            progress.cancel()
            with suppress(asyncio.CancelledError):
                await progress
        tally.seconds = time.monotonic() - began
    return tallies


async def _say_progress(tally: Tally, began: float) -> None:
    while True:
        await asyncio.sleep(_EVERY_S)
        did = f"{tally.rounds} rounds, {tally.cuts} cuts, {tally.kills} kills, {tally.faults.total()} faults"
        found = f"{tally.acknowledged} acknowledged, {len(tally.problems)} problems"
        print(f"  {tally.name}: {time.monotonic() - began:.0f} s: {did}, {found} {tally.noted}".rstrip(), flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit code."""
    options = _options(arguments)
    unknown = sorted(set(options.only) - set(HARNESSES))
    if unknown:
        print(f"torture: no harness {', '.join(unknown)}; there are {', '.join(HARNESSES)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    runs = [_one_seed(seed, options) for seed in range(options.seed, options.seed + options.seeds)]
    tallies = [merged(of_one) for of_one in zip(*runs, strict=True)]
    said = f"seed {options.seed}" + (f" to {options.seed + options.seeds - 1}" if options.seeds > 1 else "")
    print(f"\n{table(tallies)}\n\ntorture: {said}, {time.monotonic() - began:.0f} s, commit {commit()}", flush=True)
    if options.json:
        options.json.write_bytes(as_json(tallies, seed=options.seed, seeds=options.seeds, budget_s=options.budget))
    found = False
    for seed, run in enumerate(runs, options.seed):
        if wrong := ",".join(tally.name for tally in run if _is_wrong(tally)):
            found = True
            print(f'torture: WRONG; again with: make torture ARGS="--seed {seed} --budget {options.budget:.0f} --only {wrong}"')
    return 1 if found else 0


def _is_wrong(tally: Tally) -> bool:
    return bool(tally.problems or tally.lost or tally.doubled or tally.stuck)


def _one_seed(seed: int, options: argparse.Namespace) -> list[Tally]:
    """Each harness with this seed, in a folder that is gone afterwards; with several seeds, what it found says which."""
    chosen = [made() for name, made in HARNESSES.items() if not options.only or name in options.only]
    print(f"torture: seed {seed}, {options.budget:.0f} s, commit {commit()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gateway-torture-") as folder:
        tallies = asyncio.run(torture(chosen, seed=seed, budget_s=options.budget, folder=Path(folder)))
    if options.seeds > 1:
        for tally in tallies:
            tally.problems = [f"seed {seed}: {problem}" for problem in tally.problems]
            counts = f"{tally.rounds} rounds, {tally.faults.total()} faults, {tally.acknowledged} acknowledged, {tally.lost} lost"
            print(f"  {tally.name}: seed {seed}: {counts}, {tally.doubled} doubled, {tally.seconds:.0f} s", *tally.problems, flush=True)
    return tallies


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description="Break the gateway, and count what was lost.")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="default: the time of day")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="this many, one after the other, from --seed on (default 1)")
    parser.add_argument(
        "--budget",
        type=float,
        default=600,
        metavar="SECONDS",
        help="of each seed, shared out between the harnesses; 0: one round of each (default 600)",
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="NAME,NAME", help=", ".join(HARNESSES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was counted")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
