"""How the gateway is doing: which doors and targets are up and why not, and the counters behind `/metrics`.

A side that goes down is one warning in the log, coming back one info; whoever decides calls `up` or `down` as often as it
likes. State changes and counts happen on the event loop only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Literal, TypeVar

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.clock import Clock

log = logging.getLogger("gateway")

K = TypeVar("K")
State = Literal["up", "down", "off", "hold", "paced", "closed"]
Received = Literal["stored", "repeat", "refused", "rejected", "unreadable", "busy"]

_TOLD_S = 600.0
PLUGIN = "plugin"  # what is down, beside its doors, where a source's plugin cannot be used

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10)
_NOT_WELL: tuple[State, ...] = ("down", "hold", "paced")
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Condition(Struct, kw_only=True):
    """One door or target: its state since when.

    Attributes:
        state: `hold`: nothing is sent until it is set right, or released. `paced`: it was asked to wait for long. `closed`: it is
            left alone as configured, which is no complaint.
        reason: Why it is not up, or what is unusual about it while it is.
        next_at: When it is tried again by itself; None where it need not be, or will not.
    """

    state: State
    since: datetime
    reason: str | None = None
    next_at: datetime | None = None
    told: bool = True


class Hubs:
    """The realtime doors in numbers. `state`: 0 stopped, 1 connecting, 2 online, 3 waiting for the next try."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, help: str) -> Gauge:
            return Gauge(f"gateway_realtime_{name}", help, ["source"], registry=registry)

        self.state = gauge("state", "0 stopped, 1 connecting, 2 online, 3 waiting for the next try")
        self.connects = Counter("gateway_realtime_connects", "Tries", ["source", "result"], registry=registry)
        self.ended = Counter("gateway_realtime_ended", "Connections that were online and ended", ["source", "cause"], registry=registry)
        self.waiting = gauge("inbox_events", "Taken from the wire and not committed yet")
        self.blocked = Counter("gateway_realtime_blocked_seconds", "Not reading: the store takes nothing", ["source"], registry=registry)
        self.resync = gauge("resync_seconds", "The last round of polling after a connection")
        self._message_age = gauge("last_message_age_seconds", "Since the hub said anything, pings included")
        self._event_age = gauge("last_event_age_seconds", "Since the hub pushed an event")
        self._messages: dict[str, float] = {}
        self._events: dict[str, float] = {}
        self._clock: Clock | None = None

    def watch(self, source: str, clock: Clock) -> None:
        """Begin to measure ages; NaN until something has come."""
        self._clock = clock

        def age_of(seen: dict[str, float]) -> Callable[[], float]:
            seen.pop(source, None)
            return lambda: clock.monotonic() - seen[source] if source in seen else math.nan

        self._message_age.labels(source).set_function(age_of(self._messages))
        self._event_age.labels(source).set_function(age_of(self._events))

    def heard(self, source: str) -> None:
        """The hub said something."""
        if self._clock is not None:
            self._messages[source] = self._clock.monotonic()

    def event(self, source: str) -> None:
        """The hub pushed an event."""
        if self._clock is not None:
            self._events[source] = self._clock.monotonic()


