"""Rows that stand still and do not say why: none may be left where a harness ends with a gateway that runs.

What a row waits for is what `/api/{queue}` says of it, as the lists, `show` and the page do. It is a reason where it names a cause, and
an instant that is still to come or a row that is really open. A row that "is being worked on" or "waits for its turn" moves within 30 s;
one that has not is stuck.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from gateway.store.row_names import Queue, statuses_of
from tests.harness.torture.protocol import Tally

AFTER_S = 30.0
_QUEUES: tuple[Queue, ...] = ("inbox", "outbox", "acknowledgements", "submit")
_MOST = 1000  # of one queue and status, as the API gives them
_LATE_S = 5.0
_EVERY_S = 0.5
_MOVES_SOON = re.compile(r"(is being worked on( since \S+)?|: waits for its turn)$")
_FAULT = "this is a fault"
_AHEAD = re.compile(r"waits (?:behind|for|for the decision on) ((?:inbox|outbox|submit|ack):\d+)\b")
_UNTIL = re.compile(r"\b(?:until|next try at|next look-up at) (\d{4}-\d\d-\d\dT[\d:.]+Z)")

Row = Mapping[str, Any]


class Open:
    """The rows of all queues that are not done.

    Attributes:
        names: How they are called.
        whole: Whether these are all.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.whole = True

    @property
    def names(self) -> set[str]:
        return {row["row"] for row in self.rows}


async def open_rows(admin_port: int) -> Open:
    """Ask the running gateway. Raises aiohttp.ClientError, TimeoutError."""
    found = Open()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        for queue in _QUEUES:
            for status in statuses_of(queue):
                if status != "done":
                    url = f"http://127.0.0.1:{admin_port}/api/{queue}?status={status}&limit={_MOST}"
                    async with session.get(url) as answer:
                        rows = await answer.json()
                    found.rows += rows
                    found.whole = found.whole and len(rows) < _MOST
    return found


def why_silent(row: Row, names: Collection[str] | None, now: datetime) -> str | None:
    """What is wrong with the reason that a row gives; None where a person can read it. `names`: of all rows that are open, where known."""
    said = str(row.get("waits") or "").strip()
    if not said:
        return "it says nothing"
    if _FAULT in said or _MOVES_SOON.search(said):
        return said
    ahead = _AHEAD.match(said)
    if ahead is not None:
        return f"{said}; that row is done" if names is not None and ahead[1] not in names else None
    if row["status"] in ("held", "dead") and not str(row.get("reason") or "").strip():
        return f"{said}; nobody knows why"
    is_late = any(datetime.fromisoformat(at) < now - timedelta(seconds=_LATE_S) for at in _UNTIL.findall(said))
    return f"{said}; that time is over" if is_late else None


async def stuck_rows(admin_port: int, *, after_s: float = AFTER_S, offset_s: float = 0.0) -> list[str]:
    """The rows that came more than `after_s` ago, have not moved since then, and say no reason; at once where all say theirs.

    `offset_s`: by how much the gateway's clock is wrong.
    """
    still: dict[str, tuple[Any, ...]] | None = None
    end = time.monotonic() + after_s
    while True:
        now = datetime.now(UTC) + timedelta(seconds=offset_s)
        seen = await open_rows(admin_port)
        silent = _silent(seen.rows, seen.names if seen.whole else None, now)
        still = silent if still is None else {row: how for row, how in silent.items() if still.get(row) == how}
        if not still or time.monotonic() > end:
            return [f"{row} is stuck, {how[0]} since {after_s:g} s and more: {how[-1]}" for row, how in sorted(still.items())]
        await asyncio.sleep(_EVERY_S)


def _silent(rows: Sequence[Row], names: Collection[str] | None, now: datetime) -> dict[str, tuple[Any, ...]]:
    """How each row is that gives no reason; as long as it is the same, it has not moved."""
    found = {}
    for row in rows:
        if (why := why_silent(row, names, now)) is not None:
            found[str(row["row"])] = (row["status"], row["attempts"], row["due_at"], why)
    return found


async def count_stuck(tally: Tally, admin_port: int, *, after_s: float = AFTER_S, offset_s: float = 0.0) -> list[str]:
    """Count them for the table; the problems."""
    try:
        found = await stuck_rows(admin_port, after_s=after_s, offset_s=offset_s)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return [f"its rows cannot be read: {type(error).__name__}: {error}"]
    tally.stuck = (tally.stuck or 0) + len(found)
    return found
