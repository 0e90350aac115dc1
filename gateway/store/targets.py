"""The store's part about whole targets: what a person holds, and whose rows wait for nobody."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from gateway.store.row_names import Queue


class Held(Struct, frozen=True, kw_only=True):
    """A person said that nothing is to be sent to this target."""

    target: str
    who: str
    at: datetime
    reason: str | None = None

    @property
    def words(self) -> str:
        """For people."""
        return f"held by {self.who}{f': {self.reason}' if self.reason else ''} (since {self.at:%Y-%m-%d %H:%M} UTC)"


class Moved(Struct, frozen=True, kw_only=True):
    """One message that waits for a target, and goes to another one; `problem` says why it does not."""

    row: str
    key: str
    status: str
    problem: str | None = None


class Stray(Struct, frozen=True, kw_only=True):
    """Rows that wait for a source or target that is configured no more: nothing will ever take them."""

    queue: Queue
    name: str
    rows: int

    @property
    def reason(self) -> str:
        """What is wrong, and what to do, for people."""
        lane = "target" if self.queue == "outbox" else "source"
        rows = "1 row waits" if self.rows == 1 else f"{self.rows} rows wait"
        ways = (
            "configure it again, "
            if lane == "source"
            else f"configure it again, give them to another with `gateway target move {self.name} NAME`, "
        )
        return f"{rows} in the {self.queue} for the {lane} {self.name}, which is configured no more: {ways}or end them with `gateway drop`"


class TargetStore(Protocol):
    """A part of `gateway.store.base.Store`."""

    async def hold_target(self, target: str, who: str, reason: str | None) -> Held:
        """Note that a person holds a target; it stays so over reload, restart and kill."""

    async def release_target(self, target: str, who: str) -> bool:
        """A person lets it go again; False where nobody held it."""

    async def held_target(self, target: str) -> Held | None:
        """Who holds a target, or None."""

    async def move_target(self, old: str, new: str, who: str, *, accepts: Collection[str], same_erp: bool, dry_run: bool) -> list[Moved]:
        """Give what waits for one target to another, order by order, each whole and in its order; what cannot go stays where it is.

        With `same_erp` the new one is the old one under another name: what that was sent, or may have been, counts as sent to it.
        """
