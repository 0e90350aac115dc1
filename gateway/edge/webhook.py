"""`POST /in/{source}`: verify, read, commit, answer (CONTRACT section 4).

The handler answers after the commit. If the sender has gone meanwhile, the commit stays, and its next attempt is a repeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import msgspec
from aiohttp import web

from gateway.api.errors import PluginError, Rejected, StoreError, TransientError, UnknownKey
from gateway.api.messages import Envelope, Event, Unreadable
from gateway.clock import Clock
from gateway.config.settings import HttpSettings
from gateway.edge.admission import Admission, Over
from gateway.edge.connections import Connection, connection_of
from gateway.edge.not_found import KnownPaths
from gateway.edge.request_limits import COMMIT_TIMEOUT_S, BodyError, LogThrottle, path_of, read_body
from gateway.edge.server import NAME
from gateway.metrics import Metrics, Received
from gateway.plugin.connector import Unverified
from gateway.plugin.incoming import dead_letter, incoming, warn_of_flagged
from gateway.plugin.source import Source
from gateway.plugin.validation import Misread
from gateway.rate_limit import RateCounter
from gateway.store.arrivals import NewEvent
from gateway.store.base import Store

log = logging.getLogger("gateway.webhook")

_CLOSED_S = 60
_LARGE = 64 * 1024
_FIRST_LOOK_S, _LAST_LOOK_S = 0.01, 0.25
_PATH = "/in/"
_encode = msgspec.json.Encoder().encode
_HEADERS = {"Content-Type": "application/json", "Server": NAME}
_CLOSE: Mapping[str, str] = {"Connection": "close"}


class _NoRoom(Exception):
    """Error: the request was cut off while it waited, to make room for others."""


class WebhookDoor:
    """Webhook door of all sources.

    Args:
        admission: That of the listener.
        sources: Sources with a webhook, by name; may be exchanged while running.
        closed: Sources whose plugin is broken, with the reason. The sender is asked to try again later.
    """

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, *, admission: Admission | None = None) -> None:
        self.closed: Mapping[str, str] = {}
        self.closing = False
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._admission = admission or Admission("http", metrics, clock, HttpSettings())
        self._body_timeout_s = self._admission.settings.body_timeout_s
        self._rate = RateCounter(clock.monotonic)
        self._lines = LogThrottle(clock.monotonic)
        self._large = asyncio.Lock()
        self.sources = {}

    @property
    def sources(self) -> Mapping[str, Source]:
        """Sources with a webhook, by name."""
        return self._sources

    @sources.setter
    def sources(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._known_paths = KnownPaths([_PATH + name for name in sources])

    async def receive(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of the vendors' side."""
        began = perf_counter()
        path, peer = path_of(request), self._admission.peer_of(request)
        if (over := self._admission.refusals.exceeded(peer)) is not None:
            return await self._no_room(request, over)
        name = path.removeprefix(_PATH) if path.startswith(_PATH) else ""
        source = self.sources.get(name)
        if source is None and name in self.closed:
            self._admission.refusals.record_refused(peer)
            return self._refuse_closed(name)
        if source is None:
            self._admission.refuse("unknown_address", peer, status=404, **self._known_paths.describe(path))
            return _answer(404, {"status": "unknown source"})
        if request.method != "POST":
            self._admission.refuse("method", peer, among=source.name, source=source.name, status=405)
            return _answer(405, {"status": "send a POST"}, {"Allow": "POST"})
        if self.closing:
            return self._busy(source, "shutting down", 5)
        try:
            body = await read_body(request, source.max_body_bytes, self._body_timeout_s)
        except BodyError as error:
            return self._refuse_body(source, peer, error)
        answer = await self._take(
            source,
            Envelope(source=source.name, body=body, headers=request.raw_headers, received_at=self._clock.now()),
            peer,
            connection_of(request),
        )
        self._metrics.accept.observe(perf_counter() - began)
        return answer

    async def _no_room(self, request: web.BaseRequest, over: Over) -> web.Response:
        """Refuse at the end of the second."""
        await self._admission.pause(request, over)
        if over == "address_rate":
            return _answer(429, {"status": "too many requests that prove nothing"}, {**_CLOSE, "Retry-After": "1"})
        return _answer(503, {"status": "try again later"}, {**_CLOSE, "Retry-After": "1"})

    def _refuse_body(self, source: Source, peer: str | None, error: BodyError) -> web.Response:
        if error.kind == "unfinished_bodies":  # counted where it was cut off
            self._admission.refusals.record_refused(peer)
            return _answer(503, {"status": "try again later"}, {**_CLOSE, "Retry-After": "5"})
        self._admission.refuse(error.kind, peer, among=source.name, source=source.name, status=error.status)
        if error.kind == "too_long":
            return _answer(413, {"status": "too long", "limit_bytes": source.max_body_bytes}, _CLOSE)
        return _answer(error.status, {"status": "too slow" if error.kind == "slow_body" else "broken off"}, _CLOSE)

    async def _take(self, source: Source, envelope: Envelope, peer: str | None, connection: Connection | None) -> web.Response:
        """Verify, then store. A request that is not genuine counts against its sender, a genuine one against its source."""
        try:
            admitted = await self._admitted(source, envelope, connection)
        except _NoRoom:
            return _answer(503, {"status": "try again later"}, {**_CLOSE, "Retry-After": "5"})
        except TransientError as error:
            return self._busy(source, str(error), error.retry_after_s or 30)
        except UnknownKey:
            self._admission.refusals.record_refused(peer)
            return self._busy(source, "the keys that it is signed with cannot be had", 30)
        except Unverified as error:
            self._refused(source, peer, error.cause)
            return _answer(401, {"status": "unauthorized"})
        except (Rejected, Misread, PluginError) as error:
            return self._paced(source, peer) or await self._unusable(source, envelope, error)
        if (busy := self._paced(source, peer)) is not None:
            return busy
        return await self._store_events(source, incoming(admitted, source.stages, source.earlier_versions), 200, "stored")

    def _paced(self, source: Source, peer: str | None) -> web.Response | None:
        """Return the refusal of a genuine request if its source has had too many in this second."""
        self._admission.refusals.record_genuine(peer)
        if self._rate.allows(source.name, source.max_requests_per_second):
            return None
        return self._busy(source, "too many requests", 1)

    async def _unusable(self, source: Source, envelope: Envelope, error: Rejected | Misread | PluginError) -> web.Response:
        """Answer a genuine request that is rejected or cannot be read."""
        if isinstance(error, Rejected):
            self._count(source, "rejected")
            log.info("webhook.rejected", extra={"source": source.name})
            return _answer(422, {"status": "rejected", "reason": error.reason})
        if not isinstance(error, Misread):
            log.error("plugin.failed", exc_info=error, extra={"source": source.name})
        return await self._keep(source, envelope.body, str(error))

    async def _admitted(self, source: Source, envelope: Envelope, connection: Connection | None) -> Sequence[Event | Unreadable]:
        """Return its events. An unknown key is fetched once. Raises UnknownKey if the keys could not be fetched."""
        keys = source.keys
        if keys is None:
            try:
                return await self._admit(source, envelope, connection)
            except UnknownKey as error:
                raise Unverified(error) from error
        try:
            return await self._admit(source, envelope, connection, keys.current)
        except UnknownKey:
            reliable = await keys.look_again()
        try:
            return await self._admit(source, envelope, connection, keys.current)
        except UnknownKey as error:
            if reliable:
                raise Unverified(None) from error
            raise

    async def _admit(
        self, source: Source, envelope: Envelope, connection: Connection | None, *keys: Mapping[str, Any]
    ) -> Sequence[Event | Unreadable]:
        """Call the connector, with one large body at a time, so that small ones come between. Raises _NoRoom."""

        async def admit() -> Sequence[Event | Unreadable]:
            return await source.hook_runner.run("admit", lambda: source.connector.admit(envelope, envelope.received_at, *keys))

        if len(envelope.body) <= _LARGE:
            return await admit()
        if connection is not None:
            connection.enter("waiting")
        async with self._large:
            if connection is not None:
                if connection.cut:
                    raise _NoRoom
                connection.enter("answering")
            return await admit()

    def _refused(self, source: Source, peer: str | None, cause: BaseException | None) -> None:
        """Count it, with one log line a minute: many of them mean another secret, or another issuer's key."""
        self._count(source, "refused")
        self._admission.count("unproven", peer)
        if (count := self._lines.since_last(f"refused {source.name}")) is not None:
            log.warning("webhook.refused", extra={"source": source.name, "status": 401, "since_last_line": count})
        if cause is not None and (count := self._lines.since_last(f"failed {source.name}")) is not None:
            log.warning("webhook.verify_failed", extra={"source": source.name, "error": type(cause).__name__, "since_last_line": count})

    async def _keep(self, source: Source, body: bytes, reason: str) -> web.Response:
        """Store a genuine but unreadable webhook as a dead letter."""
        status = source.connector.description.unreadable_status
        answer = await self._store_events(source, [dead_letter(body, reason)], status, "unreadable")
        if answer.status == status:
            log.warning("webhook.unreadable", extra={"source": source.name})
        return answer

    async def _store_events(self, source: Source, events: list[NewEvent], status: int, word: Received) -> web.Response:
        if not events:
            return _answer(200, {"status": "ignored"})
        try:
            accepted = await self._store.accept(source.name, "webhook", events, patience_s=COMMIT_TIMEOUT_S)
        except (StoreError, TimeoutError) as error:
            return self._busy(source, str(error) or "the store is slow", getattr(error, "retry_after_s", 5.0))
        warn_of_flagged(source.name, events, accepted)
        for event, one in zip(events, accepted, strict=True):
            unreadable = event.dead is not None and one.outcome == "stored"
            self._count(source, word if word != "stored" else "unreadable" if unreadable else one.outcome)
        readable = [one.key for event, one in zip(events, accepted, strict=True) if event.dead is None]
        if source.answer_wait_s and word == "stored":
            for key in readable:
                if (reason := await self._refusal(source, key)) is not None:
                    self._count(source, "rejected")
                    log.info("webhook.rejected", extra={"source": source.name, "key": key})
                    return _answer(422, {"status": "rejected", "reason": reason})
        return _answer(status, {"status": word, "key": readable[0] if readable else accepted[0].key})

    async def _refusal(self, source: Source, key: str) -> str | None:
        """Return the reason if a target refuses the order before the time is up; otherwise it stays stored, and is sent."""
        until, pause_s = self._clock.monotonic() + source.answer_wait_s, _FIRST_LOOK_S
        try:
            while not self.closing:
                verdict = await self._store.verdict(source.name, key)
                if verdict.state == "refused":
                    return verdict.reason if await self._store.reject(source.name, key, verdict.reason) else None
                left_s = until - self._clock.monotonic()
                if verdict.state != "pending" or left_s <= 0:
                    return None
                await self._clock.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, _LAST_LOOK_S)
        except StoreError as error:  # it is stored nevertheless
            log.warning("webhook.not_awaited", extra={"source": source.name, "reason": str(error)})
        return None

    def _refuse_closed(self, name: str) -> web.Response:
        """Answer 503 for a source whose plugin is broken, and so cannot verify; one log line a minute."""
        self._metrics.received.labels(name, "webhook", "busy").inc()
        if (count := self._lines.since_last(f"closed {name}")) is not None:
            log.warning("webhook.closed", extra={"source": name, "reason": self.closed[name], "since_last_line": count})
        return _answer(503, {"status": "try again later"}, {"Retry-After": str(_CLOSED_S), **_CLOSE})

    def _busy(self, source: Source, reason: str, retry_after_s: float) -> web.Response:
        self._count(source, "busy")
        if (count := self._lines.since_last(f"busy {source.name} {reason}")) is not None:
            log.warning("webhook.busy", extra={"source": source.name, "reason": reason, "since_last_line": count})
        return _answer(503, {"status": "try again later"}, {"Retry-After": str(max(1, round(retry_after_s)))})

    def _count(self, source: Source, outcome: Received) -> None:
        self._metrics.received.labels(source.name, "webhook", outcome).inc()


def _answer(status: int, fields: dict[str, object], more: Mapping[str, str] | None = None) -> web.Response:
    answer = web.Response(status=status, body=_encode(fields), headers={**_HEADERS, **(more or {})})
    if more and "Connection" in more:
        answer.force_close()
    return answer
