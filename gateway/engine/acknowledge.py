"""Acknowledge step: tell a vendor which orders have reached a stage, in batches."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from time import perf_counter

from msgspec.structs import replace

from gateway.api.errors import AuthError, GatewayError, PluginError, RateLimited, TransientError
from gateway.api.messages import Receipt
from gateway.clock import Clock
from gateway.engine.batch_worker import now_for_ages, retry_commit
from gateway.metrics import Metrics
from gateway.plugin.source import Source
from gateway.retry import backoff_s, capped_retry_after_s, is_over
from gateway.store.base import Store
from gateway.store.outcome import Settlement
from gateway.store.rows import AckRow

log = logging.getLogger("gateway.acknowledge")

BATCH = 100
CALL_TIMEOUT_S = 120.0
_BASE_S, _CAP_S, _MAX_AGE_S = 5.0, 3600.0, 7 * 86400.0


class Acknowledge:
    """Acknowledge step of one source."""

    def __init__(self, source: Source, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._metrics = metrics
        self._clock = clock

    async def run_once(self) -> bool:
        """Lease and send one batch; return False if nothing was due."""
        rows = await self._store.lease_acknowledgements(self._source.name, BATCH)
        if not rows:
            return False
        began, began_ms = perf_counter(), self._clock.now_ms()
        confirmed: Collection[int] = ()
        problem: BaseException | None = None
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                confirmed = await self._source.connector.acknowledge([_receipt(row) for row in rows], self._source.client)
        except asyncio.CancelledError:
            handed_back = Settlement(status="ready", outcome="handed_back", counts=False)
            await asyncio.shield(self._store.settle_acknowledgements([(row, handed_back) for row in rows]))
            raise
        except (GatewayError, TimeoutError) as error:
            problem = error
            if isinstance(error, PluginError):
                log.error("plugin.failed", exc_info=error, extra={"source": self._source.name})
        duration_ms = round((perf_counter() - began) * 1000)
        ends = [(row, self._settlement(row, row.id in confirmed, problem)) for row in rows]
        ends = [(row, replace(end, started_at_ms=began_ms, duration_ms=duration_ms)) for row, end in ends]
        await retry_commit(self._clock, lambda: self._store.settle_acknowledgements(ends))
        self._report(ends, duration_ms)
        return True

    def _settlement(self, row: AckRow, confirmed: bool, problem: BaseException | None) -> Settlement:
        if confirmed:
            return Settlement(status="done", outcome="acknowledged")
        reason = str(problem) if problem is not None else "the vendor did not confirm it"
        age_s = (now_for_ages(self._store) - row.first_attempt_at).total_seconds() if row.first_attempt_at else 0.0
        passing = problem is None or isinstance(problem, (TransientError, AuthError, TimeoutError))
        if not passing or is_over(age_s, _MAX_AGE_S):
            return Settlement(status="dead", outcome="dead", reason=reason)
        asked_s = capped_retry_after_s(getattr(problem, "retry_after_s", None), _CAP_S)
        return Settlement(
            status="ready",
            outcome="retry",
            reason=reason,
            due_in_s=max(asked_s, backoff_s(row.attempts, base_s=_BASE_S, cap_s=_CAP_S)),
            counts=not isinstance(problem, RateLimited),
        )

    def _report(self, ends: Sequence[tuple[AckRow, Settlement]], duration_ms: int) -> None:
        counts = Counter(end.outcome for _, end in ends)
        for outcome, count in counts.items():
            self._metrics.acknowledged.labels(self._source.name, outcome).inc(count)
        level = logging.WARNING if "dead" in counts else logging.INFO
        log.log(
            level,
            "acknowledge.attempted",
            extra={"source": self._source.name, "stage": ends[0][0].stage, **counts, "duration_s": duration_ms / 1000},
        )


def _receipt(row: AckRow) -> Receipt:
    return Receipt(id=row.id, reference=row.reference, order_ref=row.order_ref, stage=row.stage)
