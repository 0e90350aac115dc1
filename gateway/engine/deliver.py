"""The deliver step: a delivery is offered to its target, under the key it will always have."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import Counter

from gateway.api.errors import LeaseLost
from gateway.clock import Clock, utc_text
from gateway.engine.adaptive_limit import Parallel
from gateway.engine.batch_worker import now_for_ages, retry_commit
from gateway.engine.breaker import Breaker, Pauses, doubling, once_then
from gateway.engine.concurrent_worker import ConcurrentWorker
from gateway.engine.delivery_outcome import settlement
from gateway.metrics import Metrics
from gateway.plugin.source import Source
from gateway.retry import capped_retry_after_s
from gateway.store.base import Store
from gateway.store.outcome import Progress, Settlement
from gateway.store.row_names import Status
from gateway.store.rows import OutboxRow
from gateway.store.targets import Held
from gateway.targets.classify import Outcome
from gateway.targets.http import HttpTarget

log = logging.getLogger("gateway.deliver")

_HASTEN_WITHIN_S = 1.0
_UNSETTLED = 4
_FIRST_AGAIN_S, _LONGEST_AGAIN_S, _TOKEN_AGAIN_S = 30.0, 600.0, 3600.0
_LATELY_S = 5.0
_TOO_MANY = (429, 503)
_RESTORED = "the database was put back from a copy, and this may have been delivered since the copy was made: see whether the target has it"


class _Journal:
    """What an attempt makes durable, and how far it is: what a shutdown finds on its way is unknown where repeats are not recognised.

    Attributes:
        left: A request may have reached the target.
    """

    def __init__(self, store: Store, row: OutboxRow, clock: Clock, *, records_intent: bool) -> None:
        self._store = store
        self._row = row
        self._clock = clock
        self._records_intent = records_intent
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

    def handed_back(self) -> Settlement:
        """The end of an attempt that is cut short."""
        status: Status = "unknown" if self.in_doubt else "ready"
        return Settlement(status=status, outcome="handed_back", counts=False, maybe_delivered=self.left)


class _Left(Struct, frozen=True):
    """When a request left, and how many were under way with it."""

    at: float
    beside: int


class Deliver(ConcurrentWorker[OutboxRow]):
    """One target's deliveries; `run()` is its task.

    In flight are at most as many as the target's concurrency, what it has taken so far, and its breaker allow; a finished request makes
    room for the next while its settlement is still being committed.
    """

    def __init__(self, target: HttpTarget, sources: Mapping[str, Source], store: Store, metrics: Metrics, clock: Clock) -> None:
        super().__init__("outbox", target.name, store, clock, log=log, failed="delivery.failed")
        settings = target.settings
        self._target = target
        self._sources = sources
        self._metrics = metrics
        self._breaker = Breaker(failures=settings.breaker.failures, cooldown_s=settings.breaker.cooldown_s, cap_s=settings.retry.cap_s)
        self._parallel = Parallel(settings.concurrency)
        self._durations = metrics.delivery.labels(self.name)
        self._counters: dict[str, Counter] = {}
        self._held: Held | None = None
        self._trouble = self._pace = ""
        self._closed_s = 0.0
        self._in_flight = 0
        self._trying: int | None = None
        self._knocks = True

    @property
    def name(self) -> str:
        return self._target.name

    def hold(self, reason: str) -> None:
        """Send nothing until the target takes one that is tried, or is released; the orders wait."""
        self._refused(Outcome(meaning="hold", reason=reason), 0, self._clock.monotonic())

    def held(self, held: Held) -> None:
        """A person says so: send nothing until a person releases it."""
        self._held = held
        self._show()

    def release(self, *, person: bool = False) -> None:
        """Send again, and at once: where it counts as down, one is tried now. What a person holds, only a person releases."""
        self._target.reset()
        if self._held is not None and not person:
            return
        waited = person or self._breaker.is_open or self._quiet_until > self._clock.monotonic()
        self._held, self._quiet_until = None, 0.0
        if self._breaker.kind == "hold":
            self._breaker.end()
        self._breaker.hurry()
        if waited:  # else what is due later is so for a reason of its own
            self._spawn(self._hasten(), f"hasten {self.name}")
        self._show()
        self._changed.set()

    def _show(self) -> None:
        """How the target is, and when it is tried again. What a person said comes first, whatever the target answers meanwhile."""
        now, show = self._clock.monotonic(), self._metrics.health.set_target
        quiet_s = self._quiet_until - now
        if self._held is not None:
            show(self.name, "hold", self._held.words, since=self._held.at)
        elif self._breaker.kind is not None:
            show(self.name, self._breaker.kind, self._trouble, self._at(max(self._breaker.next_try_s(now), quiet_s)))
        elif self._closed_s > 0:
            show(self.name, "closed", "a maintenance window of its configuration", self._at(self._closed_s))
        elif quiet_s > self._target.settings.breaker.cooldown_s:
            until = self._at(quiet_s)
            show(self.name, "paced", f"paced until {until and utc_text(until)}: {self._pace}", until)
        else:
            lowered = self._parallel.lowered
            show(self.name, "up", lowered and f"sends {lowered[0]} at a time of {lowered[1]}, since it refuses more ({self._pace})")

    def _at(self, in_s: float) -> datetime | None:
        return self._clock.now() + timedelta(seconds=in_s) if 0 < in_s < math.inf else None

    async def run(self) -> None:
        """Deliver until `drain`."""
        held = await retry_commit(self._clock, lambda: self._store.held_target(self.name))
        self._held = self._held or held
        self._show()
        await super().run()

    async def _lease(self, limit: int) -> list[OutboxRow]:
        """What is due; where the target counts as down and it is time, also one that is not, rather another than those that failed."""
        records_intent, breaker, now = self._target.records_intent, self._breaker, self._clock.monotonic()
        rows = [] if breaker.stops else await self._store.lease_outbox(self.name, limit, records_intent=records_intent)
        if not rows and breaker.is_open and breaker.next_try_s(now) == 0:
            if breaker.kind == "hold":
                self._target.once_more()
            rows = await self._store.lease_outbox(self.name, 1, records_intent=records_intent, early=True, but_not=breaker.tried)
            if rows:
                breaker.trying(now, rows[0].id)
                self._trying = rows[0].id
        return rows

    def _start(self, row: OutboxRow) -> None:
        self._in_flight += 1
        self._spawn(self._one(row), f"deliver {row.key}", row.id)

    def _allowance(self) -> int:
        now = self._clock.monotonic()
        self._mind_the_window()
        if self._held is not None or self._closed_s > 0 or now < self._quiet_until:
            return 0
        if len(self._tasks) >= _UNSETTLED * self._target.settings.concurrency:
            return 0
        if self._breaker.stops:
            return 1 - self._in_flight if self._breaker.next_try_s(now) == 0 else 0
        return self._parallel.size - self._in_flight

    def _mind_the_window(self) -> None:
        """What is configured as closed, and quiet that is over, are shown as they are now."""
        was_closed, self._closed_s = self._closed_s > 0, self._target.closed_for_s()
        is_paced = self._metrics.health.targets.get(self.name)
        over = is_paced is not None and is_paced.state == "paced" and self._quiet_until <= self._clock.monotonic()
        if was_closed != (self._closed_s > 0) or over:
            self._show()

    async def _wait(self) -> None:
        """What cannot be reached is knocked at meanwhile, every few seconds, at no cost: once it opens, one order tries."""
        if self._knocks and self._breaker.unreachable and self._held is None and await self._target.takes_connections():
            self._knocks = False  # a port that opens and serves nothing is left to the breaker
            self._breaker.hurry()
        else:
            await super()._wait()

    def _pause_s(self) -> float:
        now = self._clock.monotonic()
        return max(self._breaker.next_try_s(now) if self._breaker.stops else 0.0, self._quiet_until - now, self._closed_s)

    async def _one(self, row: OutboxRow) -> None:
        began, began_ms, left = perf_counter(), self._clock.now_ms(), _Left(at=self._clock.monotonic(), beside=self._in_flight)
        journal = _Journal(self._store, row, self._clock, records_intent=self._target.records_intent)
        if not self._may_leave(row):
            self._in_flight -= 1
            await self._settle(row, Settlement(status="unknown" if journal.in_doubt else "ready", outcome="handed_back", counts=False))
            return
        try:
            outcome = await self._send(row, journal)
        except LeaseLost:
            log.warning("delivery.lease_lost", extra={"target": self.name, "key": row.key})
            return
        except asyncio.CancelledError:
            await asyncio.shield(self._settle(row, journal.handed_back()))
            raise
        finally:
            self._in_flight -= 1
            self._changed.set()
        duration_s = perf_counter() - began
        if outcome.retry_after_s:
            believed = capped_retry_after_s(outcome.retry_after_s, self._target.settings.retry.cap_s)
            outcome = replace(outcome, retry_after_s=believed)
        outcome = self._judge(outcome, row.id, left)
        end = settlement(
            row,
            outcome,
            self._target.settings.retry,
            now=now_for_ages(self._store),
            began_ms=began_ms,
            duration_ms=round(duration_s * 1000),
        )
        self._durations.observe(duration_s)
        self._counter(end.outcome).inc()
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
        await self._settle(row, end)

    def _may_leave(self, row: OutboxRow) -> bool:
        """Whether nothing has stopped the target since the row was leased; else its answer would count as that of the one that tries."""
        tries, self._trying = row.id == self._trying, None if row.id == self._trying else self._trying
        return self._held is None and (tries or not self._breaker.stops)

    def _counter(self, outcome: str) -> Counter:
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = self._metrics.deliveries.labels(self.name, outcome)
        return counter

    async def _send(self, row: OutboxRow, journal: _Journal) -> Outcome:
        if row.body is None or hashlib.sha256(row.body).digest() != row.sha256:
            log.critical("store.damaged_body", extra={"target": self.name, "key": row.key})
            reason = "the stored message is damaged: its SHA-256 differs from the one it was stored with"
            return Outcome(meaning="refused", reason=reason, silent=True)
        if row.in_doubt_since is not None and not self._target.records_intent:
            return Outcome(meaning="held", reason=_RESTORED, in_doubt=True, maybe_delivered=True, silent=True)
        try:
            return await self._target.send(row, journal, probing=self._breaker.is_open)
        except LeaseLost:
            raise
        except Exception as error:
            log.error("delivery.failed", exc_info=error, extra={"target": self.name, "key": row.key})
            reason = f"{type(error).__name__} in the gateway itself; see its log"
            return Outcome(meaning="retry", reason=reason, maybe_delivered=journal.left, in_doubt=journal.in_doubt, silent=True)

    def _judge(self, outcome: Outcome, row_id: int, left: _Left) -> Outcome:
        """What an answer says of the target as a whole; the outcome of the order."""
        now, began = self._clock.monotonic(), left.at
        lowered = outcome.http_status in _TOO_MANY and self._parallel.overloaded(
            now, began=began, flying=max(left.beside, self._in_flight + 1)
        )
        if outcome.meaning == "hold":
            return self._refused(outcome, row_id, began)
        if outcome.meaning == "throttled" or (outcome.retry_after_s and outcome.unwell and not self._parallel.took_within(now, _LATELY_S)):
            self._quiet_until = max(self._quiet_until, now + (outcome.retry_after_s or 1.0))
        if lowered or outcome.meaning == "throttled":
            self._pace = outcome.reason
            self._show()
        elif outcome.unwell:
            if self._breaker.failed(now, row_id, began=began, reached=not outcome.unreached):
                self._trouble = outcome.reason if self._breaker.kind == "down" else self._trouble
                self._show()
        elif not outcome.silent:
            self._taken(row_id, now, began)
        return outcome

    def _taken(self, row_id: int, now: float, began: float) -> None:
        """It shows that it is well. After an outage it gets few at first, and what waits for a far-off try goes now."""
        was = self._parallel.lowered
        self._parallel.taken(now)
        if self._breaker.taken(row_id, began=began):
            self._parallel.begin_small()
            self._knocks = True
            self._show()
            self._spawn(self._hasten(), f"hasten {self.name}")
        elif was != self._parallel.lowered:
            self._show()

    def _refused(self, outcome: Outcome, row_id: int, began: float) -> Outcome:
        """It says that it is set up wrongly: nothing but one order at a time is tried, soon and then seldom."""
        if not self._breaker.refused(self._clock.monotonic(), row_id, self._pauses(outcome), began=began):
            return replace(outcome, meaning="held", reason=f"{outcome.reason}; it says so of this order alone, and takes others")
        never = self._breaker.next_try_s(self._clock.monotonic()) == math.inf
        advice = f"; lest the account be locked, nothing is tried until the secret changes, SIGHUP, or `gateway target release {self.name}`"
        self._trouble = outcome.reason + (advice if never and "nothing more is sent" not in outcome.reason else "")
        self._show()
        return outcome

    def _pauses(self, outcome: Outcome) -> Pauses:
        """When the target is tried again by itself. An account is locked after wrong passwords, and not after wrong tokens."""
        settings = self._target.settings
        if not outcome.credentials or settings.credentials == "none":
            return doubling(_FIRST_AGAIN_S, _LONGEST_AGAIN_S)
        if settings.credentials == "token":
            return once_then(_FIRST_AGAIN_S, _TOKEN_AGAIN_S)
        return once_then(_FIRST_AGAIN_S if settings.max_consecutive_auth_failures > 1 else math.inf, math.inf)

    async def _hasten(self) -> None:
        """What waits for a far-off try goes soon, spread out."""
        await retry_commit(self._clock, lambda: self._store.retry_soon(self.name, _HASTEN_WITHIN_S))

    async def _settle(self, row: OutboxRow, end: Settlement) -> None:
        source = self._sources.get(row.source)
        acknowledge = source is not None and "delivered" in source.stages
        try:
            await retry_commit(self._clock, lambda: self._store.settle_outbox(row, end, acknowledge=acknowledge))
        except LeaseLost:
            log.warning("delivery.lease_lost", extra={"target": self.name, "key": row.key})
