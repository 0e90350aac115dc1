"""Whole targets: those that operators paused, and rows that no worker will take."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from gateway.store.row_names import Queue


class PausedTarget(Struct, frozen=True, kw_only=True):
    """Hold on a target, set by an operator: nothing is sent to it."""

    target: str
    who: str
    at: datetime
    reason: str | None = None

    @property
    def words(self) -> str:
        """Text for operators."""
        return f"paused by {self.who}{f': {self.reason}' if self.reason else ''} (since {self.at:%Y-%m-%d %H:%M} UTC)"


class Moved(Struct, frozen=True, kw_only=True):
    """Message that waits for a target and moves to another one; `problem` says why it does not."""

    row: str
    key: str
    status: str
    problem: str | None = None


class Stray(Struct, frozen=True, kw_only=True):
    """Count of rows that wait for a source or target that is not configured: no worker will take them."""

    queue: Queue
    name: str
    rows: int

    @property
    def reason(self) -> str:
        """Text for operators: what is wrong, and what to do."""
        kind = "target" if self.queue == "outbox" else "source"
        rows = "1 row waits" if self.rows == 1 else f"{self.rows} rows wait"
        ways = (
            "configure it again, "
            if kind == "source"
            else f"configure it again, give them to another with `gateway target move {self.name} NAME`, "
        )
        return f"{rows} in the {self.queue} for the {kind} {self.name}, which is not configured: {ways}or end them with `gateway drop`"


class TargetStore(Protocol):
    """Part of `gateway.store.base.Store`."""

    async def pause_target(self, target: str, who: str, reason: str | None) -> PausedTarget:
        """Pause a target; it stays paused over reload, restart and kill."""

    async def release_target(self, target: str, who: str) -> bool:
        """Release a target; False if it was not paused."""

    async def paused_target(self, target: str) -> PausedTarget | None:
        """Return the pause of a target, or None."""

    async def move_target(self, old: str, new: str, who: str, *, accepts: Collection[str], same_erp: bool, dry_run: bool) -> list[Moved]:
        """Move what waits for one target to another, order by order, each whole and in its order; what cannot move stays.

        With `same_erp` the new one is the old one under another name: what that was sent, or may have been, counts as sent to it.
        """
