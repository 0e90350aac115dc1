"""Admission of requests by sender address: a limit of refused requests, their count and their log lines.

A request that proves nothing (no signature, a wrong one, an unknown path, malformed) counts against its sender's address and
against all together. A genuine one counts against its source, and never here. So a flood of one kind does not use up the other.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Literal, get_args

from aiohttp import web

from gateway.clock import Clock
from gateway.config.settings import HttpSettings
from gateway.edge.client_address import TrustedProxies
from gateway.edge.connections import connection_of
from gateway.edge.request_limits import LogThrottle
from gateway.metrics import Metrics

log = logging.getLogger("gateway.http")

Side = Literal["http", "admin", "submit", "control"]
SIDES = get_args(Side)

Refusal = Literal[
    "malformed",  # no HTTP
    "unknown_address",  # 404
    "method",  # 405
    "unproven",  # 401
    "too_long",  # 413
    "slow_body",  # 408
    "broken_body",  # the connection ended inside a body
    "address_rate",  # 429, or no connection: too many refusals of this address in this second
    "rate",  # 503: too many refusals of all addresses together
    "address_connections",  # too many of this address
    "connections",  # too many, and none that could make room
    "made_room",  # an idle connection was closed for another address
    "unfinished_bodies",  # 503, or cut off: the largest, when all together are too large
    "unread_answers",  # the sender does not read its answers
]
Over = Literal["address_rate", "rate"]

_ORDINARY: frozenset[Refusal] = frozenset({"broken_body", "made_room"})
_KNOWN_FOR_S = 3600.0
_MOST_KNOWN = 10_000


class RefusalLimiter:
    """Limits of refused requests a second. An address with a genuine request within the hour has room in the flood of others."""

    def __init__(self, clock: Clock, *, per_address: int, together: int) -> None:
        self._clock = clock
        self._per_address = per_address
        self._together = together
        self._second = 0
        self._counts: Counter[str] = Counter()
        self._count = 0
        self._known: dict[str, float] = {}

    def exceeded(self, peer: str | None) -> Over | None:
        """Return the limit that leaves `peer` no room in this second, or None."""
        if peer is None or not self._count or int(self._clock.monotonic()) != self._second:
            return None
        if self._counts[peer] >= self._per_address:
            return "address_rate"
        return "rate" if self._count >= self._together and not self._is_known(peer) else None

    def record_refused(self, peer: str | None) -> None:
        """Count a refused request."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
            self._counts.clear()
        self._count += 1
        if peer is not None:
            self._counts[peer] += 1

    def record_genuine(self, peer: str | None) -> None:
        """Note a genuine request from `peer`."""
        if peer is not None:
            self._known.pop(peer, None)
            self._known[peer] = self._clock.monotonic()
            if len(self._known) > _MOST_KNOWN:
                self._known.pop(next(iter(self._known)))

    def next_second_s(self) -> float:
        """Return the seconds until there is room again."""
        return 1 - self._clock.monotonic() % 1

    def _is_known(self, peer: str) -> bool:
        at = self._known.get(peer)
        return at is not None and self._clock.monotonic() - at < _KNOWN_FOR_S


class Admission:
    """Admission to one listener.

    Args:
        side: Table of the configuration that the listener belongs to.
        settings: Limits; those of `[http]` hold for every listener.
    """

    def __init__(self, side: Side, metrics: Metrics, clock: Clock, settings: HttpSettings) -> None:
        self.side = side
        self._clock = clock
        self.settings = settings
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.refusals = RefusalLimiter(
            clock, per_address=settings.max_refused_per_second_per_address, together=settings.max_refused_per_second
        )
        self._counter = metrics.http_refused
        self._lines = LogThrottle(clock.monotonic)

    def peer_of(self, request: web.BaseRequest) -> str | None:
        """Return the sender's address as the limits name it; None if a trusted proxy does not say."""
        connection = connection_of(request)
        if connection is None or not connection.is_proxy:
            return None if connection is None else connection.peer
        connection.named = self.proxies.client_of(request.headers)
        return connection.named

    async def pause(self, request: web.BaseRequest, over: Over) -> None:
        """Count a request that exceeds a limit, and delay it until the next second, unless it comes through a proxy.

        So each connection of such a sender can ask once a second.
        """
        self.note(over)
        connection = connection_of(request)
        if connection is not None and not connection.is_proxy:
            connection.enter("paused")
            await self._clock.sleep(self.refusals.next_second_s())

    def count(self, kind: Refusal, peer: str | None) -> None:
        """Count a refused request against its sender, without a log line."""
        self.refusals.record_refused(peer)
        self._counter.labels(self.side, kind).inc()

    def refuse(self, kind: Refusal, peer: str | None, **fields: object) -> None:
        """Count a refused request against its sender, with a log line."""
        self.refusals.record_refused(peer)
        self.note(kind, **fields)

    def note(self, kind: Refusal, *, among: object = "", **fields: object) -> None:
        """Count a refusal, and write one log line a minute for its kind. `among` divides a kind."""
        self._counter.labels(self.side, kind).inc()
        if (count := self._lines.since_last(f"{kind} {among}")) is not None:
            log.log(
                logging.INFO if kind in _ORDINARY else logging.WARNING,
                "http.refused",
                extra={"side": self.side, "kind": kind, **fields, "since_last_line": count},
            )
