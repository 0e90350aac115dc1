"""Status of the gateway, as `gateway status --json`, `/api/status` and the page show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from gateway.clock import utc_text
from gateway.metrics import Metrics
from gateway.store.reader import Reader
from gateway.store.row_names import statuses_of
from gateway.store.targets import PausedTarget
from gateway.store.waiting import Sides, sides_of


async def status(
    reader: Reader,
    *,
    metrics: Metrics | None,
    doors: Mapping[str, Sequence[str]],
    sources: Collection[str],
    targets: Collection[str],
    refusing: str | None = None,
) -> dict[str, Any]:
    """Return counts and conditions (CONTRACT section 8).

    Args:
        metrics: None if no gateway runs: every door is then off.
        doors: The doors of the sources' connectors.
        sources, targets: The configured ones.
        refusing: Reason why the store takes no new orders, or None.
    """
    refusal = [{"store": "refuses new orders", "reason": refusing}] if refusing else []
    last = await reader.sources()
    summary = await reader.summary()
    paused = await reader.paused_targets()
    said: dict[str, Any] = {
        "running": metrics is not None,
        "started_at": utc_text(metrics.health.started_at) if metrics else None,
        "sources": {name: {"doors": _doors(name, known, metrics), "last_message_at": last.get(name)} for name, known in doors.items()},
        "disk": msgspec.to_builtins(await reader.disk()),
        "restored_at": await reader.restored_at(),
        "reasons": [*(metrics.health.problems() if metrics else ()), *refusal, *await strays(reader, sources, targets)],
        "targets": {name: _target(name, metrics, paused.get(name)) for name in targets},
        **{queue: {word: counts[word] for word in statuses_of(queue)} for queue, counts in summary.items()},
    }
    return {**said, "waiting": await reader.standing(sides_of(said))}


def sides(metrics: Metrics, *, sources: Sequence[str], targets: Sequence[str]) -> Sides:
    """Return the states of sources and targets, for the reasons of rows."""
    doors = {name: {door: one.state for (source, door), one in metrics.health.doors.items() if source == name} for name in sources}
    said = {
        "running": True,
        "sources": {name: {"doors": doors[name]} for name in sources},
        "targets": {name: _target(name, metrics, None) for name in targets},
        "reasons": list(metrics.health.problems()),
    }
    return sides_of(said)


def room(disk: Mapping[str, Any]) -> str:
    """Describe in a line how full the disk is."""
    days = "" if disk["days_left"] is None else f", enough for {disk['days_left']:,.0f} days at the present rate"
    return f"{disk['used'] / 2**20:,.0f} MiB stored, {disk['free'] / 2**20:,.0f} MiB free{days}"


def _doors(source: str, known: Sequence[str], metrics: Metrics | None) -> dict[str, str]:
    conditions = metrics.health.doors if metrics else {}
    return {door: conditions[source, door].state if (source, door) in conditions else "off" for door in known}


async def strays(reader: Reader, sources: Collection[str], targets: Collection[str]) -> list[dict[str, Any]]:
    """Return a reason for each source or target that is no longer configured and has rows waiting."""
    found = await reader.strays(sources, targets)
    named = [{"target": one.name} if one.queue == "outbox" else {"source": one.name, "door": one.queue} for one in found]
    return [{**name, "reason": one.reason, "rows": one.rows} for name, one in zip(named, found, strict=True)]


def _target(name: str, metrics: Metrics | None, paused: PausedTarget | None) -> dict[str, str | None]:
    condition = metrics.health.targets.get(name) if metrics else None
    if condition is None:
        return {"state": "off", **({"reason": paused.words, "since": utc_text(paused.at)} if paused else {})}
    next_at = utc_text(condition.next_at) if condition.next_at else None
    return {"state": condition.state, "reason": condition.reason, "since": utc_text(condition.since), "next_at": next_at}
