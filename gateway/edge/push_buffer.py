"""Bounded buffer between a hub and the store: in order, and never dropped because the store is slow.

A hub sends nothing twice, so a push is kept until it is committed. While the store is busy, the buffer fills, the session stops
reading, and TCP makes the hub wait. Pushes that come during a commit are read meanwhile, and make the next commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from datetime import datetime

from msgspec import Struct

from gateway.api.errors import PluginError, Rejected, StoreBusy, StoreFailed, TransientError
from gateway.api.messages import Envelope
from gateway.clock import Clock
from gateway.edge.tasks import run_together
from gateway.metrics import Metrics, Received
from gateway.plugin.incoming import dead_letter, incoming, warn_of_flagged
from gateway.plugin.source import Source
from gateway.plugin.validation import Misread
from gateway.store.arrivals import Accepted, NewEvent
from gateway.store.base import Store

log = logging.getLogger("gateway.realtime")

MOST_EVENTS = 1024
MOST_BYTES = 8 * 1024 * 1024
_RETRY_S = 1.0
_SLICE = 32


class _Push(Struct, frozen=True):
    body: bytes
    received_at: datetime
    broken: str | None = None


class _Decoded(Struct):
    """Call of the hub as the store takes it: its events, or a dead letter."""

    body: bytes
    events: list[NewEvent]
    outcome: Received = "stored"


class PushBuffer:
    """Buffer of one source; the session calls `put`, and `run()` is a task."""

    def __init__(self, source: Source, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._waiting: deque[_Push] = deque()
        self._ready: list[_Decoded] = []
        self._count = 0
        self._bytes = 0
        self._some = asyncio.Event()
        self._some_ready = asyncio.Event()
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        metrics.realtime.waiting.labels(source.name).set_function(lambda: self._count)

    async def put(self, body: bytes, *, broken: str | None = None) -> None:
        """Take one call, or a record that is `broken` for this reason; wait while there is no room."""
        if not self._fits(body):
            began = self._clock.monotonic()
            while not self._fits(body):
                self._room.clear()
                await self._room.wait()
            self._metrics.realtime.blocked.labels(self._source.name).inc(self._clock.monotonic() - began)
        self._waiting.append(_Push(body, self._clock.now(), broken))
        self._count += 1
        self._bytes += len(body)
        self._some.set()
        self._empty.clear()

    def _fits(self, body: bytes) -> bool:
        return not self._count or (self._count < MOST_EVENTS and self._bytes + len(body) <= MOST_BYTES)

    async def run(self) -> None:
        """Read and store until cancelled. Raises StoreFailed."""
        name = self._source.name
        tasks = [asyncio.create_task(self._reading(), name=f"realtime read {name}")]
        tasks.append(asyncio.create_task(self._storing(), name=f"realtime store {name}"))
        await run_together(tasks)

    async def _reading(self) -> None:
        """Pass the pushes to the connector, one slice at a time: a burst is milliseconds of work."""
        while True:
            await self._some.wait()
            for _ in range(min(_SLICE, len(self._waiting))):
                read = await self._read(self._waiting[0])  # first, since the ready ones may be stored meanwhile
                self._ready.append(read)
                self._waiting.popleft()
            if not self._waiting:
                self._some.clear()
            if not self._waiting or len(self._ready) >= MOST_EVENTS // 2:
                self._some_ready.set()  # not for each slice: small commits free little room, and so stay small
            await asyncio.sleep(0)

    async def _storing(self) -> None:
        while True:
            await self._some_ready.wait()
            self._some_ready.clear()
            ready, self._ready = self._ready, []
            await self._store_all(ready)
            self._count -= len(ready)
            self._bytes -= sum([len(one.body) for one in ready])
            self._room.set()
            if not self._count:
                self._empty.set()

    async def drained(self) -> None:
        """Return when everything that was put is stored."""
        await self._empty.wait()

    async def _read(self, pushed: _Push) -> _Decoded:
        while True:
            try:
                return await self._read_once(pushed)
            except TransientError as error:  # the connector cannot read now, and a hub does not send again
                log.warning("realtime.waits", extra={"source": self._source.name, "reason": str(error)})
                self._some_ready.set()  # earlier ones do not wait for this one
                await self._clock.sleep(_RETRY_S)

    async def _read_once(self, pushed: _Push) -> _Decoded:
        source = self._source
        if pushed.broken is not None:
            return _unreadable(pushed.body, pushed.broken)
        envelope = Envelope(source=source.name, door="realtime", body=pushed.body, received_at=pushed.received_at)
        try:
            found = await source.hook_runner.run("read", lambda: source.connector.read(envelope))
            return _Decoded(pushed.body, incoming(found, source.stages, source.earlier_versions))
        except Rejected:  # a hub gets no answer
            return _unreadable(pushed.body, "rejected by the connector; its reason was for the sender", "rejected")
        except Misread as error:
            return _unreadable(pushed.body, str(error))
        except PluginError as error:
            log.error("plugin.failed", exc_info=error, extra={"source": source.name})
            return _unreadable(pushed.body, str(error))

    async def _store_all(self, read: list[_Decoded]) -> None:
        """Store them in one commit; if that fails, one by one, so that none blocks the rest."""
        try:
            accepted = await self._commit([event for one in read for event in one.events])
        except StoreFailed:
            raise
        except Exception as error:
            if len(read) > 1:
                for one in read:
                    await self._store_all([one])
            else:
                log.error("realtime.not_taken", exc_info=error, extra={"source": self._source.name})
                await self._store_dead(_unreadable(read[0].body, f"the store refuses it: {type(error).__name__}"))
        else:
            self._count_outcomes(read, accepted)

    async def _store_dead(self, dead: _Decoded) -> None:
        """Store a dead letter, and retry: it has nothing that the store could refuse, so the error may pass."""
        while True:
            try:
                accepted = await self._commit(dead.events)
            except StoreFailed:
                raise
            except Exception:
                await self._clock.sleep(_RETRY_S)
            else:
                return self._count_outcomes([dead], accepted)

    async def _commit(self, events: list[NewEvent]) -> list[Accepted]:
        warned = False
        while events:
            try:
                accepted = await self._store.accept(self._source.name, "realtime", events)
                warn_of_flagged(self._source.name, events, accepted)
                return accepted
            except StoreBusy as error:
                if not warned:
                    self._metrics.received.labels(self._source.name, "realtime", "busy").inc()
                    log.warning("realtime.busy", extra={"source": self._source.name, "reason": str(error), "waiting": self._count})
                warned = True
                await self._clock.sleep(min(error.retry_after_s, _RETRY_S))
        return []

    def _count_outcomes(self, read: list[_Decoded], accepted: list[Accepted]) -> None:
        for one in read:
            if one.outcome == "unreadable":
                log.warning("realtime.unreadable", extra={"source": self._source.name})
        ours: list[str] = [
            "unreadable" if one.outcome == "stored" and event.dead is not None else one.outcome for one in read for event in one.events
        ]
        counts = Counter([mine if one.outcome == "stored" else one.outcome for mine, one in zip(ours, accepted, strict=True)])
        for outcome, count in counts.items():
            self._metrics.received.labels(self._source.name, "realtime", outcome).inc(count)


def _unreadable(body: bytes, reason: str, outcome: Received = "unreadable") -> _Decoded:
    return _Decoded(body, [dead_letter(body, reason)], outcome)
