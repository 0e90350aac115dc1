"""The deliver step: a delivery is offered to its target, under the key it will always have."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from time import perf_counter

from prometheus_client import Counter

from gateway.clock import Clock
from gateway.engine.breaker import Breaker
from gateway.engine.flight import Flight
from gateway.engine.settlement import settlement
from gateway.engine.worker import settled
from gateway.errors import LeaseLost
from gateway.log import say
from gateway.source import Source
from gateway.store.base import OutboxRow, Progress, Settlement, Status, Store
from gateway.target.classify import Outcome
from gateway.target.http import HttpTarget
from gateway.vitals import Vitals

log = logging.getLogger("gateway.deliver")

_HASTEN_WITHIN_S = 5.0
_LOOK_S = 5.0
_UNSETTLED = 4
_RESTORED = "the database was put back from a copy, and this may have been delivered since the copy was made: see whether the target has it"


class _Journal:
    """What an attempt makes durable, and how far it is: what a shutdown finds on its way is unknown where repeats are not recognised.

    Attributes:
        left: A request may have reached the target.
    """

    def __init__(self, store: Store, row: OutboxRow, clock: Clock, *, announces: bool) -> None:
        self._store = store
        self._row = row
        self._clock = clock
        self._announces = announces
        self.left = not announces
        self.unclear = announces and row.unclear

    async def sending(self, sha256: bytes | None) -> None:
        await settled(self._clock, lambda: self._store.sending(self._row, sha256))
        self.left = self.unclear = True

    async def finished(self, progress: Progress) -> None:
        await settled(self._clock, lambda: self._store.finished(self._row, progress))
        self.left, self.unclear = True, False

    async def claimant(self, erp_id: str) -> str | None:
        return await settled(self._clock, lambda: self._store.claimant(self._row, erp_id))

    def handed_back(self) -> Settlement:
        """The end of an attempt that is cut short."""
        status: Status = "unknown" if self.unclear else "ready"
        return Settlement(status=status, outcome="handed_back", counts=False, maybe_taken=self.left)


class Deliver(Flight[OutboxRow]):
    """One target's deliveries; `run()` is its task.

    In flight are at most as many as the target's concurrency and its breaker allow; a finished request makes room for the
    next while its settlement is still being committed.
    """

    def __init__(self, target: HttpTarget, sources: Mapping[str, Source], store: Store, vitals: Vitals, clock: Clock) -> None:
        super().__init__("outbox", target.name, store, clock, log=log, failed="delivery.failed")
        settings = target.settings
        self._target = target
        self._sources = sources
        self._vitals = vitals
        self._breaker = Breaker(
            failures=settings.breaker.failures,
            cooldown_s=settings.breaker.cooldown_s,
            cap_s=settings.retry.cap_s,
            concurrency=settings.concurrency,
        )
        self._durations = vitals.delivery.labels(self.name)
        self._counters: dict[str, Counter] = {}
        self._held: str | None = None
        self._by_person = False
        self._trouble = ""
        self._flying = 0

    @property
    def name(self) -> str:
        return self._target.name

    def hold(self, reason: str, *, person: bool = False) -> None:
        """Send nothing until released; the orders wait. What a `person` holds keeps that person's reason."""
        if person or not self._by_person:
            self._held = reason
        self._by_person |= person
        self._show()

    def release(self, *, person: bool = False) -> None:
        """Send again, and at once: where it counts as down, the probe goes now. What a person holds, only a person releases."""
        if self._by_person and not person:
            self._target.reset()
            return
        self._by_person = False
        self._held, self._quiet_until = None, 0.0
        self._target.reset()
        if self._breaker.is_open:  # else what is due later is so for a reason of its own
            self._breaker.hurry()
            self._spawn(self._hasten(), f"hasten {self.name}")
        self._show()
        self._changed.set()

    def _show(self) -> None:
        """How the target is. A hold comes first: what was in flight when it began still opens and closes the breaker, and ends no hold."""
        if self._held is not None:
            self._vitals.target(self.name, "hold", self._held)
        elif self._breaker.is_open:
            self._vitals.target(self.name, "down", self._trouble)
        else:
            self._vitals.target(self.name, "up")

    async def run(self) -> None:
        """Deliver until `drain`."""
        self._show()
        await super().run()

    async def _leased(self, limit: int) -> list[OutboxRow]:
        return await self._store.lease_outbox(self.name, limit, announces=self._target.announces)

    def _start(self, row: OutboxRow) -> None:
        self._flying += 1
        self._spawn(self._one(row), f"deliver {row.key}")

    def _free(self) -> int:
        now = self._clock.monotonic()
        closed_s = self._target.closed_for_s()
        if closed_s > 0:
            self._quiet_until = max(self._quiet_until, now + min(closed_s, _LOOK_S))
        if self._held is not None or now < self._quiet_until or len(self._tasks) >= _UNSETTLED * self._target.settings.concurrency:
            return 0
        return self._breaker.may_fly(now) - self._flying

    def _pause_s(self) -> float:
        now = self._clock.monotonic()
        return max(self._breaker.next_probe_s(now), self._quiet_until - now)

    async def _one(self, row: OutboxRow) -> None:
        began, began_ms = perf_counter(), self._clock.now_ms()
        journal = _Journal(self._store, row, self._clock, announces=self._target.announces)
        try:
            outcome = await self._send(row, journal)
        except LeaseLost:
            log.warning("delivery.lease_lost", extra={"target": self.name, "key": row.key})
            return
        except asyncio.CancelledError:
            await asyncio.shield(self._settle(row, journal.handed_back()))
            raise
        finally:
            self._flying -= 1
            self._changed.set()
        duration_s = perf_counter() - began
        self._judge(outcome)
        end = settlement(
            row,
            outcome,
            self._target.settings.retry,
            now=self._clock.now(),
            began_ms=began_ms,
            duration_ms=round(duration_s * 1000),
        )
        self._durations.observe(duration_s)
        self._counter(end.outcome).inc()
        say(
            log,
            logging.INFO if end.status in ("done", "ready") or (end.status == "unknown" and row.unclear) else logging.WARNING,
            "delivery.attempted",
            source=row.source,
            target=self.name,
            order_ref=row.order_ref,
            key=row.key,
            attempt=row.attempts,
            outcome=end.outcome,
            status=outcome.http_status,
            duration_s=round(duration_s, 4),
            next_in_s=round(end.due_in_s, 1) if end.status in ("ready", "unknown") else None,
        )
        await self._settle(row, end)

    def _counter(self, outcome: str) -> Counter:
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = self._vitals.deliveries.labels(self.name, outcome)
        return counter

    async def _send(self, row: OutboxRow, journal: _Journal) -> Outcome:
        if row.body is None or hashlib.sha256(row.body).digest() != row.sha256:
            log.critical("store.damaged_body", extra={"target": self.name, "key": row.key})
            reason = "the stored message is damaged: its SHA-256 differs from the one it was stored with"
            return Outcome(meaning="refused", reason=reason, silent=True)
        if row.unknown_since is not None and not self._target.announces:
            return Outcome(meaning="held", reason=_RESTORED, unclear=True, maybe_taken=True, silent=True)
        try:
            return await self._target.send(row, journal, probing=self._breaker.is_open)
        except LeaseLost:
            raise
        except Exception as error:
            log.error("delivery.failed", exc_info=error, extra={"target": self.name, "key": row.key})
            reason = f"{type(error).__name__} in the gateway itself; see its log"
            return Outcome(meaning="retry", reason=reason, maybe_taken=journal.left, unclear=journal.unclear)

    def _judge(self, outcome: Outcome) -> None:
        now = self._clock.monotonic()
        if outcome.unwell:
            if self._breaker.failed(now) == "opened":
                self._trouble = outcome.reason
                self._show()
        elif outcome.meaning == "hold":
            self.hold(outcome.reason)
        elif outcome.meaning == "throttled":
            self._quiet_until = max(self._quiet_until, now + (outcome.retry_after_s or 1.0))
        elif not outcome.silent and self._breaker.succeeded() == "closed":
            self._show()
            self._spawn(self._hasten(), f"hasten {self.name}")
        if outcome.unwell and outcome.retry_after_s:
            self._quiet_until = max(self._quiet_until, now + min(outcome.retry_after_s, self._target.settings.retry.cap_s))

    async def _hasten(self) -> None:
        """The target is back: what waits for a far-off try goes soon, spread out."""
        await settled(self._clock, lambda: self._store.hasten(self.name, _HASTEN_WITHIN_S))

    async def _settle(self, row: OutboxRow, end: Settlement) -> None:
        source = self._sources.get(row.source)
        acknowledge = source is not None and "delivered" in source.stages
        try:
            await settled(self._clock, lambda: self._store.settle_outbox(row, end, acknowledge=acknowledge))
        except LeaseLost:
            log.warning("delivery.lease_lost", extra={"target": self.name, "key": row.key})
