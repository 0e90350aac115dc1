"""Poll door: ask a vendor on a schedule, one call at a time, and move the cursor only with the commit.

A round ends when the vendor has nothing more. An endless round is cut: the door is down, gives the reason, and the next round
continues from there. A `Retry-After` counts up to the larger of an hour and three of the source's own pauses; a long wait takes
the door down as well, with the time of the next call.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta
from time import perf_counter

from gateway.api.errors import AuthError, GatewayError, PluginError, RateLimited, StoreBusy, StoreFailed, TransientError
from gateway.api.messages import OpenOrder, Page, Unreadable
from gateway.api.order import read_order
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.plugin.incoming import incoming, warn_of_flagged
from gateway.plugin.source import Source
from gateway.retry import backoff_s, capped_retry_after_s
from gateway.store.base import Store

log = logging.getLogger("gateway.poll")

CALL_TIMEOUT_S = 300.0
_AUTH_PAUSE_S = 900.0
_OPEN_AT_ONCE = 50
_MOST_EMPTY_PAGES, _MOST_STALE_PAGES = 100, 10_000
_LONGEST_ROUND_S = 3600.0
_AFTER_ENDLESS_S = 60.0
_SHORT_WAIT_S = 60.0
_MOST_THROTTLED = 3


class _Endless(TransientError):
    """Round that does not end; its pages so far are stored, and the cursor is kept."""


class Poller:
    """Poller of one source; `run()` is its task."""

    def __init__(self, source: Source, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._failures = 0
        self._throttled = 0
        self._wakeup = asyncio.Event()
        self._polling = False
        self._succeeded = False
        self._quiet_until = 0.0
        self._resyncs: list[asyncio.Future[None]] = []

    async def resync(self) -> None:
        """Poll now, and return when a whole round that began after this call has succeeded.

        After a rate limit or a refused sign-in, the wait is kept.
        """
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resyncs.append(asked)
        if not self._polling and self._clock.monotonic() >= self._quiet_until:
            self._wakeup.set()
        try:
            await asked
        finally:
            if asked in self._resyncs:
                self._resyncs.remove(asked)

    def resume(self) -> None:
        """Poll now: the credentials changed, or an operator asks for it."""
        self._failures = self._throttled = 0
        self._wakeup.set()

    async def run(self) -> None:
        """Poll until cancelled; a cancelled call leaves the cursor where the last commit put it."""
        self._metrics.health.set_door(self._source.name, "poll", "up")
        while True:
            wait_s = await self._round_for_resyncs()
            if self._succeeded and self._resyncs:  # during the round
                continue
            try:
                async with asyncio.timeout(wait_s):
                    await self._wakeup.wait()
            except TimeoutError:
                pass
            self._wakeup.clear()

    async def _round_for_resyncs(self) -> float:
        resyncs, self._resyncs, self._polling = self._resyncs, [], True
        wait_s = await self.round()
        self._polling = False
        if not self._succeeded:
            self._resyncs = [one for one in resyncs if not one.done()] + self._resyncs
            return wait_s
        for one in resyncs:
            if not one.done():
                one.set_result(None)
        return wait_s

    async def round(self) -> float:
        """Poll until there is nothing more; return the seconds to wait before the next round."""
        interval_s = self._source.connector.poll_interval_s()
        self._succeeded = False
        try:
            await self._sweep()
        except StoreFailed:
            raise
        except AuthError as error:
            return self._quiet(self._down(error, max(interval_s, _AUTH_PAUSE_S)))
        except RateLimited as error:
            return self._throttle(error, interval_s)
        except StoreBusy as error:
            return self._quiet(error.retry_after_s)
        except _Endless as error:
            return self._quiet(self._down(error, max(interval_s, _AFTER_ENDLESS_S)))
        except Exception as error:
            if not isinstance(error, (GatewayError, TimeoutError)):
                log.error("poll.failed", exc_info=error, extra={"source": self._source.name})
            asked_s = capped_retry_after_s(error.retry_after_s, interval_s) if isinstance(error, TransientError) else 0.0
            self._failures += 1
            self._quiet(asked_s)
            return self._down(error, max(asked_s, backoff_s(self._failures, base_s=min(5.0, interval_s), cap_s=interval_s)))
        self._failures, self._throttled, self._succeeded, self._quiet_until = 0, 0, True, 0.0
        self._metrics.health.set_door(self._source.name, "poll", "up")
        return interval_s * random.uniform(0.95, 1.05)  # noqa: S311 - spreads load, guards nothing

    def _throttle(self, error: RateLimited, interval_s: float) -> float:
        """Wait as asked. The door is down if the wait is long, or if several follow each other."""
        self._throttled += 1
        wait_s = max(capped_retry_after_s(error.retry_after_s, interval_s) or _SHORT_WAIT_S, 1.0)
        if wait_s > max(interval_s, _SHORT_WAIT_S) or self._throttled >= _MOST_THROTTLED:
            self._down(error, wait_s)
        return self._quiet(wait_s)

    def _quiet(self, wait_s: float) -> float:
        """Allow only an operator to poll before the wait is over."""
        self._quiet_until = self._clock.monotonic() + wait_s
        return wait_s

    async def _sweep(self) -> None:
        cursor = await self._store.cursor(self._source.name, "poll")
        if self._source.connector.takes("poll", "open_orders"):
            await self._poll_open_orders(cursor)
            return
        more, pages, empty, stale, began = True, 0, 0, 0, self._clock.monotonic()
        while more:
            page, outcomes = await self._page(cursor)
            following = cursor if page.cursor is None else page.cursor
            if page.more and following == cursor and not outcomes["stored"]:
                raise TransientError("the connector asks for more, but the cursor has not changed and there was nothing new")
            cursor, more, pages = following, page.more, pages + 1
            empty = 0 if page.events else empty + 1
            stale = 0 if outcomes["stored"] else stale + 1
            took_s = self._clock.monotonic() - began
            if more and (empty >= _MOST_EMPTY_PAGES or stale >= _MOST_STALE_PAGES or took_s >= _LONGEST_ROUND_S):
                what = (
                    f"{empty} pages in a row without an order" if empty >= _MOST_EMPTY_PAGES else f"{pages} pages in {took_s / 60:.0f} min"
                )
                raise _Endless(f"the connector asks for more without an end: {what}; the next round continues from there")

    async def _poll_open_orders(self, cursor: str | None) -> None:
        """Poll the open orders in batches; an order added meanwhile comes in the next round."""
        after = 0
        while found := await self._store.open_orders(self._source.name, after, _OPEN_AT_ONCE):
            page, _ = await self._page(cursor, [OpenOrder(order_ref=one.order_ref, order=read_order(one.message)) for one in found])
            cursor, after = page.cursor or cursor, found[-1].id

    async def _page(self, cursor: str | None, open_orders: Sequence[OpenOrder] = ()) -> tuple[Page, dict[str, int]]:
        source, began = self._source, perf_counter()
        async with asyncio.timeout(CALL_TIMEOUT_S):
            page = await source.connector.poll(cursor, source.since, self._clock.now(), source.client, open_orders)
        outcomes = await self._commit(page)
        log.info("poll.page", extra={"source": source.name, **outcomes, "more": page.more, "duration_s": round(perf_counter() - began, 3)})
        return page, outcomes

    async def _commit(self, page: Page) -> dict[str, int]:
        source, events = self._source, page.events
        taken = incoming(events, source.stages, source.earlier_versions)
        accepted = await self._store.accept(source.name, "poll", taken, cursor=page.cursor)
        warn_of_flagged(source.name, taken, accepted)
        outcomes = {"stored": 0, "repeat": 0, "unreadable": 0}
        for event, one in zip(events, accepted, strict=True):
            unreadable = isinstance(event, Unreadable) and one.outcome == "stored"
            outcomes["unreadable" if unreadable else one.outcome] += 1
        for outcome, count in outcomes.items():
            if count:
                self._metrics.received.labels(source.name, "poll", outcome).inc(count)
        return outcomes

    def _down(self, error: Exception, wait_s: float) -> float:
        if isinstance(error, (GatewayError, TimeoutError)):
            reason = str(error) or "no answer in time"
        else:
            reason = f"{type(error).__name__} in the gateway itself; see its log"
        next_at = self._clock.now() + timedelta(seconds=wait_s)
        if isinstance(error, TransientError) and (error.retry_after_s or 0.0) > _SHORT_WAIT_S:
            reason += f"; asked again at {next_at:%Y-%m-%dT%H:%M:%SZ}, or after `gateway resume {self._source.name}`"
        self._metrics.health.set_door(self._source.name, "poll", "down", reason, next_at=next_at)
        if isinstance(error, PluginError):
            log.error("plugin.failed", exc_info=error, extra={"source": self._source.name})
        return wait_s
