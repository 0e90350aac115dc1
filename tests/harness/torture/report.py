"""The table at the end of `make torture`, and the same as JSON."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.harness.torture.protocol import Tally

ROOT = Path(__file__).parents[3]
_COLUMNS = ("rounds", "cuts", "kills", "faults", "acknowledged", "lost", "repeats", "doubled", "stuck", "recovery", "seconds")
_PROBLEMS_SHOWN = 20


def commit() -> str:
    """What was tried, as git names it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(tallies: Sequence[Tally]) -> str:
    """One line per harness, a sum, the faults by kind, and what went wrong."""
    width = max(len(tally.name) for tally in tallies)
    lines = ["  ".join(["".ljust(width), *(name.rjust(max(6, len(name))) for name in _COLUMNS)])]
    for tally in [*tallies, merged(tallies, name="all")]:
        if tally.skipped:
            lines.append(f"{tally.name.ljust(width)}  skipped: {tally.skipped}")
            continue
        cells = (cell.rjust(max(6, len(name))) for name, cell in zip(_COLUMNS, _cells(tally), strict=True))
        lines.append("  ".join([tally.name.ljust(width), *cells]))
    for tally in tallies:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.faults.items()))
        lines += [f"{tally.name}: {'; '.join(filter(None, (kinds, tally.noted)))}"] if kinds or tally.noted else []
    for tally in tallies:
        lines += [f"WRONG {tally.name}: {problem}" for problem in tally.problems[:_PROBLEMS_SHOWN]]
        if len(tally.problems) > _PROBLEMS_SHOWN:
            lines.append(f"WRONG {tally.name}: {len(tally.problems) - _PROBLEMS_SHOWN} more")
    return "\n".join(lines)


def as_json(tallies: Sequence[Tally], **facts: Any) -> bytes:
    """Everything that was counted, with what repeats it."""
    whole = {**facts, "commit": commit(), "python": platform.python_version(), "kernel": platform.release(), "harnesses": tallies}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def _cells(tally: Tally) -> tuple[str, ...]:
    counts = (tally.rounds, tally.cuts, tally.kills, tally.faults.total())
    orders = (tally.acknowledged, tally.lost, tally.repeats, tally.doubled)
    recovery = f"{tally.slowest_recovery_s:.2f} s" if tally.slowest_recovery_s else "-"
    stuck = "-" if tally.stuck is None else str(tally.stuck)
    return (*map(str, counts), *map(str, orders), stuck, recovery, f"{tally.seconds:.0f}")


def merged(tallies: Sequence[Tally], *, name: str | None = None) -> Tally:
    """The sum of one harness's tallies, or of all; its words are those of the slowest recovery."""
    slowest = max(tallies, key=lambda tally: tally.slowest_recovery_s)
    whole = Tally(name=name or slowest.name, noted=slowest.noted, slowest_recovery_s=slowest.slowest_recovery_s)
    whole.skipped = "" if name else slowest.skipped
    asked = [tally.stuck for tally in tallies if tally.stuck is not None]
    whole.stuck = sum(asked) if asked else None
    for tally in tallies:
        whole.faults.update(tally.faults)
        whole.problems += tally.problems
        for count in ("rounds", "cuts", "kills", "acknowledged", "lost", "repeats", "doubled", "seconds"):
            setattr(whole, count, getattr(whole, count) + getattr(tally, count))
    return whole
