"""Deliver step: send each order to its target, under the key that it keeps for good."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from time import perf_counter

from msgspec.structs import replace

from gateway.api.errors import LeaseLost
from gateway.clock import Clock
from gateway.engine.batch_worker import now_for_ages, retry_commit
from gateway.engine.concurrent_worker import ConcurrentWorker
from gateway.engine.delivery_outcome import settlement
from gateway.engine.target_health import TargetHealth
from gateway.metrics import Metrics
from gateway.plugin.source import Source
from gateway.retry import capped_retry_after_s
from gateway.store.base import Store
from gateway.store.outcome import Progress, Settlement
from gateway.store.row_names import Status
from gateway.store.rows import OutboxRow
from gateway.targets.classify import Outcome
from gateway.targets.http import HttpTarget

log = logging.getLogger("gateway.deliver")

_RETRY_WITHIN_S = 1.0
_UNSETTLED = 4
_RESTORED = "the database was put back from a copy, and this may have been delivered since the copy was made: see whether the target has it"


class _Journal:
    """Durable progress of one attempt. If the target does not recognise repeats, a shutdown leaves a request on its way in doubt.

    Attributes:
        left: A request may have reached the target.
    """

    def __init__(self, store: Store, row: OutboxRow, clock: Clock, *, records_intent: bool) -> None:
        self._store = store
        self._row = row
        self._clock = clock
        self.left = not records_intent
        self.in_doubt = records_intent and row.in_doubt

    async def start_request(self, sha256: bytes | None) -> None:
        await retry_commit(self._clock, lambda: self._store.start_request(self._row, sha256))
        self.left = self.in_doubt = True

    async def finished(self, progress: Progress) -> None:
        await retry_commit(self._clock, lambda: self._store.record_progress(self._row, progress))
        self.left, self.in_doubt = True, False

    async def claimant(self, erp_id: str) -> str | None:
        return await retry_commit(self._clock, lambda: self._store.claimant(self._row, erp_id))

    def handed_back(self, *, maybe_delivered: bool) -> Settlement:
        """Return the end of an attempt that is cut short."""
        status: Status = "unknown" if self.in_doubt else "ready"
        return Settlement(status=status, outcome="handed_back", counts=False, maybe_delivered=maybe_delivered)


class Deliver(ConcurrentWorker[OutboxRow]):
    """Worker that sends one target's deliveries.

    The target's health limits the requests in flight. A finished request makes room for the next while its settlement is committed.
    """

    def __init__(self, target: HttpTarget, sources: Mapping[str, Source], store: Store, metrics: Metrics, clock: Clock) -> None:
        super().__init__("outbox", target.name, store, clock, log=log, failed="delivery.failed")
        self.name = target.name
        self.health = TargetHealth(target, metrics, clock, self._retry_soon)
        self._target = target
        self._sources = sources
        self._durations = metrics.delivery.labels(self.name)
        self._deliveries = metrics.deliveries
        self._in_flight = 0
        self._probe: int | None = None

    def release(self, *, person: bool = False) -> None:
        """Sign in anew and send again at once; if the target was down, send a probe. Only a person ends a person's pause."""
        self._target.reset()
        if self.health.release(person=person):
            self._retry_soon()
        self._changed.set()

    async def run(self) -> None:
        """Deliver until `drain`."""
        paused = await retry_commit(self._clock, lambda: self._store.paused_target(self.name))
        self.health.pause(self.health.paused or paused)
        await super().run()

    async def _lease(self, limit: int) -> list[OutboxRow]:
        """Lease what is due, or a probe: if it is time for one, any row, preferably one that has not failed."""
        records_intent, breaker, now = self._target.records_intent, self.health.breaker, self._clock.monotonic()
        rows = [] if breaker.blocks else await self._store.lease_outbox(self.name, limit, records_intent=records_intent)
        if not rows and breaker.is_open and breaker.next_probe_s(now) == 0:
            if breaker.kind == "paused":
                self._target.once_more()
            rows = await self._store.lease_outbox(self.name, 1, records_intent=records_intent, early=True, but_not=breaker.probed)
            if rows:
                breaker.record_probe(now, rows[0].id)
                self._probe = rows[0].id
        return rows

    def _start(self, row: OutboxRow) -> None:
        self._in_flight += 1
        self._spawn(self._attempt(row), f"deliver {row.key}", row.id)

    def _allowance(self) -> int:
        allowance = self.health.allowance(self._in_flight)
        return 0 if len(self._tasks) >= _UNSETTLED * self._target.settings.concurrency else allowance

    def _pause_s(self) -> float:
        return self.health.pause_s()

    async def _wait(self) -> None:
        if not await self.health.opened_its_port():
            await super()._wait()

    async def _attempt(self, row: OutboxRow) -> None:
        began, began_ms, left_at, beside = perf_counter(), self._clock.now_ms(), self._clock.monotonic(), self._in_flight
        journal = _Journal(self._store, row, self._clock, records_intent=self._target.records_intent)
        if not self._may_leave(row):
            self._in_flight -= 1
            await self._settle(row, journal.handed_back(maybe_delivered=False))
            return
        try:
            outcome = await self._send(row, journal)
        except LeaseLost:
            log.warning("delivery.lease_lost", extra={"target": self.name, "key": row.key})
            return
        except asyncio.CancelledError:
            await asyncio.shield(self._settle(row, journal.handed_back(maybe_delivered=journal.left)))
            raise
        finally:
            self._in_flight -= 1
            self._changed.set()
        duration_s, retry = perf_counter() - began, self._target.settings.retry
        if outcome.retry_after_s:
            outcome = replace(outcome, retry_after_s=capped_retry_after_s(outcome.retry_after_s, retry.cap_s))
        outcome = self.health.record(outcome, row.id, began=left_at, in_flight=max(beside, self._in_flight + 1))
        now, duration_ms = now_for_ages(self._store), round(duration_s * 1000)
        end = settlement(row, outcome, retry, now=now, began_ms=began_ms, duration_ms=duration_ms)
        self._report(row, outcome, end, duration_s)
        await self._settle(row, end)

    def _may_leave(self, row: OutboxRow) -> bool:
        """Return True if nothing has stopped the target since the lease: the answer would count as that of the probe."""
        is_probe, self._probe = row.id == self._probe, None if row.id == self._probe else self._probe
        return self.health.paused is None and (is_probe or not self.health.breaker.blocks)

    async def _send(self, row: OutboxRow, journal: _Journal) -> Outcome:
        if row.body is None or hashlib.sha256(row.body).digest() != row.sha256:
            log.critical("store.damaged_body", extra={"target": self.name, "key": row.key})
            reason = "the stored message is damaged: its SHA-256 differs from the one it was stored with"
            return Outcome(meaning="refused", reason=reason, silent=True)
        if row.in_doubt_since is not None and not self._target.records_intent:
            return Outcome(meaning="held", reason=_RESTORED, in_doubt=True, maybe_delivered=True, silent=True)
        try:
            return await self._target.send(row, journal, probing=self.health.breaker.is_open)
        except LeaseLost:
            raise
        except Exception as error:
            log.error("delivery.failed", exc_info=error, extra={"target": self.name, "key": row.key})
            reason = f"{type(error).__name__} in the gateway itself; see its log"
            return Outcome(meaning="retry", reason=reason, maybe_delivered=journal.left, in_doubt=journal.in_doubt, silent=True)

    def _report(self, row: OutboxRow, outcome: Outcome, end: Settlement, duration_s: float) -> None:
        self._durations.observe(duration_s)
        self._deliveries.labels(self.name, end.outcome).inc()
        expected = end.status in ("done", "ready") or (end.status == "unknown" and row.in_doubt)
        told = {
            "source": row.source,
            "target": self.name,
            "order_ref": row.order_ref,
            "key": row.key,
            "attempt": row.attempts,
            "outcome": end.outcome,
            "status": outcome.http_status,
            "duration_s": round(duration_s, 4),
            "next_in_s": round(end.due_in_s, 1) if end.status in ("ready", "unknown") else None,
        }
        log.log(logging.INFO if expected else logging.WARNING, "delivery.attempted", extra=told)

    def _retry_soon(self) -> None:
        self._spawn(self._retry_waiting(), f"retry soon {self.name}")

    async def _retry_waiting(self) -> None:
        """Make orders that wait for a later attempt due soon, spread out."""
        await retry_commit(self._clock, lambda: self._store.retry_soon(self.name, _RETRY_WITHIN_S))

    async def _settle(self, row: OutboxRow, end: Settlement) -> None:
        source = self._sources.get(row.source)
        acknowledge = source is not None and "delivered" in source.stages
        try:
            await retry_commit(self._clock, lambda: self._store.settle_outbox(row, end, acknowledge=acknowledge))
        except LeaseLost:
            log.warning("delivery.lease_lost", extra={"target": self.name, "key": row.key})
