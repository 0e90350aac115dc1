"""The last result that was kept, to hold this one against. Nothing fails by it: another machine, or this one on a bad day, is no fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct


class Earlier(Struct, frozen=True, kw_only=True):
    """When it was measured, at which commit, and the medians of its verdicts, by section and name."""

    at: str
    commit: str
    medians: Mapping[tuple[str, str], float]

    def beside(self, section: str, name: str, median: float) -> str:
        """What it was, and the change since; empty where it was not measured then."""
        was = self.medians.get((section, name))
        if was is None:
            return ""
        change = f", {median / was - 1:+.0%}" if was else ""
        return f" [was {was:.3g}{change}]"


def newest(folder: Path) -> Earlier | None:
    """The kept result with the latest `at`; None where there is none.

    Raises:
        ValueError: A file there is no result.
    """
    found = []
    for path in folder.glob("*.json"):
        if path.name != "latest.json":  # that one is not kept, it is whatever ran last
            found.append(json.loads(path.read_text("utf-8")))
    if not found:
        return None
    last = max(found, key=lambda said: said["at"])
    medians = {
        (section["name"], verdict["name"]): float(verdict["value"]["median"])
        for section in last["sections"]
        for verdict in section["verdicts"]
    }
    return Earlier(at=last["at"], commit=last["machine"]["commit"], medians=medians)
