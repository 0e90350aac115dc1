"""Health of the gateway: the state of each door and target, and what keeps the gateway from being ready.

A door or target that goes down is one warning in the log, coming back up one info, however often its state is set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal, TypeVar

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.clock import Clock, utc_text

log = logging.getLogger("gateway")

K = TypeVar("K")
State = Literal["up", "down", "off", "paused", "paced", "closed"]

PLUGIN = "plugin"  # the key, among a source's doors, of a plugin that cannot be used
_SLOW_HOOK_SHOWN_S = 600.0
_UNHEALTHY: tuple[State, ...] = ("down", "paused", "paced")


class Condition(Struct, kw_only=True):
    """State of one door or target, and since when.

    Attributes:
        state: `paused`: it sends nothing until its settings are corrected or an operator resumes it. `paced`: it was asked to wait for
            long. `closed`: it sends nothing as configured, which is healthy.
        reason: Why it is not up, or what is unusual about it while it is.
        next_at: Time of the next try; None if none is needed or none follows.
        logged: Its state has been logged.
    """

    state: State
    since: datetime
    reason: str | None = None
    next_at: datetime | None = None
    logged: bool = True


class Health:
    """Health of one process.

    Attributes:
        log_not_emptied, reload_refused, clock_doubt: The reason, while there is such a problem.
    """

    def __init__(self, clock: Clock, registry: CollectorRegistry) -> None:
        self._clock = clock
        self.started_at = clock.now()
        self.doors: dict[tuple[str, str], Condition] = {}
        self.targets: dict[str, Condition] = {}
        self.wal_stuck: str | None = None
        self.reload_refused: str | None = None
        self.clock_doubt: str | None = None
        self._slow_hooks: dict[tuple[str, str], tuple[datetime, float, bool]] = {}
        self._door_up = Gauge("gateway_door_up", "1 if the door takes orders", ["source", "door"], registry=registry)
        self._target_up = Gauge("gateway_target_up", "1 if the target takes orders", ["target"], registry=registry)
        self._slow_hook_count = Counter(
            "gateway_slow_hooks", "Half seconds that hooks ran beyond their first 2 s", ["source", "hook"], registry=registry
        )

    def set_door(
        self,
        source: str,
        door: str,
        state: State,
        reason: str | None = None,
        *,
        starting: bool = False,
        next_at: datetime | None = None,
    ) -> None:
        """Set the state of a door. While it is `starting`, its state is not logged."""
        self._door_up.labels(source, door).set(state == "up")
        condition = Condition(state=state, since=self._clock.now(), reason=reason, next_at=next_at, logged=not starting)
        self._set(self.doors, (source, door), condition, "door", {"source": source, "door": door})

    def set_broken(self, source: str, doors: Iterable[str], reason: str) -> None:
        """Set a source's plugin and all its doors down, with one warning."""
        self.set_door(source, PLUGIN, "down", reason)
        for door in doors:
            self._door_up.labels(source, door).set(0)
            self.doors[source, door] = Condition(state="down", since=self._clock.now(), reason=reason)

    def set_target(
        self, name: str, state: State, reason: str | None = None, next_at: datetime | None = None, *, since: datetime | None = None
    ) -> None:
        """Set the state of a target; `since` if that began before this process did."""
        self._target_up.labels(name).set(state == "up")
        condition = Condition(state=state, since=self._clock.now(), reason=reason, next_at=next_at)
        self._set(self.targets, name, condition, "target", {"target": name})
        self.targets[name].since = since or self.targets[name].since

    def reset(self) -> None:
        """Remove the states of all doors and targets, before a new configuration sets them."""
        self.doors.clear()
        self.targets.clear()
        self._door_up.clear()
        self._target_up.clear()

    def slow_hook(self, source: str, hook: str, for_s: float, on_loop: bool) -> None:
        """Note that a hook has run for `for_s` seconds, on the event loop or beside it. It is a problem for some minutes."""
        self._slow_hook_count.labels(source, hook).inc()
        self._slow_hooks[source, hook] = (self._clock.now(), for_s, on_loop)

    def problems(self) -> Iterator[dict[str, str]]:
        """Yield what keeps the gateway from being ready: doors and targets that are not up, and when they are tried again."""
        for (source, door), condition in self.doors.items():
            if condition.state in _UNHEALTHY and (door == PLUGIN or (source, PLUGIN) not in self.doors):
                yield {"source": source, "door": door, **_reason(condition)}
        if self.reload_refused is not None:
            yield {"configuration": "was refused", "reason": self.reload_refused}
        yield from self._slow_hook_problems()
        if self.clock_doubt is not None:
            yield {"clock": "is in doubt", "reason": self.clock_doubt}
        if self.wal_stuck is not None:
            yield {"store": "cannot empty its log", "reason": self.wal_stuck}
        for name, condition in self.targets.items():
            if condition.state in _UNHEALTHY:
                yield {"target": name, **_reason(condition)}

    def _slow_hook_problems(self) -> Iterator[dict[str, str]]:
        for (source, hook), (at, for_s, on_loop) in self._slow_hooks.items():
            if (self._clock.now() - at).total_seconds() < _SLOW_HOOK_SHOWN_S:
                others = "; everything else waited for it" if on_loop else ""
                yield {"source": source, "hook": hook, "reason": f"its hook {hook} did not return for {for_s:.0f} s{others}"}

    def _set(self, where: dict[K, Condition], key: K, new: Condition, what: str, names: dict[str, str]) -> None:
        old = where.get(key)
        if old is not None and old.state == new.state:
            old.reason, old.next_at = new.reason, new.next_at
            if old.logged:
                return
            old.logged = new.logged
        else:
            where[key] = new
        if not new.logged:
            return
        if new.state in _UNHEALTHY:
            log.warning(f"{what}.{new.state}", extra={**names, "reason": new.reason, "next_at": new.next_at and utc_text(new.next_at)})
        elif old is not None and old.state in _UNHEALTHY:
            down_s = round((new.since - old.since).total_seconds(), 1)
            log.info(f"{what}.up", extra={**names, "after_s": down_s})


def _reason(condition: Condition) -> dict[str, str]:
    next_at = {"next_at": utc_text(condition.next_at)} if condition.next_at else {}
    return {"reason": condition.reason or condition.state, **next_at}
