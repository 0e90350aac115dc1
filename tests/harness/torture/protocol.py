"""What a harness of `make torture` is, and what it counts.

A harness breaks something, round after round, until its time is over. It says what it did in a `Tally`; whether anything
was lost is decided by the load (`tests.journey.load`), which knows what was answered 2xx and what reached the ERP.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from random import Random
from typing import ClassVar, Protocol

from msgspec import Struct, field

from tests.journey.load import Load


class Unavailable(Exception):
    """This machine has not got, or does not allow, what a harness needs; the text says what."""


class Tally(Struct, kw_only=True):
    """What one harness did and saw.

    Attributes:
        faults: How many of each kind were put in, cuts and kills left out.
        lost: Versions of orders that were answered 2xx and are not in the ERP.
        repeats: Requests at the ERP with a key that it had already.
        doubled: Orders that are in the ERP under more keys than versions of them were sent.
        stuck: Rows that have not moved for 30 s and have no reason that a person can read; None where no gateway ran to be asked.
        problems: Everything that must not be, with what repeats it.
        slowest_recovery_s: From the start of the process until it takes orders again.
        noted: A few words for the table.
        skipped: What is missing on this machine.
    """

    name: str
    rounds: int = 0
    cuts: int = 0
    kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    lost: int = 0
    repeats: int = 0
    doubled: int = 0
    stuck: int | None = None
    problems: list[str] = []
    slowest_recovery_s: float = 0.0
    noted: str = ""
    skipped: str = ""
    seconds: float = 0.0

    def add(self, load: Load, where: str) -> None:
        """Count a round's load and its problems. `where`: what repeats this round."""
        self.rounds += 1
        self.count(load)
        self.problems += [f"{where}: {problem}" for problem in load.problems()]

    def count(self, load: Load) -> None:
        """Count a load, when everything that can arrive has arrived."""
        self.acknowledged += sum(load.acknowledged.values())
        self.repeats += load.repeats
        self.lost += len(load.missing())
        self.doubled += len(load.doubled())

    def recovered(self, seconds: float) -> None:
        """It takes orders again after this long."""
        self.slowest_recovery_s = max(self.slowest_recovery_s, seconds)


class Harness(Protocol):
    """One way to break things.

    `run` works in the empty `folder` and takes every decision from `dice`; it does at least one round, and begins none when
    `time.monotonic()` is past `until`. What it finds it adds to `tally.problems`; what it raises counts as one.
    `share` is its part of the time, in relation to the others.
    """

    name: ClassVar[str]
    share: ClassVar[float]

    def needs(self) -> str | None:
        """What is missing here, found by trying where a look is not enough; None where it can run."""

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        """Break things until the time is over."""


class Rounds(ABC):
    """Harness of rounds, each in an empty folder of its own."""

    name: ClassVar[str]
    share: ClassVar[float]

    def needs(self) -> str | None:
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        while not is_over(until, tally):
            place = folder / str(tally.rounds)
            place.mkdir()
            found = await self.round(dice, tally, place)
            tally.problems += [f"round {tally.rounds}: {problem}" for problem in found]
            tally.rounds += 1

    @abstractmethod
    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        """Do one round; return what was wrong."""


def is_over(until: float, tally: Tally) -> bool:
    """Whether no further round should begin."""
    return tally.rounds > 0 and time.monotonic() >= until
