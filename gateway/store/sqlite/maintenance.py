"""Upkeep of the file: restart, clock jumps, checkpoints, room on the disk."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from gateway.api.errors import StoreBusy
from gateway.store.row_names import Queue
from gateway.store.sqlite.core import Core
from gateway.store.sqlite.queues import ACTIVE, QUEUES, WORKER_OF
from gateway.store.sqlite.retention import redact
from gateway.store.sqlite.writer import Connection

log = logging.getLogger("gateway.store")

_LOW_SHARE = 0.05
_PAGE_BYTES = 4096
_LOW_BYTES = 1024**3
_NOTICED_WITHIN_MS = 60_000
_NEVER_SET_MS = 1_577_836_800_000  # a clock that shows less than 2020


class Reserve:
    """File that occupies space, so that stored orders can still leave when the disk is full (reliability.md, Store)."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size = size_bytes

    def hold(self) -> bool:
        """Occupy the space if the disk has room for it; True if it is held, or none was asked for."""
        if not self._size:
            return True
        try:
            if self._path.exists() and self._path.stat().st_size >= self._size:
                return True
            if shutil.disk_usage(self._path.parent).free < 2 * self._size:
                return False
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        return True

    def free(self) -> bool:
        """Delete the file; True if there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def room_bytes(folder: Path) -> int:
    """Return the free bytes of the disk above the limit for new orders: 5 % or 1 GiB, whichever is less."""
    usage = shutil.disk_usage(folder)
    return int(usage.free - min(usage.total * _LOW_SHARE, _LOW_BYTES))


def room_is_low(folder: Path) -> bool:
    """Return whether new orders must be refused."""
    return room_bytes(folder) < 0


# A request that was recorded is in doubt from now on; if its worker records none, the lease says that it may have been sent.
_SENT = """,
    status = CASE WHEN request_started = 1 OR in_doubt_since_ms IS NOT NULL THEN 'unknown' ELSE 'ready' END, due_at_ms = ?1,
    in_doubt_since_ms = CASE WHEN request_started = 1 THEN {since} ELSE in_doubt_since_ms END, request_started = NULL"""
# A row that was leased when the process ended, three times by now, may be the cause: a plugin blocks the event loop or eats the memory
# over it. It is due within 4 s and leased alone, so that all other rows get through and none of them is blamed for the next end; after
# ten such ends it is due later and later. (What a kill found leased goes out within 5 s of ready: CONTRACT section 5.)
_SUSPECTED = """,
    status = 'ready',
    reason = CASE WHEN attempts < 3 THEN reason ELSE 'the process ended while this was prepared, and it was not the first time' END,
    due_at_ms = ?1 + CASE WHEN attempts < 3 THEN 0 WHEN attempts < 10 THEN 2000 + abs(random() % 2000)
                          ELSE min(900000, 5000 << min(attempts - 10, 8)) * (500 + abs(random() % 500)) / 1000 END"""
_RELEASED: dict[Queue, str] = {
    "inbox": _SUSPECTED,
    "outbox": _SENT.format(since="?1") + ", maybe_delivered = maybe_delivered OR coalesce(request_started, 1)",
    "acknowledgements": ", status = 'ready', due_at_ms = ?1",
    "submit": _SENT.format(since="coalesce(in_doubt_since_ms, ?1)") + ", maybe_delivered = maybe_delivered OR request_started = 1",
}


# Rows of what is open, by a range of the index for each name in it. The names are found one by one: between two of them there may be
# a million rows that wait, and a start reads none of those.
_NAMES = f"""
    WITH RECURSIVE names (name) AS (
        SELECT min({{name}}) FROM {{queue}} INDEXED BY {{queue}}_active WHERE {ACTIVE}
        UNION ALL
        SELECT (SELECT min({{name}}) FROM {{queue}} INDEXED BY {{queue}}_active WHERE {ACTIVE} AND {{name}} > names.name)
        FROM names WHERE names.name IS NOT NULL)"""
_OPEN = f"""{_NAMES}
    SELECT {{queue}}.id FROM names CROSS JOIN {{queue}} INDEXED BY {{queue}}_active ON {{name}} = names.name
    WHERE {ACTIVE} AND {{which}}"""


def open_rows(queue: Queue, which: str) -> str:
    """Return the statement that finds the ids of what is under way."""
    return _OPEN.format(queue=queue, name=WORKER_OF[queue], which=which)


def open_names(queue: Queue) -> str:
    """Return the statement that finds the source or target of everything that is under way, each once, and a NULL at the end."""
    return f"{_NAMES} SELECT name FROM names".format(queue=queue, name=WORKER_OF[queue])


def release_all_leases(db: Connection, now_ms: int) -> None:
    """Release what the last process had leased; what was being sent may have been delivered."""
    for queue in QUEUES:
        leased = open_rows(queue, "due_at_ms IS NULL AND status = 'leased'")  # a leased row has no due time: the table's CHECK
        db.execute(f"UPDATE {queue} SET lease = NULL{_RELEASED[queue]} WHERE id IN ({leased})", (now_ms,))


# The row may be the cause: it is due later and later, up to a quarter of an hour.
_LATER = "?1 + min(900000, 5000 << min(attempts, 8))"


def release_leases(db: Connection, queue: Queue, name: str, reason: str, now_ms: int, ids: Sequence[int] | None) -> int:
    """Release leased rows of one source or target whose attempt ended without a settlement, and return how many."""
    back = _RELEASED[queue] if queue != "inbox" else ", status = 'ready', due_at_ms = ?1"
    which = "" if ids is None else " AND id IN (SELECT value FROM json_each(?3))"
    given = db.execute(
        f"UPDATE {queue} SET lease = NULL{back.replace('due_at_ms = ?1', f'due_at_ms = {_LATER}')}, reason = ?2 "
        f"WHERE {WORKER_OF[queue]} = ?4 AND {ACTIVE} AND due_at_ms IS NULL AND status = 'leased'{which}",
        (now_ms, reason, None if ids is None else json.dumps(ids), name),
    )
    return int(given.rowcount)


def shift(db: Connection, now_ms: int, delta_ms: int, longest_ms: int) -> None:
    """Move what is due later by a jump of the wall clock; nothing is due further away than `longest_ms`.

    A jump is noticed a moment later, and what was written meanwhile goes by the new clock already. After a jump ahead that is
    left alone, or it would wait for as long as the jump was; after a jump back it is due early, which does no harm.
    """
    noticed_ms = now_ms - _NOTICED_WITHIN_MS
    # At a start no jump is known: of a million rows that wait, only those that are due too late are read.
    beyond_ms = now_ms - max(delta_ms, 0) if delta_ms else now_ms + longest_ms
    for table in QUEUES:
        db.execute(
            f"UPDATE {table} SET due_at_ms = min(due_at_ms + CASE WHEN ?1 < 0 OR due_at_ms <= ?2 THEN ?1 ELSE 0 END, ?3) "
            f"WHERE id IN ({open_rows(table, 'due_at_ms > ?4')})",
            (delta_ms, noticed_ms, now_ms + longest_ms, beyond_ms),
        )
    if now_ms > _NEVER_SET_MS:  # a first start that is still to come was noted by a clock that was wrong; polls ask for nothing older
        db.execute(
            "UPDATE sources SET first_started_ms = min(first_started_ms + ?1, ?2) WHERE first_started_ms > ?2", (min(delta_ms, 0), now_ms)
        )
    shift_ages(db, now_ms, delta_ms)


def shift_ages(db: Connection, now_ms: int, delta_ms: int) -> None:
    """Move first attempts and doubts with a jump of the clock, so that ages stay true."""
    noticed_ms = now_ms - _NOTICED_WITHIN_MS
    for table in ("outbox", "acknowledgements", "submit") if delta_ms else ():
        db.execute(
            f"UPDATE {table} SET first_attempt_ms = min(first_attempt_ms + ?1, ?2) "
            f"WHERE {ACTIVE} AND CASE WHEN ?1 > 0 THEN first_attempt_ms <= ?3 ELSE first_attempt_ms > ?2 END",
            (delta_ms, now_ms, noticed_ms),
        )
    for table in ("outbox", "submit") if delta_ms else ():
        db.execute(
            f"UPDATE {table} SET in_doubt_since_ms = in_doubt_since_ms + ?1 WHERE {ACTIVE} AND (?1 < 0 OR in_doubt_since_ms <= ?2)",
            (delta_ms, noticed_ms),
        )


class Maintenance(Core):
    """Part of `SqliteStore`; `gateway.store.base.Store` describes the methods."""

    _folder: Path
    _reserve: Reserve
    _LONGEST_MS: ClassVar[int] = 24 * 3600 * 1000

    async def shift_due(self, delta_ms: int, longest_ms: int) -> None:
        now_ms = self._clock.now_ms()
        await self._run(lambda db: shift(db, now_ms, delta_ms, longest_ms))
        self._wake_all()

    async def release_leases(self, queue: Queue, name: str, reason: str, ids: Sequence[int] | None = None) -> int:
        now_ms = self._clock.now_ms()
        released = await self._run(lambda db: release_leases(db, queue, name, reason, now_ms, ids))
        self._wake(queue, name)
        return released

    async def release_all_leases(self) -> None:
        now_ms = self._clock.now_ms()
        await self._run(lambda db: release_all_leases(db, now_ms))
        self._wake_all()

    async def next_due_s(self, queue: Queue, name: str) -> float | None:
        waiting = f"{WORKER_OF[queue]} = ? AND {ACTIVE} AND due_at_ms IS NOT NULL"
        sql = f"SELECT due_at_ms FROM {queue} WHERE {waiting} ORDER BY due_at_ms LIMIT 1"
        found = await self._first(sql, (name,))
        return None if found is None else (found[0] - self._clock.now_ms()) / 1000

    async def note_last_messages(self) -> None:
        if self._last_message_ms:
            heard = [(at_ms, source) for source, at_ms in self._last_message_ms.items()]
            self._last_message_ms = {}
            try:
                await self._run(lambda db: db.executemany("UPDATE sources SET last_message_ms = ? WHERE name = ?", heard))
            except StoreBusy:
                self._last_message_ms = {source: at_ms for at_ms, source in heard} | self._last_message_ms
                raise

    async def checkpoint(self, *, truncate: bool = False) -> int:
        _busy, pages, moved = await self.run_outside_transaction(lambda db: _checkpoint(db, truncate)) or (0, 0, 0)
        return int(pages) * _PAGE_BYTES if moved < pages else 0

    def look_at_disk(self) -> None:
        low = room_is_low(self._folder)
        if low and not self.refusing:
            log.warning("store.refusing", extra={"reason": "the disk is nearly full"})
            self.refusing = "the disk is nearly full"
        elif not low and self.refusing and self._reserve.hold():
            log.info("store.accepting")
            self.refusing = None

    def _make_room(self, db: Connection) -> bool:
        self.refusing = "the disk is full"
        if not self._reserve.free():
            return False
        log.warning("store.reserve_used", extra={"reason": "the disk is full; new orders are refused until there is room"})
        _checkpoint(db, True)
        db.execute("BEGIN IMMEDIATE")
        redact(db, self._clock.now_ms(), 1000)
        db.execute("COMMIT")
        return True


def _checkpoint(db: Connection, truncate: bool) -> Sequence[int]:
    found = db.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})").fetchone()
    return tuple(found or ())
