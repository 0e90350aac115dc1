"""A disk whose power can be cut, under a second SQLite (apsw), for the store as it is.

A write is not safe before a sync of its file. At a cut a random half of the unsafe writes lands, in any order, some torn
at a sector; the rest is gone. A sync can fail too: then a part of what it was to make safe is not, and never will be unless it is written
again, while programs go on seeing it; that is what kernels do. Everything is decided by one seed.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512
NEVER = 10**9
Op = tuple[str, int, bytes | None]


class Disk:
    """Files in memory: as programs see them (`now`), and as a power cut would leave them (`safe`)."""

    def __init__(self, seed: int, *, cut_after: tuple[int, int]) -> None:
        self.random = random.Random(seed)
        self.now: dict[str, bytearray] = {}
        self.safe: dict[str, bytearray] = {}
        self.unsafe: list[Op] = []
        self.left = self.random.randrange(*cut_after)
        self.is_off = False
        self.renews = True
        self.sync_fails_in = NEVER
        self.failing_syncs = 0
        self.failed_syncs = 0

    def operation(self) -> None:
        """One write, truncate, sync or delete; from the cut on, all fail."""
        self.left -= 1
        self.is_off = self.is_off or self.left < 0
        if self.is_off:
            raise apsw.IOError("the power is off")

    def break_syncs(self) -> None:
        """Some sync will fail soon, and a few after it."""
        self.sync_fails_in = self.random.randrange(1, 60)
        self.failing_syncs = self.random.randrange(1, 8)

    def sync(self, name: str) -> None:
        """Make a file's writes safe; or fail, forget the half of them, and call all of them done."""
        mine = [op for op in self.unsafe if op[0] == name]
        self.unsafe = [op for op in self.unsafe if op[0] != name]
        self.sync_fails_in -= 1
        if self.sync_fails_in < 0:
            self.failing_syncs -= 1
            self.sync_fails_in = 0 if self.failing_syncs > 0 else NEVER
            self.failed_syncs += 1
            self.land([op for op in mine if self.random.random() < 0.5])
            raise apsw.IOError("the sync failed")
        self.land(mine)

    def renew(self, name: str) -> None:
        """Write a whole file once more and sync it, as the store does with its log before it opens it."""
        if self.renews and name in self.now:
            self.operation()
            self.unsafe.append((name, 0, bytes(self.now[name])))
            self.operation()
            self.sync(name)

    def land(self, operations: Sequence[Op]) -> None:
        for name, offset, data in operations:
            file = self.safe.setdefault(name, bytearray())
            if data is None:
                del file[offset:]
            else:
                file.extend(b"\0" * (offset - len(file)))
                file[offset : offset + len(data)] = data

    def power_on(self, *, left: int = NEVER) -> None:
        """What is left after the cut is all there is from now on; the power stays, or goes again after `left` operations."""
        kept: list[Op] = []
        for name, offset, data in self.unsafe:
            if self.random.random() < 0.5:
                torn = data is not None and len(data) > SECTOR and self.random.random() < 0.3
                kept.append((name, offset, data[: self.random.randrange(0, len(data), SECTOR)] if torn and data else data))
        self.random.shuffle(kept)
        self.land(kept)
        self.unsafe.clear()
        self.now = {name: bytearray(data) for name, data in self.safe.items()}
        self.is_off, self.left = False, left


class _File:
    def __init__(self, disk: Disk, name: str) -> None:
        self.disk, self.name = disk, name
        disk.now.setdefault(name, bytearray())
        disk.safe.setdefault(name, bytearray())

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.disk.now[self.name][offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.operation()
        file = self.disk.now[self.name]
        file.extend(b"\0" * (offset - len(file)))
        file[offset : offset + len(data)] = data
        self.disk.unsafe.append((self.name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        self.disk.operation()
        del self.disk.now[self.name][size:]
        self.disk.unsafe.append((self.name, size, None))

    def xSync(self, flags: int) -> None:
        self.disk.operation()
        self.disk.sync(self.name)

    def xFileSize(self) -> int:
        return len(self.disk.now[self.name])

    def xClose(self) -> None: ...
    def xLock(self, level: int) -> None: ...
    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, operation: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return 0


class _VFS(apsw.VFS):
    disk: Disk

    def __init__(self) -> None:
        super().__init__("power-cut", "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self.disk, str(name.filename() if isinstance(name, apsw.URIFilename) else name))

    def xDelete(self, name: str, sync_folder: bool) -> None:
        self.disk.operation()
        self.disk.now.pop(name, None)
        self.disk.safe.pop(name, None)

    def xAccess(self, name: str, flags: int) -> bool:
        return name in self.disk.now

    def xFullPathname(self, name: str) -> str:
        return name


_vfs = _VFS()


class _Cursor:
    """As much of `sqlite3.Cursor` as the store uses."""

    def __init__(self, cursor: apsw.Cursor, rowcount: int) -> None:
        self._cursor = cursor
        self.rowcount = rowcount

    def fetchone(self) -> Any:
        return _translated(self._cursor.fetchone)

    def fetchall(self) -> list[Any]:
        return list(_translated(self._cursor.fetchall))


class SimulatedConnection:
    """The store's connection on a `Disk`, raising what `sqlite3` would raise."""

    def __init__(self, disk: Disk) -> None:
        _vfs.disk = disk
        _translated(disk.renew, "gateway.db-wal")
        self._db = _translated(apsw.Connection, "gateway.db", vfs="power-cut")
        self.execute("PRAGMA locking_mode=exclusive")

    @property
    def in_transaction(self) -> bool:
        return bool(self._db.in_transaction)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        cursor = _translated(self._db.execute, sql, parameters)
        return _Cursor(cursor, self._db.changes())

    def executemany(self, sql: str, parameters: Any) -> None:
        _translated(self._db.executemany, sql, parameters)

    def close(self) -> None:
        try:
            self._db.close()
        except apsw.Error:
            pass  # the power is off


def _translated(call: Any, *arguments: Any, **named: Any) -> Any:
    try:
        return call(*arguments, **named)
    except apsw.Error as error:
        translated = sqlite3.OperationalError(str(error))
        translated.sqlite_errorname = f"SQLITE_{type(error).__name__.removesuffix('Error').upper()}"
        if isinstance(error, apsw.IOError):
            translated.sqlite_errorname = "SQLITE_IOERR"
        raise translated from error


def connect_to(disk: Disk) -> Any:
    """The `connect` of a store on this disk."""
    return lambda path: SimulatedConnection(disk)


WHERE = Path("gateway.db")
