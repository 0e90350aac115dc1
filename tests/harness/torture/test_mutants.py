"""Each harness of `make torture`, run briefly against a gateway with one fault put in, must find it.

The mutants of the power cuts in memory and of the kills are in tests/powercut and tests/journey. What needs strace, root or a
disk that may be mounted is skipped where there is none, and says so.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .broken_disk import round_on
from .disks import Disk, Small, Volatile, missing, refusal
from .machine import MachineHarness, lose_power
from .protocol import Tally
from .sweep import Sweep, sweeping
from .traced import Point
from .traced import missing as missing_strace


async def swept(folder: Path, mutant: str, life: str, points: list[Point], sought: str) -> list[str]:
    """The problems of the points up to the first at which the one sought is among them.

    Which call is the nth of its thread differs by one or two between lives, so that one point alone proves nothing.
    """
    if reason := missing_strace():
        pytest.skip(reason)
    tally = Tally(name="mutant")
    async with sweeping(folder, random.Random(1), "--mutant", mutant) as sweep:
        sweep.patience_s = 1
        for point in points or await first_writes(sweep, life):
            await sweep.round(life, point, tally)
            if any(sought in problem for problem in tally.problems):
                break
    return [problem for problem in tally.problems if sought in problem]


async def first_writes(sweep: Sweep, life: str) -> list[Point]:
    """A kill at each of the first writes after the gateway has come up: those of the order."""
    until_up, _ = await sweep.calls(life)
    return [Point("pwrite64", until_up["pwrite64"] + n, "kill", False) for n in range(1, 9)]


async def test_the_sweep_sees_an_answer_before_the_commit(tmp_path: Path) -> None:
    assert await swept(tmp_path, "answer_before_commit", "new", [], "was answered 2xx and is not in the ERP")


@pytest.mark.long
async def test_the_sweep_sees_a_gateway_that_dies_of_a_fault_without_a_word(tmp_path: Path) -> None:
    points = [Point("fdatasync", n, "EIO", True) for n in (1, *range(4, 10))]
    assert await swept(tmp_path, "ends_in_peace", "old", points, "ended with 0")


async def broken(disk: Disk, mutant: str, ways: list[str], folder: Path) -> list[str]:
    """The problems of a few rounds, until there are any."""
    if reason := missing("mount", "mkfs.ext4", "nbdkit", "nbdfuse", "fusermount3", "losetup") or refusal(disk):
        pytest.skip(reason)
    tally = Tally(name="mutant")
    for number in range(4):
        place = folder / str(number)
        place.mkdir()
        await round_on(disk, ways, random.Random(number), tally, place, "--mutant", mutant, patience_s=2)
        if tally.problems:
            break
    return tally.problems


async def test_the_failing_disk_sees_a_store_that_does_not_wait_for_it(tmp_path: Path) -> None:
    problems = await broken(Volatile(tmp_path / "v"), "normal_synchronous", ["cut"] * 2, tmp_path)
    assert [problem for problem in problems if "was answered 2xx and is not in the ERP" in problem]


@pytest.mark.long
async def test_the_full_disk_sees_a_writer_that_dies_of_it(tmp_path: Path) -> None:
    problems = await broken(Small(tmp_path / "s", "tmpfs"), "writer_dies_of_a_full_disk", ["full"], tmp_path)
    assert [problem for problem in problems if "not ready" in problem or "has answered nothing" in problem]


@pytest.mark.long
async def test_the_machine_sees_a_store_that_does_not_wait_for_its_disk(tmp_path: Path) -> None:
    if reason := MachineHarness().needs():
        pytest.skip(reason)
    tally = Tally(name="mutant")
    for number in range(3):  # a cut right after a checkpoint, which is synced, finds nothing
        await lose_power(random.Random(number), 0, tally, tmp_path / str(number), cuts=1, mutant="normal_synchronous", patience_s=3)
        if tally.problems:
            break
    lost = ("was answered 2xx and is not in the ERP", "it is not ready")  # a start does not begin empty over what the cut has left
    assert [problem for problem in tally.problems if any(words in problem for words in lost)]
