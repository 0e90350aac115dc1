"""Health of one target: how many requests it may get now, what its answers change, and the state that operators see."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from gateway.clock import Clock, utc_text
from gateway.engine.adaptive_limit import AdaptiveLimit
from gateway.engine.breaker import Breaker, Pauses, doubling, once_then
from gateway.metrics import Metrics
from gateway.store.targets import PausedTarget
from gateway.targets.classify import Outcome
from gateway.targets.http import HttpTarget

_FIRST_AGAIN_S, _LONGEST_AGAIN_S, _TOKEN_AGAIN_S = 30.0, 600.0, 3600.0
_RECENTLY_S = 5.0
_OVERLOADED = (429, 503)


class TargetHealth:
    """Circuit breaker, adaptive limit, throttling, maintenance window and an operator's pause of one target.

    Args:
        recovered: Called when the target takes an order after an outage.

    Attributes:
        paused: Pause by an operator; None if there is none.
    """

    def __init__(self, target: HttpTarget, metrics: Metrics, clock: Clock, recovered: Callable[[], None]) -> None:
        settings = target.settings
        self._target = target
        self._metrics = metrics
        self._clock = clock
        self._recovered = recovered
        self.breaker = Breaker(failures=settings.breaker.failures, cooldown_s=settings.breaker.cooldown_s, cap_s=settings.retry.cap_s)
        self.limit = AdaptiveLimit(settings.concurrency)
        self.paused: PausedTarget | None = None
        self._trouble = self._throttled_by = ""
        self._quiet_until = 0.0
        self._closed_s = 0.0
        self._tests_port = True

    def pause(self, paused: PausedTarget | None) -> None:
        """Send nothing until an operator releases the target."""
        self.paused = paused
        self.show()

    def release(self, *, person: bool) -> bool:
        """Send again, and probe now if it was down; only a person ends a person's pause. Return True if orders waited for this."""
        if self.paused is not None and not person:
            return False
        waited = person or self.breaker.is_open or self._quiet_until > self._clock.monotonic()
        self.paused, self._quiet_until = None, 0.0
        if self.breaker.kind == "paused":
            self.breaker.close()
        self.breaker.probe_now()
        self.show()
        return waited

    def show(self) -> None:
        """Publish the state, with the time of the next probe. An operator's pause comes first, whatever the target answers meanwhile."""
        now, name, show = self._clock.monotonic(), self._target.name, self._metrics.health.set_target
        quiet_s = self._quiet_until - now
        if self.paused is not None:
            show(name, "paused", self.paused.words, since=self.paused.at)
        elif self.breaker.kind is not None:
            show(name, self.breaker.kind, self._trouble, self._at(max(self.breaker.next_probe_s(now), quiet_s)))
        elif self._closed_s > 0:
            show(name, "closed", "a maintenance window of its configuration", self._at(self._closed_s))
        elif quiet_s > self._target.settings.breaker.cooldown_s:
            until = self._at(quiet_s)
            show(name, "paced", f"paced until {until and utc_text(until)}: {self._throttled_by}", until)
        else:
            lowered = self.limit.lowered
            show(name, "up", lowered and f"sends {lowered[0]} at a time of {lowered[1]}, since it refuses more ({self._throttled_by})")

    def _at(self, in_s: float) -> datetime | None:
        return self._clock.now() + timedelta(seconds=in_s) if 0 < in_s < math.inf else None

    def allowance(self, in_flight: int) -> int:
        """Return how many more requests may go out now."""
        now = self._clock.monotonic()
        self._refresh(now)
        if self.paused is not None or self._closed_s > 0 or now < self._quiet_until:
            return 0
        if self.breaker.blocks:
            return 1 - in_flight if self.breaker.next_probe_s(now) == 0 else 0
        return self.limit.size - in_flight

    def _refresh(self, now: float) -> None:
        """Show a maintenance window that began or ended, and a throttling that is over."""
        was_closed, self._closed_s = self._closed_s > 0, self._target.closed_for_s()
        shown = self._metrics.health.targets.get(self._target.name)
        over = shown is not None and shown.state == "paced" and self._quiet_until <= now
        if was_closed != (self._closed_s > 0) or over:
            self.show()

    def pause_s(self) -> float:
        """Return the seconds until requests may go out again; 0 or less if that depends on those in flight."""
        now = self._clock.monotonic()
        return max(self.breaker.next_probe_s(now) if self.breaker.blocks else 0.0, self._quiet_until - now, self._closed_s)

    async def opened_its_port(self) -> bool:
        """Test the port of an unreachable target, which costs no order. If it opens, make a probe due and return True."""
        if not (self._tests_port and self.breaker.unreachable and self.paused is None and await self._target.takes_connections()):
            return False
        self._tests_port = False  # a port that opens and serves nothing is left to the breaker
        self.breaker.probe_now()
        return True

    def record(self, outcome: Outcome, row_id: int, *, began: float, in_flight: int) -> Outcome:
        """Draw conclusions about the target from an answer, and return the outcome of the order."""
        now = self._clock.monotonic()
        lowered = outcome.http_status in _OVERLOADED and self.limit.record_overload(now, began=began, in_flight=in_flight)
        if outcome.meaning == "paused":
            return self.refuse(outcome, row_id, began)
        throttled = outcome.meaning == "throttled"
        if throttled or (outcome.retry_after_s and outcome.unwell and not self.limit.succeeded_within(now, _RECENTLY_S)):
            self._quiet_until = max(self._quiet_until, now + (outcome.retry_after_s or 1.0))
        if lowered or throttled:
            self._throttled_by = outcome.reason
            self.show()
        elif outcome.unwell:
            if self.breaker.record_failure(now, row_id, began=began, reached=not outcome.unreached):
                self._trouble = outcome.reason if self.breaker.kind == "down" else self._trouble
                self.show()
        elif not outcome.silent:
            self._succeeded(row_id, now, began)
        return outcome

    def _succeeded(self, row_id: int, now: float, began: float) -> None:
        """Note a target that works. After an outage it gets few requests at first, and orders that wait long go now."""
        was = self.limit.lowered
        self.limit.record_success(now)
        if self.breaker.record_success(row_id, began=began):
            self.limit.slow_start()
            self._tests_port = True
            self.show()
            self._recovered()
        elif was != self.limit.lowered:
            self.show()

    def refuse(self, outcome: Outcome, row_id: int, began: float) -> Outcome:
        """Pause a target that is set up wrongly: single orders probe, soon and then seldom."""
        if not self.breaker.record_refusal(self._clock.monotonic(), row_id, self._pauses(outcome), began=began):
            return replace(outcome, meaning="held", reason=f"{outcome.reason}; it says so of this order alone, and takes others")
        never = self.breaker.next_probe_s(self._clock.monotonic()) == math.inf
        name = self._target.name
        advice = f"; lest the account be locked, nothing is tried until the secret changes, SIGHUP, or `gateway target release {name}`"
        self._trouble = outcome.reason + (advice if never and "nothing more is sent" not in outcome.reason else "")
        self.show()
        return outcome

    def _pauses(self, outcome: Outcome) -> Pauses:
        """Return the pauses between probes. An account is locked after wrong passwords, and not after wrong tokens."""
        settings = self._target.settings
        if not outcome.credentials or settings.credentials == "none":
            return doubling(_FIRST_AGAIN_S, _LONGEST_AGAIN_S)
        if settings.credentials == "token":
            return once_then(_FIRST_AGAIN_S, _TOKEN_AGAIN_S)
        return once_then(_FIRST_AGAIN_S if settings.max_consecutive_auth_failures > 1 else math.inf, math.inf)
