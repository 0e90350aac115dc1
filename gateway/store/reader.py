"""Reads for pages, commands and metrics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from gateway.store.decisions import Choice, Decided
from gateway.store.retention import Disk
from gateway.store.row_names import Queue, Status
from gateway.store.targets import PausedTarget, Stray
from gateway.store.waiting import Sides


class Reader(Protocol):
    """Reading half of a store: it changes nothing. Rows are dicts ready for JSON, but for bodies; instants are RFC 3339."""

    async def open(self) -> None:
        """Connect. Raises StoreFailed if there is no readable store."""

    async def close(self) -> None:
        """Disconnect."""

    async def summary(self) -> dict[Queue, dict[str, Any]]:
        """Return for each queue the counts by status, the same `by_name` of source or target, and `oldest_ms` of what is under way."""

    async def disk(self) -> Disk:
        """Return how large the file is, and how long the disk will last."""

    async def restored_at(self) -> str | None:
        """Return when a copy was put back; None once an operator has closed the gap."""

    async def paused_targets(self) -> dict[str, PausedTarget]:
        """Return the targets that operators hold."""

    async def strays(self, sources: Collection[str], targets: Collection[str]) -> list[Stray]:
        """Count the rows under way whose source or target is none of these. Raises StoreError."""

    async def sources(self) -> dict[str, str | None]:
        """Return when each source's last message came."""

    async def rows(
        self, queue: Queue, *, status: Status | None = None, name: str | None = None, limit: int = 50, sides: Sides = ...
    ) -> list[dict[str, Any]]:
        """Return the newest rows of a queue, of one status and of one source or target where given, each with `waits` and `next_at`."""

    async def standing(self, sides: Sides = ...) -> list[dict[str, Any]]:
        """Return what does not move, by queue, name and status: how many, the oldest `row`, what it `waits` for and `next_at`."""

    async def deliveries(self, target: str, *, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return deliveries that are done, held, dead or unknown, newest first, from below the id `before`, with their bodies.

        What was dropped, superseded or rejected is left out.
        """

    async def orders(self, *, source: str | None = None, limit: int = 50, sides: Sides = ...) -> list[dict[str, Any]]:
        """Return the newest orders: their versions and messages, where the newest message is, and what it waits for."""

    async def show(self, key: str, *, sides: Sides = ...) -> list[dict[str, Any]]:
        """Return everything known of what a key names: rows, attempts, decisions, and bodies as bytes.

        Raises GatewayError if the key may mean several things.
        """

    async def would(self, action: str, keys: Sequence[str], choice: Choice) -> list[Decided]:
        """Return what a decision would do, found by the same look-up that decides."""
