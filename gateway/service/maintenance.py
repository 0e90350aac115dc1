"""Maintenance of a running gateway once a second: watchdog, clock jumps, disk, checkpoint, retention, and files that have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from gateway.api.errors import StoreBusy, StoreError, StoreFailed
from gateway.api.secrets import Secret
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.service import systemd
from gateway.service.retention import RetentionJob
from gateway.service.runtime import Runtime
from gateway.store.base import Store
from gateway.store.sqlite.connection import WAL_LIMIT_BYTES

log = logging.getLogger("gateway")

_FILES_EVERY_S = 2.0
_TEST_COMMIT_EVERY_S = 5.0
_JUMP_S = 5.0
_DAY_MS = 24 * 3600 * 1000


class Maintenance:
    """Maintenance loop; `run()` is a task of its own.

    Args:
        runtime: Returns the current runtime, which a reload replaces.
    """

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, runtime: Callable[[], Runtime]) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._runtime = runtime
        self._retention = RetentionJob(store, clock, lambda: runtime().assembly.config.store)
        self._jumped_ms, self._jumped = 0, False

    async def run(self) -> None:
        """Run once a second until cancelled. Raises StoreFailed."""
        next_files = next_commit = 0.0
        wall, steady = self._clock.now(), self._clock.monotonic()
        while True:
            await self._clock.sleep(1.0)
            now = self._clock.monotonic()
            self._metrics.loop_lag.set(max(0.0, now - steady - 1.0))
            await self._check_clock((self._clock.now() - wall).total_seconds() - (now - steady))
            wall, steady = self._clock.now(), now
            if now >= next_commit:
                await self._test_commit()
                next_commit = now + _TEST_COMMIT_EVERY_S
            if self._store.silent_for_s() < 2 * _TEST_COMMIT_EVERY_S:
                systemd.notify("WATCHDOG=1")
            await asyncio.to_thread(self._store.look_at_disk)
            for task in (self._note_time, self._checkpoint, self._store.note_last_messages, self._retention.run_once):
                with suppress(StoreBusy):  # tried again a second later; a full disk has no room, and stored orders are still delivered
                    await task()
            if now >= next_files:
                await self._reread_files()
                next_files = now + _FILES_EVERY_S

    async def _note_time(self) -> None:
        try:
            await self._store.note_time()
        finally:
            self._metrics.health.clock_doubt = self._store.clock_doubt()

    async def _checkpoint(self) -> None:
        """Warn where the log stays long: our own readers are short, and a backup gives up before that."""
        wal_bytes = await self._store.checkpoint()
        text = f"it is {wal_bytes // 2**20} MiB long: another program keeps the database open for reading; end that program"
        stuck = text if wal_bytes > WAL_LIMIT_BYTES else None
        if stuck and not self._metrics.health.wal_stuck:
            log.warning("store.wal_stuck", extra={"reason": stuck})
        self._metrics.health.wal_stuck = stuck

    async def _test_commit(self) -> None:
        try:
            await self._store.commits()
        except StoreFailed:
            raise
        except StoreError as error:
            log.warning("store.test_commit_failed", extra={"reason": str(error)})

    async def _check_clock(self, jump_s: float) -> None:
        """Move due times with a jump of the clock. A busy store is asked again a second later."""
        if abs(jump_s) >= _JUMP_S:
            log.warning("clock.jumped", extra={"by_s": round(jump_s, 1)})
            self._jumped_ms += round(jump_s * 1000)
            self._jumped = True
        with suppress(StoreBusy):
            if self._jumped_ms:
                await self._store.shift_due(self._jumped_ms, _DAY_MS)
                self._jumped_ms = 0
            if self._jumped:
                await self._runtime().clock_jumped()
                self._jumped = False

    async def _reread_files(self) -> None:
        parts = self._runtime().assembly.file_backed
        changed = await asyncio.to_thread(lambda: [part for part in parts if part.refresh()])
        for problem in filter(None, (part.complaint() for part in parts)):
            log.warning("config.file_refused", extra={"problem": problem, "advice": "the previous text is still in use"})
        if changed:
            log.info("config.file_changed", extra={"files": ", ".join(part.origin for part in changed)})
        if any(isinstance(part, Secret) for part in changed):  # a new list or mapping is no reason to try a refused password again
            self._runtime().secrets_changed()
