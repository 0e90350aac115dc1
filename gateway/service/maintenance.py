"""What a running gateway does by itself once a second: the watchdog, the clock, the disk, the checkpoint; less often: changed secrets,
old bodies."""

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
from gateway.service.retention import Housekeeping
from gateway.service.runtime import Runtime
from gateway.store.base import Store
from gateway.store.sqlite.connection import WAL_LIMIT_BYTES

log = logging.getLogger("gateway")

_SECRETS_EVERY_S = 2.0
_PROVE_EVERY_S = 5.0
_JUMP_S = 5.0


class Upkeep:
    """One gateway's; `run()` as its own task.

    Args:
        runtime: The one of now, since a reload exchanges it.
    """

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, runtime: Callable[[], Runtime]) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._runtime = runtime
        self._house = Housekeeping(store, clock, lambda: runtime().assembly.config.store)
        self._jumped_ms, self._jumped = 0, False

    async def run(self) -> None:
        """Go round once a second, until cancelled. Raises StoreFailed."""
        next_secrets = next_proof = 0.0
        wall, steady = self._clock.now(), self._clock.monotonic()
        while True:
            await self._clock.sleep(1.0)
            now = self._clock.monotonic()
            self._metrics.loop_lag.set(max(0.0, now - steady - 1.0))
            await self._mind_the_clock((self._clock.now() - wall).total_seconds() - (now - steady))
            wall, steady = self._clock.now(), now
            if now >= next_proof:
                await self._prove()
                next_proof = now + _PROVE_EVERY_S
            if self._store.silent_for_s() < 2 * _PROVE_EVERY_S:
                systemd.notify("WATCHDOG=1")
            await asyncio.to_thread(self._store.look_at_disk)
            for task in (self._note_time, self._write_back, self._store.note_last_messages, self._house.turn):
                with suppress(StoreBusy):  # it is done a second later; a full disk has no room, and what is stored goes on leaving
                    await task()
            if now >= next_secrets:
                await self._reread_files()
                next_secrets = now + _SECRETS_EVERY_S

    async def _note_time(self) -> None:
        try:
            await self._store.note_time()
        finally:
            self._metrics.health.clock_doubt = self._store.clock_doubt()

    async def _write_back(self) -> None:
        self._mind_the_log(await self._store.checkpoint())

    def _mind_the_log(self, log_bytes: int) -> None:
        """A log that stays long has a reader that nothing of ours is: ours are short, and a copy gives up before that."""
        held = (
            f"it is {log_bytes // 2**20} MiB long; a program keeps the database open for reading, end it"
            if log_bytes > WAL_LIMIT_BYTES
            else None
        )
        if held and not self._metrics.health.log_not_emptied:
            log.warning("store.log_held", extra={"reason": held})
        self._metrics.health.log_not_emptied = held

    async def _prove(self) -> None:
        try:
            await self._store.commits()
        except StoreFailed:
            raise
        except StoreError as error:
            log.warning("store.not_proven", extra={"reason": str(error)})

    async def _mind_the_clock(self, jump_s: float) -> None:
        """What is due moves with a jump; where the store is busy, a second later."""
        if abs(jump_s) >= _JUMP_S:
            log.warning("clock.jumped", extra={"by_s": round(jump_s, 1)})
            self._jumped_ms += round(jump_s * 1000)
            self._jumped = True
        with suppress(StoreBusy):
            await self._follow_the_clock()

    async def _follow_the_clock(self) -> None:
        if self._jumped_ms:
            await self._store.shift_due(self._jumped_ms, 24 * 3600 * 1000)
            self._jumped_ms = 0
        if self._jumped:
            await self._runtime().clock_jumped()
            self._jumped = False

    async def _reread_files(self) -> None:
        parts = self._runtime().assembly.file_backed
        changed = await asyncio.to_thread(lambda: [part for part in parts if part.refresh()])
        for problem in filter(None, (part.complaint() for part in parts)):
            log.warning("config.file_refused", extra={"problem": problem, "advice": "the text from before is still in use"})
        if changed:
            log.info("config.file_changed", extra={"files": ", ".join(part.origin for part in changed)})
        if any(isinstance(part, Secret) for part in changed):  # a new list or mapping is no reason to try a refused password again
            self._runtime().secrets_changed()
