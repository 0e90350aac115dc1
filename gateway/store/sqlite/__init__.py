"""SQLite store: one file, one writing thread, shared commits (reliability.md, Store)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from gateway.api.errors import StoreBusy, StoreError, StoreFailed
from gateway.clock import Clock
from gateway.store.sqlite import file_exchange, new_store
from gateway.store.sqlite.connection import Connect, DirectoryLock, is_full, not_writable, open_database, sqlite3_connect
from gateway.store.sqlite.decisions import Decisions
from gateway.store.sqlite.event_outcome import EventOutcomes
from gateway.store.sqlite.inbox import Inbox
from gateway.store.sqlite.maintenance import Maintenance, Reserve, release_all_leases, room_is_low, shift, shift_ages
from gateway.store.sqlite.outbox import Outbox
from gateway.store.sqlite.retention import Retention
from gateway.store.sqlite.submissions import Submissions
from gateway.store.sqlite.targets import Targets
from gateway.store.sqlite.trusted_time import TrustedTime
from gateway.store.sqlite.writer import Connection, Writer

log = logging.getLogger("gateway.store")

_PATIENCE_S = 3.0
_LOOK_S = 0.2


class SqliteStore(Inbox, Outbox, Submissions, Decisions, EventOutcomes, Retention, Targets, TrustedTime, Maintenance):
    """`gateway.store.base.Store` on one SQLite file.

    Args:
        path: The database file; its folder is the data directory.
        reserve_bytes: Space kept aside for a full disk; 0 for none.
        on_failed: Called once on the event loop when the file can no longer be trusted: the process should end.
        on_commit: Told the seconds of every commit.
        connect: Another SQLite (the simulated power cut of the tests).
        on_disk: False if `connect` keeps the file elsewhere, so that it cannot be checked for.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        reserve_bytes: int = 0,
        on_failed: Callable[[StoreFailed], None] = lambda _: None,
        on_commit: Callable[[float], None] = lambda _: None,
        connect: Connect = sqlite3_connect,
        on_disk: bool = True,
    ) -> None:
        super().__init__()
        self._path = path
        self._folder = path.parent
        self._clock = clock
        self._connect = connect
        self._on_disk = on_disk
        self._waits = False
        self._reserve = Reserve(path.parent / "gateway.reserve", reserve_bytes)
        self._lock = DirectoryLock(path.parent)
        self._writer = Writer(
            self._open, committed=self._lock.check_file_system, on_full=self._make_room, on_failed=on_failed, on_commit=on_commit
        )

    async def open(self, *, new: bool = False, waits: bool = False) -> None:
        """Lock the directory, open the file, and release what the last process had leased.

        Args:
            waits: Wait for a program that writes to the file, however long, and a moment for one that has the directory.
            new: Begin with nothing although the directory was in use; what is left of the old database is moved aside.
        Raises:
            ConfigError: The directory cannot be written, or was in use and its database is lost.
            StoreBusy: Another process has it.
            StoreFailed: The file cannot be used; the text says why and what to do.
        """
        if self._on_disk:
            new_store.begin(self._path)
        self._waits = waits
        await self._take_directory()
        try:
            if self._on_disk:
                self._check_database(new)
            await self._writer.start()
            if self._on_disk:
                new_store.begun(self._path)
        except BaseException:
            await self._writer.close()  # if it is cancelled, the thread may be in the middle of a migration
            self._lock.release()
            raise
        if not self._reserve.hold() or room_is_low(self._folder):
            self.refusing = "the disk is nearly full"

    async def _take_directory(self) -> None:
        """Take the lock; a command that has it is done in a moment."""
        patience_s = _PATIENCE_S if self._waits else 0.0
        while not self._lock.acquire():
            if patience_s <= 0:
                raise StoreBusy(f"{self._folder}: another gateway process has this data directory")
            patience_s -= _LOOK_S
            await asyncio.sleep(_LOOK_S)

    def _check_database(self, new: bool) -> None:
        """Check that the database is there, or may be missing."""
        try:
            aside = file_exchange.finish(self._path)
        except OSError as error:
            raise not_writable(self._folder, error) from error
        if aside is not None:
            log.warning("store.restore_finished", extra={"reason": "`gateway restore` was cut short", "aside": str(aside)})
        if new:
            for moved in new_store.set_aside(self._path, self._clock.now_ms()):
                log.warning("store.set_aside", extra={"file": str(moved)})
        new_store.refuse_if_lost(self._path)

    async def close(self) -> None:
        """Commit what waits, empty the write-ahead log into the file, and release the lock."""
        try:
            if not self._writer.closed:
                await self.note_last_messages()
                await self.note_time(at_once=True)
                await self.checkpoint(truncate=True)
        except StoreError:
            pass
        await self._writer.close()
        self._lock.release()

    def silent_for_s(self) -> float:
        return time.monotonic() - self._writer.answered_at

    async def commits(self) -> None:
        await self._run(lambda db: db.execute("UPDATE sources SET name = name WHERE name = ''"))

    def _open(self) -> Connection:
        while True:
            try:
                return self._open_once()
            except StoreBusy as error:
                if not self._waits or self._writer.closed:
                    raise
                log.warning("store.waited_for", extra={"reason": str(error)})
                time.sleep(_LOOK_S)

    def _open_once(self) -> Connection:
        try:
            return open_database(self._path, self._connect, self._resume, may_begin=self._may_begin())
        except StoreFailed as error:
            if not (is_full(error.__cause__) and self._reserve.free()):
                raise
        log.warning("store.reserve_used", extra={"reason": "the disk is full; what is stored can still leave"})
        return open_database(self._path, self._connect, self._resume, may_begin=self._may_begin())

    def _may_begin(self) -> bool:
        return not self._on_disk or new_store.is_beginning(self._path)

    def _resume(self, db: Connection) -> None:
        now_ms = self._clock.now_ms()
        release_all_leases(db, now_ms)
        jump_ms = self._resume_time(db)
        shift(db, now_ms, min(jump_ms, 0), self._LONGEST_MS)
        shift_ages(db, now_ms, max(jump_ms, 0))  # what is overdue goes now
        self._restored_ms = db.execute("SELECT max(restored_at_ms) FROM restores WHERE finished_at_ms IS NULL").fetchone()[0]