class Metrics:
    """One per process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_at = clock.now()
        self.doors: dict[tuple[str, str], Condition] = {}
        self.targets: dict[str, Condition] = {}
        self.log_held: str | None = None
        self.reload_refused: str | None = None
        self._slow_hooks: dict[tuple[str, str], tuple[datetime, float, bool]] = {}
        self.clock_doubt: str | None = None
        self.registry = CollectorRegistry()
        self.received = Counter("gateway_received", "What came in", ["source", "door", "outcome"], registry=self.registry)
        self.http_refused = Counter(
            "gateway_http_refused", "Requests and connections of strangers that were refused", ["side", "kind"], registry=self.registry
        )
        self.deliveries = Counter("gateway_deliveries", "Attempts to deliver", ["target", "outcome"], registry=self.registry)
        self.acknowledged = Counter("gateway_acknowledgements", "Acknowledgements", ["source", "outcome"], registry=self.registry)
        self.submissions = Counter(
            "gateway_submissions", "Attempts and look-ups of commands for vendors", ["source", "command", "outcome"], registry=self.registry
        )
        self.commands = Counter("gateway_commands", "Commands that were handed in", ["source", "outcome"], registry=self.registry)
        self.door_up = Gauge("gateway_door_up", "1 where the door takes orders", ["source", "door"], registry=self.registry)
        self.target_up = Gauge("gateway_target_up", "1 where the target takes orders", ["target"], registry=self.registry)
        self.slow_hooks = Counter(
            "gateway_slow_hooks", "Half seconds in which a hook had not come back for 2 s", ["source", "hook"], registry=self.registry
        )
        self.loop_lag = Gauge("gateway_loop_lag_seconds", "How late the event loop was in the last second", registry=self.registry)
        self.accept = Histogram("gateway_accept_seconds", "Webhook to answer", buckets=_FAST, registry=self.registry)
        self.delivery = Histogram("gateway_delivery_seconds", "One attempt at a target", ["target"], buckets=_SLOW, registry=self.registry)
        self.realtime = Hubs(self.registry)
        self.commit = Histogram("gateway_commit_seconds", "One commit of the store", buckets=_FAST, registry=self.registry)

    def door(
        self,
        source: str,
        door: str,
        state: State,
        reason: str | None = None,
        *,
        starting: bool = False,
        next_at: datetime | None = None,
    ) -> None:
        """Note the state of a door. One that is down because it is `starting` is no reason to warn anybody."""
        self.door_up.labels(source, door).set(state == "up")
        self._note(self.doors, (source, door), state, reason, next_at, "door", {"source": source, "door": door}, starting)

    def broken(self, source: str, doors: Iterable[str], reason: str) -> None:
        """Note that a source's plugin cannot be used: everything of it is down, for one reason, which is told once."""
        self.door(source, PLUGIN, "down", reason)
        for door in doors:
            self.door_up.labels(source, door).set(0)
            self.doors[source, door] = Condition(state="down", since=self._clock.now(), reason=reason)

    def target(
        self, name: str, state: State, reason: str | None = None, next_at: datetime | None = None, *, since: datetime | None = None
    ) -> None:
        """Note the state of a target; `since` where that began before this process did."""
        self.target_up.labels(name).set(state == "up")
        self._note(self.targets, name, state, reason, next_at, "target", {"target": name})
        self.targets[name].since = since or self.targets[name].since

    def forget(self) -> None:
        """Start over with the conditions: another configuration is in force. Counters go on."""
        self.doors.clear()
        self.targets.clear()
        self.door_up.clear()
        self.target_up.clear()

    def hook_blocks(self, source: str, hook: str, for_s: float, everybody_waits: bool) -> None:
        """Note that a hook has not come back for so long; it is told for some minutes, since what happened once may again."""
        self.slow_hooks.labels(source, hook).inc()
        self._slow_hooks[source, hook] = (self._clock.now(), for_s, everybody_waits)

    def _blocked(self) -> Iterator[dict[str, str]]:
        for (source, hook), (at, for_s, everybody_waits) in self._slow_hooks.items():
            if (self._clock.now() - at).total_seconds() < _TOLD_S:
                others = "; everything else stood still meanwhile" if everybody_waits else ""
                yield {"source": source, "hook": hook, "reason": f"its hook {hook} did not come back for {for_s:.0f} s{others}"}

    def complaints(self) -> Iterator[dict[str, str]]:
        """What keeps the gateway from being ready: doors and targets that should work and do not, and when they are tried again."""
        for (source, door), condition in self.doors.items():
            if condition.state in _NOT_WELL and (door == PLUGIN or (source, PLUGIN) not in self.doors):
                yield {"source": source, "door": door, **_complaint(condition)}
        if self.reload_refused is not None:
            yield {"configuration": "was refused", "reason": self.reload_refused}
        yield from self._blocked()
        if self.clock_doubt is not None:
            yield {"clock": "is in doubt", "reason": self.clock_doubt}
        if self.log_held is not None:
            yield {"store": "cannot empty its log", "reason": self.log_held}
        for name, condition in self.targets.items():
            if condition.state in _NOT_WELL:
                yield {"target": name, **_complaint(condition)}

    def _note(
        self,
        where: dict[K, Condition],
        key: K,
        state: State,
        reason: str | None,
        next_at: datetime | None,
        what: str,
        names: dict[str, str],
        starting: bool = False,
    ) -> None:
        old = where.get(key)
        if old is not None and old.state == state:
            old.reason, old.next_at = reason, next_at
            if old.told or starting:
                return
            old.told = True
        else:
            where[key] = Condition(state=state, since=self._clock.now(), reason=reason, next_at=next_at, told=not starting)
        if starting:
            return
        if state in _NOT_WELL:
            log.warning(f"{what}.{state}", extra={**names, "reason": reason, "next_at": next_at and as_text(next_at)})
        elif old is not None and old.state in _NOT_WELL:
            down_s = round((self._clock.now() - old.since).total_seconds(), 1)
            log.info(f"{what}.up", extra={**names, "after_s": down_s})


def as_text(at: datetime) -> str:
    """An instant to the second, as people and programs read it: `2026-12-01T08:00:30Z`."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _complaint(condition: Condition) -> dict[str, str]:
    next_at = {"next_at": as_text(condition.next_at)} if condition.next_at else {}
    return {"reason": condition.reason or condition.state, **next_at}
