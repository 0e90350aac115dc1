"""Known-bad mutants of a gateway that names things wrong, lets the old come back, or stands still and does not say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from gateway.service import reload
from gateway.store import sqlite, waiting
from gateway.store.sqlite import SqliteStore, bulk_settle, decisions, maintenance, row_names
from gateway.store.sqlite.reader import SqliteReader


def leases_kept() -> None:
    """Known-bad mutant: what the last process was at when it ended is not handed back."""
    sqlite.release_all_leases = maintenance.release_all_leases = lambda *_: None  # type: ignore[attr-defined]


def reasons_swallowed() -> None:
    """Known-bad mutant: a message ends, and nobody keeps why."""
    original = SqliteStore.settle_outbox

    async def wordless(self: Any, row: Any, end: Any, **more: Any) -> None:
        await original(self, row, replace(end, reason=None), **more)

    SqliteStore.settle_outbox = wordless  # type: ignore[method-assign]


def lanes_forgotten() -> None:
    """Known-bad mutant: what waits behind a message is not let go when that is done."""
    bulk_settle.advance = lambda *_: None  # type: ignore[attr-defined]


def old_namespace() -> None:
    """Known-bad mutant: a name means everything that it could, as it did once, and all of it is decided."""

    def everything(db: Any, text: str, fits: Any, wanted: str) -> Any:
        rows = {row.name: row for one in row_names.readings(db, text) for row in (*one.rows, *one.made)}
        fitting = list(filter(fits, rows.values()))
        return fitting, None if fitting else f"nothing of it is {wanted}"

    decisions.pick = everything  # type: ignore[attr-defined]
    original = decisions.Decisions._decide

    async def decided(self: Any, action: str, keys: Any, who: str, reason: Any, choice: Any) -> Any:
        return await original(self, action, keys, who, reason, replace(choice, yes=True))

    decisions.Decisions._decide = decided  # type: ignore[method-assign]


def old_ones_come_back() -> None:
    """Known-bad mutant: what an order was before is a revision, as anything else is."""
    original = SqliteStore.accept

    async def accept(self: Any, source: str, door: Any, events: Sequence[Any], **more: Any) -> Any:
        return await original(self, source, door, [replace(event, sends_earlier=True) for event in events], **more)

    SqliteStore.accept = accept  # type: ignore[method-assign]


def strays_unnamed() -> None:
    """Known-bad mutant: rows for a target that is configured no more wait as others do."""
    original = waiting._side

    async def none(*_: Any) -> list[Any]:
        return []

    def as_others(row: Any, sides: Any) -> str | None:
        said = original(row, sides)
        return None if said and "not configured" in said else said

    SqliteReader.strays = none  # type: ignore[method-assign, assignment]
    waiting._side = as_others


def refusal_not_shown() -> None:
    """Known-bad mutant: a reload that was refused is a line in the log."""
    reload._in_a_line = lambda problems: None


MUTANTS: tuple[Callable[[], None], ...] = (
    leases_kept,
    reasons_swallowed,
    lanes_forgotten,
    old_namespace,
    old_ones_come_back,
    strays_unnamed,
    refusal_not_shown,
)
