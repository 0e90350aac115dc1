"""Opening the database file: the lock, the settings, and migrations."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from gateway.api.errors import ConfigError, StoreBusy, StoreFailed
from gateway.store.sqlite.file_exchange import give_to_owner
from gateway.store.sqlite.writer import Connection

APPLICATION_ID = 0x4F524757  # "ORGW"
LOCK_FILE = "gateway.lock"
DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)  # no mistake of the configuration, and may pass
_GAVE_UP = (errno.EIO, errno.EROFS, errno.ESHUTDOWN)
_PIECE_BYTES = 1024 * 1024
WAL_LIMIT_BYTES = 64 * 1024 * 1024

_PRAGMAS: tuple[tuple[str, str, object], ...] = (
    ("busy_timeout", "5000", 5000),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("secure_delete", "ON", 1),
    ("wal_autocheckpoint", "0", 0),
    ("journal_size_limit", str(WAL_LIMIT_BYTES), WAL_LIMIT_BYTES),
    ("temp_store", "MEMORY", 2),
    ("mmap_size", "0", 0),
    ("cache_size", "-16000", -16000),  # KiB: the inner pages of the indexes of ten million orders, a megabyte for each million and index
)

Connect = Callable[[Path], Connection]


def not_writable(folder: Path, error: OSError) -> ConfigError | StoreFailed:
    """Translate an error of a data directory: a disk may come back by itself, an owner does not change."""
    said = f"{folder}: cannot be written: {error.strerror}; "
    if error.errno in DISK_ERRORS:
        return StoreFailed(f"{said}look at the disk, and whether it is mounted read-only")
    return ConfigError([f"{said}check gateway.data_dir and its owner"])


class DirectoryLock:
    """Exclusive lock on a data directory: one process writes."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another process has it.

        Raises:
            ConfigError: The directory is missing or not ours to write.
            StoreFailed: The disk does not let us.
        """
        descriptor = None
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            give_to_owner(self._path)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise not_writable(self._path.parent, error) from error
        self._descriptor = descriptor
        return True

    def check_file_system(self) -> None:
        """Check, after a sync, that the file system still keeps what it takes. One system call, which waits for no disk.

        A sync under way while ext4 aborts its journal may return 0 for blocks that never reach the journal. Allocating a byte that is
        there already is the cheapest call for which ext4 must use its journal (docs/guarantees.md).

        Raises:
            StoreFailed: It has given up; what was synced last may not be there.
        """
        if sys.platform == "darwin":  # which has no such call, and no ext4
            return
        assert self._descriptor is not None
        try:
            os.posix_fallocate(self._descriptor, 0, 1)
        except OSError as error:
            if error.errno in _GAVE_UP:
                raise StoreFailed(f"{self._path.parent}: the file system has given up during a commit: {error.strerror}") from error

    def release(self) -> None:
        """Release the lock; the end of the process does so as well."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def sqlite3_connect(path: Path) -> Connection:
    """Connect with the standard library's SQLite; a new file is readable by its owner only."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _renew_log(path.with_name(f"{path.name}-wal"))
    return sqlite3.connect(path, isolation_level=None, check_same_thread=True, cached_statements=256)


def _renew_log(log: Path) -> None:
    """Write once more what an unclean end has left in the write-ahead log, as it is, and sync it.

    After a sync that failed, the kernel calls pages clean that never reached the disk (https://lwn.net/Articles/752063/): the next process
    reads them, takes what they say for stored, adds to them, and a power cut then leaves a hole that ends the log.
    """
    if log.exists():
        with log.open("r+b") as file:
            offset = 0
            while piece := os.pread(file.fileno(), _PIECE_BYTES, offset):
                offset += os.pwrite(file.fileno(), piece, offset)
            os.fsync(file.fileno())


def open_database(
    path: Path, connect: Connect = sqlite3_connect, then: Callable[[Connection], None] = lambda _: None, *, may_begin: bool = True
) -> Connection:
    """Open for writing, check and migrate; `then` is one more transaction before anything else uses the connection.

    Without `may_begin`, a file in which nothing is yet is refused: it should hold orders.

    Raises:
        StoreFailed: The file is damaged, foreign, newer than this version, or cannot be written. The text says what to do.
        StoreBusy: Another program writes to it.
    """
    try:
        db = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreFailed(f"{path} cannot be opened for writing: {error}; check its owner and that the disk is not read-only") from error
    try:
        _check_owner(db, path, may_begin)
        for name, value, expected in _PRAGMAS:
            db.execute(f"PRAGMA {name}={value}").fetchall()
            row = db.execute(f"PRAGMA {name}").fetchone()
            found = row[0] if row else 0  # a SQLite without mmap has no such setting
            if found != expected:
                raise StoreFailed(f"{path}: SQLite refuses {name}={value} (it says {found!r}); the data directory must be on a local disk")
        _migrate(db, path)
        db.execute("BEGIN IMMEDIATE")
        then(db)
        db.execute("COMMIT")
    except sqlite3.Error as error:
        db.close()
        if (getattr(error, "sqlite_errorname", None) or "").startswith("SQLITE_BUSY"):
            raise StoreBusy(f"{path} is being written by another process; end it") from error
        raise StoreFailed(_explain(path, error)) from error
    except BaseException:
        db.close()
        raise
    return db


def is_full(error: BaseException | None) -> bool:
    """Return whether the disk is full."""
    return getattr(error, "sqlite_errorname", None) == "SQLITE_FULL" or getattr(error, "errno", None) == errno.ENOSPC


def _check_owner(db: Connection, path: Path, may_begin: bool) -> None:
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (owner or tables):
        raise StoreFailed(f"{path} is another program's database; choose another gateway.data_dir or store.url")
    if not tables and not may_begin:
        raise ConfigError(
            [f"{path} holds no table, and {path.parent} was in use before. Move it away and start again: the gateway then says what to do"]
        )
    if not tables:  # the one moment at which it can be set: pages of deleted rows can go back to the disk
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")


def schema_version(db: Connection) -> int:
    """Return the number of the last migration that the file has had."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrations() -> list[tuple[int, str]]:
    """Return all migrations of this version, by number."""
    folder = resources.files("gateway.store") / "migrations" / "sqlite"
    return sorted((int(file.name.split("_")[0]), file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql"))


def _migrate(db: Connection, path: Path) -> None:
    known = migrations()
    version = schema_version(db)
    if version > known[-1][0]:
        raise StoreFailed(
            f"{path} was written by a newer gateway (schema {version}, this one knows {known[-1][0]}); "
            "install that version again, or restore the copy of the data directory from before the upgrade"
        )
    for number, script in known:
        if number > version:
            db.execute("BEGIN IMMEDIATE")
            for statement in _statements(script):
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={number}")
            db.execute("COMMIT")


def _statements(script: str) -> list[str]:
    lines = [line.split("--", 1)[0] for line in script.splitlines()]
    return [statement for statement in (part.strip() for part in "\n".join(lines).split(";")) if statement]


def _explain(path: Path, error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return (
            f"{path} is damaged ({error}). Do not delete it: copy the whole data directory away first, check the disk, "
            "then restore the last good copy, or try `sqlite3 gateway.db .recover` on a copy"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{path} cannot be written ({error}); check the owner of the data directory and that the disk is not read-only"
    if name.startswith("SQLITE_FULL"):
        return f"{path}: the disk is full; make room and start again"
    return f"{path} cannot be used: {error} ({name})"
