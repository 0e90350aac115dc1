"""Prometheus metrics behind `/metrics`, and the gateway's health. All of it is updated on the event loop only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.clock import Clock
from gateway.health import Health

Received = Literal["stored", "repeat", "refused", "rejected", "unreadable", "busy"]

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class RealtimeMetrics:
    """Metrics of the realtime doors. `state`: 0 stopped, 1 connecting, 2 online, 3 waiting for the next try."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, help: str) -> Gauge:
            return Gauge(f"gateway_realtime_{name}", help, ["source"], registry=registry)

        self.state = gauge("state", "0 stopped, 1 connecting, 2 online, 3 waiting for the next try")
        self.connects = Counter("gateway_realtime_connects", "Attempts to connect", ["source", "result"], registry=registry)
        self.ended = Counter("gateway_realtime_ended", "Online connections that ended", ["source", "cause"], registry=registry)
        self.waiting = gauge("inbox_events", "Events received and not committed yet")
        self.blocked = Counter("gateway_realtime_blocked_seconds", "Time without reading: the store is full", ["source"], registry=registry)
        self.resync = gauge("resync_seconds", "Duration of the last poll after a connection")
        self._message_age = gauge("last_message_age_seconds", "Age of the hub's last message, pings included")
        self._event_age = gauge("last_event_age_seconds", "Age of the last event that the hub pushed")
        self._messages: dict[str, float] = {}
        self._events: dict[str, float] = {}
        self._clock: Clock | None = None

    def watch(self, source: str, clock: Clock) -> None:
        """Begin to measure ages; they are NaN until the first message or event."""
        self._clock = clock

        def age_of(last: dict[str, float]) -> Callable[[], float]:
            last.pop(source, None)
            return lambda: clock.monotonic() - last[source] if source in last else math.nan

        self._message_age.labels(source).set_function(age_of(self._messages))
        self._event_age.labels(source).set_function(age_of(self._events))

    def on_message(self, source: str) -> None:
        """Note that the hub sent a message."""
        if self._clock is not None:
            self._messages[source] = self._clock.monotonic()

    def on_event(self, source: str) -> None:
        """Note that the hub pushed an event."""
        if self._clock is not None:
            self._events[source] = self._clock.monotonic()


class Metrics:
    """Metrics of one process."""

    def __init__(self, clock: Clock) -> None:
        self.registry = registry = CollectorRegistry()
        self.health = Health(clock, registry)

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"gateway_{name}", help, labels, registry=registry)

        self.received = counter("received", "Events and requests received", "source", "door", "outcome")
        self.http_refused = counter("http_refused", "Refused requests and connections without proof of origin", "side", "kind")
        self.deliveries = counter("deliveries", "Delivery attempts", "target", "outcome")
        self.acknowledged = counter("acknowledgements", "Acknowledgements", "source", "outcome")
        self.submissions = counter("submissions", "Attempts and look-ups of commands for vendors", "source", "command", "outcome")
        self.commands = counter("commands", "Commands received", "source", "outcome")
        self.loop_lag = Gauge("gateway_loop_lag_seconds", "Delay of the event loop in the last second", registry=registry)
        self.accept = Histogram("gateway_accept_seconds", "Time from webhook to answer", buckets=_FAST, registry=registry)
        self.delivery = Histogram("gateway_delivery_seconds", "Duration of an attempt", ["target"], buckets=_SLOW, registry=registry)
        self.commit = Histogram("gateway_commit_seconds", "Duration of a commit of the store", buckets=_FAST, registry=registry)
        self.realtime = RealtimeMetrics(registry)
