"""Retention: delete old rows a slice at a time, so that the database stays as large as the settings say.

Bodies are erased once an hour. Attempts, delivered orders and keys are deleted once a day, or when room becomes short; then free pages
go back to the disk. A round that finds the store busy or full starts again after a minute, then after longer and longer. Near
`store.max_bytes` everything is kept for a shorter time, but at least a day. Rows that are not delivered, or that wait for a person,
always stay. Nothing is deleted while the wall clock is in doubt.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from gateway.api.errors import StoreBusy
from gateway.clock import Clock
from gateway.config.settings import StoreSettings
from gateway.store.base import Store

log = logging.getLogger("gateway.store")

_EVERY_S = 3600.0
_WALK_EVERY_S = 86400.0 - 60
_FIRST_WALK_S = 900.0
_AGAIN_S = 60.0
_SLICES = 10
_SLICE = 200
_WALK_SLICE = 500
_PAGES = 512
_NEAR, _ROOMY = 0.9, 0.7
_SHORTEST_DAYS = 1.0
_STEPS = 6


class RetentionJob:
    """Retention job of one store. `run_once()` is called every second and does some slices, since the watchdog waits for it."""

    def __init__(self, store: Store, clock: Clock, settings: Callable[[], StoreSettings]) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._next = 0.0
        self._next_walk = clock.monotonic() + _FIRST_WALK_S  # a start should not read the whole file
        self._round: AsyncIterator[None] | None = None
        self._shortened = 0
        self._in_vain = 0

    @property
    def busy(self) -> bool:
        """True while a round is under way."""
        return self._round is not None

    async def run_once(self) -> None:
        """Do some slices of the current round, or of the next one once it is due."""
        if self._store.retention_time() is None:
            self._round = None
            return
        if self._round is None:
            if self._clock.monotonic() < self._next:
                return
            self._round = self._slices()
        try:
            for _ in range(_SLICES):
                if await anext(self._round, _END) is _END:
                    self._in_vain = 0
                    self._rest(_EVERY_S)
                    return
        except StoreBusy as error:
            pause_s = min(_AGAIN_S * 2**self._in_vain, _EVERY_S)
            self._in_vain = min(self._in_vain + 1, _STEPS)
            self._rest(pause_s)
            log.warning("store.not_tidied", extra={"reason": str(error), "next_in_s": pause_s})

    def _rest(self, pause_s: float) -> None:
        self._round, self._next = None, self._clock.monotonic() + pause_s

    async def _slices(self) -> AsyncIterator[None]:
        store, settings = self._store, self._settings()
        await self._check_size(settings.max_bytes)
        now = self._store.retention_time()
        if now is None:
            return

        def before(days: float) -> timedelta:
            return timedelta(days=max(min(days, _SHORTEST_DAYS), days / 2**self._shortened))

        bodies, attempts = now - before(settings.keep_bodies_days), now - before(settings.keep_attempts_days)
        orders, keys = now - before(settings.keep_orders_days), now - timedelta(days=settings.keep_keys_days)
        while await store.redact_bodies(bodies, _SLICE):
            yield
        walks: tuple[Callable[[int], Awaitable[int | None]], ...] = (
            lambda after: store.delete_attempts(attempts, after, _WALK_SLICE),
            lambda after: store.prune_orders(orders, keys, after, _WALK_SLICE),
            lambda after: store.delete_events(keys, after, _WALK_SLICE),
            lambda after: store.delete_submissions(keys, after, _WALK_SLICE),  # after the orders that refer to them
        )
        if self._clock.monotonic() >= self._next_walk:
            for walk in walks:
                after: int | None = 0
                while after is not None:
                    after = await walk(after)
                    yield
            self._next_walk = self._clock.monotonic() + _WALK_EVERY_S
        while await store.return_free_pages(_PAGES):
            yield

    async def _check_size(self, max_bytes: int | None) -> None:
        """Halve the time that rows are kept near the size limit, and again an hour later, until there is room."""
        used = await self._store.used_bytes()
        if self._in_vain:  # the rows for which the time was shortened last are still there
            return
        if max_bytes is None or used < _ROOMY * max_bytes:
            self._shortened = max(0, self._shortened - 1)
        elif used >= _NEAR * max_bytes and self._shortened < _STEPS:
            self._shortened += 1
            self._next_walk = 0.0
            advice = f"delivered orders are kept for 1/{2**self._shortened} of their time, at least a day"
            log.warning("store.near_its_limit", extra={"used_bytes": used, "max_bytes": max_bytes, "advice": advice})


_END = object()
