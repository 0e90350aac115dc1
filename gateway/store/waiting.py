"""Reason why a row waits, and the time of the next attempt: one function for `show`, the lists, `status` and the page. Pure.

The texts are the gateway's own: only `gateway show` has what a target said of an order, and what an operator wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from msgspec import Struct

from gateway.clock import from_ms
from gateway.store.row_names import Queue, Status

On = Literal["person", "row", "side", "time", "turn"]
_LONG_MS = 60_000
_OWN_DOORS: Mapping[Queue, tuple[str, ...]] = {
    "inbox": ("fetch", "plugin"),
    "submit": ("submit", "plugin"),
    "acknowledgements": ("plugin",),
}


class Side(Struct, frozen=True, kw_only=True):
    """State of a target, or of the door of a source that its rows need: `up`, or why not and until when."""

    state: str
    reason: str | None = None
    until: str | None = None


class Sides(Struct, frozen=True, kw_only=True):
    """States of all sources and targets as far as they are known; None where nothing is known.

    Attributes:
        running: Whether a gateway works on the rows.
        sources, targets: Those that are configured, targets with their state.
        doors: Doors of sources that are not up, by source and door.
    """

    running: bool | None = None
    sources: Collection[str] | None = None
    targets: Mapping[str, Side] | None = None
    doors: Mapping[tuple[str, str], Side] = {}


class Ahead(Struct, frozen=True, kw_only=True):
    """Row that another one waits behind; `unseen`: a later version that has not been looked at yet."""

    row: str
    key: str
    status: Status
    why: str | None = None
    next_ms: int | None = None
    unseen: bool = False


class Waiting(Struct, frozen=True, kw_only=True):
    """Row that is not done, as the store has it; `name` is its source or target.

    Attributes:
        due_ms: None if it waits behind another, is leased, or waits for an operator.
        since_ms: When it was leased.
        held_for: The row whose decision it waits for.
        behind: What it waits behind.
    """

    queue: Queue
    row: str
    name: str
    source: str
    status: Status
    attempts: int = 0
    due_ms: int | None = None
    since_ms: int | None = None
    outcome: str | None = None
    reason: str | None = None
    held_for: str | None = None
    behind: Ahead | None = None


class Why(Struct, frozen=True, kw_only=True):
    """Reason for which a row waits, and the instant at which it is tried or looked at again, if there is one."""

    on: On
    text: str
    next_ms: int | None = None


def why(row: Waiting, sides: Sides, now_ms: int) -> Why:
    """Explain a row that is not done."""
    if row.status in ("held", "dead"):
        return _for_a_person(row)
    if row.status == "leased":
        return _at_work(row, sides, now_ms)
    if row.behind is not None:
        return _behind(row.behind)
    if row.due_ms is None:
        return Why(on="row", text="it has no due time and waits behind nothing: this is a fault in the gateway, please report it")
    if (side := _side(row, sides)) is not None:
        return Why(on="side", text=side, next_ms=None if "not configured" in side else row.due_ms)
    return _in_time(row, now_ms)


def _for_a_person(row: Waiting) -> Why:
    verb = "release" if row.status == "held" else "replay"
    if row.held_for is not None:
        return Why(on="person", text=f"waits for the decision on {row.held_for}; it goes with it")
    cause = row.reason or row.outcome or row.status
    return Why(on="person", text=f"{cause}; a person decides: gateway {verb} or drop {row.row}")


def _at_work(row: Waiting, sides: Sides, now_ms: int) -> Why:
    since = f" since {instant(row.since_ms)}" if row.since_ms is not None else ""
    if sides.running is False:
        return Why(on="side", text=f"was being worked on{since} when the gateway stopped; it continues when the gateway starts")
    is_long = row.since_ms is not None and now_ms - row.since_ms > _LONG_MS
    return Why(on="side" if is_long else "turn", text=f"is being worked on{since}")


def _behind(ahead: Ahead) -> Why:
    if ahead.unseen:
        return Why(on="row", text=f"waits for {ahead.row} ({ahead.key}), a later version that has not been looked at yet")
    more = f": {ahead.why}" if ahead.why else ""
    return Why(on="row", text=f"waits behind {ahead.row} ({ahead.key}), which is {ahead.status}{more}", next_ms=ahead.next_ms)


def _side(row: Waiting, sides: Sides) -> str | None:
    """Say what keeps the row's source or target from working."""
    if row.queue == "outbox":
        if sides.targets is None or (side := sides.targets.get(row.name)) is None:
            return None if sides.targets is None else f"target {row.name} is not configured: configure it again, or drop its rows"
        named = f"target {row.name}"
    else:
        if sides.sources is not None and row.source not in sides.sources:
            return f"source {row.source} is not configured: configure it again, or drop its rows"
        down = [door for door in _OWN_DOORS.get(row.queue, ()) if (row.source, door) in sides.doors]
        named, side = (f"source {row.source}, {down[0]}", sides.doors[row.source, down[0]]) if down else ("", Side(state="up"))
    if sides.running is False:
        return "the gateway is not running; the row continues when it starts"
    if side.state == "up":
        return None
    if side.reason and side.reason.startswith(side.state):  # "paused by anna: stocktaking"
        return f"{named} is {side.reason}"
    return f"{named} is {side.state}" + (f" until {side.until}" if side.until else "") + (f": {side.reason}" if side.reason else "")


def _in_time(row: Waiting, now_ms: int) -> Why:
    assert row.due_ms is not None
    after = f" after {row.attempts} {'try' if row.attempts == 1 else 'tries'}" if row.attempts else ""
    cause = f": {row.reason}" if row.reason else ""
    if row.status == "unknown":
        return Why(on="time", text=f"it may have been taken; next look-up at {instant(row.due_ms)}{cause}", next_ms=row.due_ms)
    if row.due_ms > now_ms:
        return Why(on="time", text=f"next try at {instant(row.due_ms)}{after}{cause}", next_ms=row.due_ms)
    is_late = now_ms - row.due_ms > _LONG_MS
    return Why(on="side" if is_late else "turn", text=f"due since {instant(row.due_ms)}: waits for its turn", next_ms=row.due_ms)


def instant(ms: int) -> str:
    """Format milliseconds for operators, to the second."""
    return from_ms(ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def sides_of(status: Mapping[str, Any]) -> Sides:
    """Read the states from what `gateway status --json` prints."""
    doors = {
        (name, door): Side(state=state)
        for name, one in status["sources"].items()
        for door, state in one["doors"].items()
        if state == "down"
    }
    for reason in status.get("reasons", ()):
        if "source" in reason and "door" in reason:  # a hook that blocks is a reason of a source, and none of its doors is down
            doors[reason["source"], reason["door"]] = Side(state="down", reason=reason["reason"], until=reason.get("next_at"))
    targets = {
        name: Side(state=one["state"], reason=one.get("reason"), until=one.get("next_at")) for name, one in status["targets"].items()
    }
    return Sides(running=status["running"], sources=frozenset(status["sources"]), targets=targets, doors=doors)
