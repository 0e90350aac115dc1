"""Copies of the database: made while the gateway runs, verified, and put back so that nothing is sent a second time.

A copy is one state of the file, whole: SQLite writes it out of a single read transaction, without what was deleted. What has been
delivered since it was made is not in it. So what is open in a copy that is put back counts as perhaps delivered, and so does
what is made of every event from before the moment of putting back: it is `unknown`, which a target with a look-up settles by
looking, and any other target leaves to an operator.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from gateway.api.errors import StoreError
from gateway.clock import from_ms
from gateway.store.sqlite import file_exchange
from gateway.store.sqlite.connection import APPLICATION_ID, WAL_LIMIT_BYTES, migrations, open_database, schema_version
from gateway.store.sqlite.core import audit
from gateway.store.sqlite.queues import ACTIVE

_BODIES = (
    ("inbox", "document", "sha256"),
    ("inbox", "fetched", "fetched_sha256"),
    ("outbox", "body", "sha256"),
    ("submit", "body", "sha256"),
)
_OPEN = "SELECT (SELECT count(*) FROM inbox WHERE status <> 'done'), (SELECT count(*) FROM outbox WHERE status <> 'done')"
# A row that waits behind another, or for a decision, keeps its status: it is in doubt when it is due.
_PERHAPS_SENT = f"""
    UPDATE outbox SET in_doubt_since_ms = coalesce(in_doubt_since_ms, ?), maybe_delivered = 1,
                      status = CASE WHEN status = 'ready' AND due_at_ms IS NOT NULL THEN 'unknown' ELSE status END
    WHERE {ACTIVE} OR held_for IS NOT NULL"""
_PERHAPS_SUBMITTED = f"UPDATE submit SET in_doubt_since_ms = coalesce(in_doubt_since_ms, ?), maybe_delivered = 1 WHERE {ACTIVE}"
_MARGIN_BYTES = 1024**3
_LONGEST_LOG_BYTES = WAL_LIMIT_BYTES * 3 // 4
_LOOK_EVERY = 10_000


class Contents(Struct, frozen=True, kw_only=True):
    """Contents of a verified copy. `copied_at` is None for a file that `gateway backup` did not make."""

    copied_at: datetime | None
    events: int
    open_events: int
    open_deliveries: int


def write_copy(database: Path, to: Path, *, who: str, now_ms: int) -> Contents:
    """Copy a database, also under a running gateway, and verify the copy; `to` is there whole or not at all.

    Raises:
        StoreError: It cannot be read, the copy cannot be written, or it is not what it should be.
    """
    if to.exists():
        raise StoreError(f"{to} exists already; a copy replaces nothing")
    part = to.with_name(f".{to.name}.part")
    _clear(part)
    longest = max(_LONGEST_LOG_BYTES, _log_bytes(database))
    try:
        with closing(_reading(database)) as db:
            _must_fit(db, database, to.parent)
            db.set_progress_handler(lambda: _log_bytes(database) > longest, _LOOK_EVERY)
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            db.execute("VACUUM INTO ?", (str(part),))
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            audit(copy, now_ms, who, "backup")
        contents = verify(part)
        file_exchange.sync(part)
        os.rename(part, to)
        file_exchange.sync(to.parent)
    except (OSError, sqlite3.Error) as error:
        _clear(part)
        why = "orders come in too fast to copy beside them; try again when there are fewer" if _log_bytes(database) > longest else error
        raise StoreError(f"{to}: no copy was made: {why}") from error
    except BaseException:
        _clear(part)
        raise
    return contents


def verify(copy: Path) -> Contents:
    """Check every page, every reference and every stored body of a copy. Raises StoreError, naming what is wrong."""
    try:
        with closing(_reading(copy)) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreError(f"{copy} is no copy of a gateway's database")
            if schema_version(db) > migrations()[-1][0]:
                raise StoreError(f"{copy} was made by a newer gateway; put it back with that version")
            for found in (*db.execute("PRAGMA integrity_check(1)"), *db.execute("PRAGMA foreign_key_check")):
                if found != ("ok",):
                    raise StoreError(f"{copy} is damaged: {' '.join(str(part) for part in found)}")
            for damaged in _damaged(db):
                raise StoreError(f"{copy} is damaged: {damaged} differs from the SHA-256 that it was stored with")
            copied_ms = db.execute("SELECT max(at_ms) FROM audit WHERE action = 'backup'").fetchone()[0]
            events = db.execute("SELECT count(*) FROM inbox").fetchone()[0]
            open_events, open_deliveries = db.execute(_OPEN).fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{copy} cannot be used: {error}") from error
    return Contents(copied_at=from_ms(copied_ms), events=events, open_events=open_events, open_deliveries=open_deliveries)


def put_back(copy: Path, database: Path, *, who: str, now_ms: int) -> Path | None:
    """Make a verified copy the database, and keep the old one beside it. The caller holds the directory's lock.

    Returns:
        The path of the old database; None if there was none.
    Raises:
        StoreError: It cannot be done; the old database is where it was, or the text says that the exchange is half done.
    """
    part, aside = database.with_name(f".{database.name}.part"), database.with_name(f"{database.name}.before-{now_ms}")
    _finish_the_last(database)
    try:
        _clear(part)
        shutil.copyfile(copy, part)
        with closing(open_database(part)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_PERHAPS_SENT, (now_ms,))
            db.execute(_PERHAPS_SUBMITTED, (now_ms,))
            db.execute("INSERT INTO restores (restored_at_ms, who) VALUES (?,?)", (now_ms, who))
            audit(db, now_ms, who, "restore")
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        part.chmod(0o600)
        file_exchange.give_to_owner(part)
        file_exchange.sync(part)
        was_there = file_exchange.exchange(part, database, aside)
    except (OSError, sqlite3.Error) as error:
        begun = "it is half done; starting the gateway, or the same command, finishes it" if file_exchange.is_under_way(database) else error
        raise StoreError(f"{database}: the copy was not put back: {begun}") from error
    finally:
        if not file_exchange.is_under_way(database):
            _clear(part)
    return aside if was_there else None


def _finish_the_last(database: Path) -> None:
    """Finish an exchange that was cut short, so that what it put aside keeps its name; if its copy is gone, this one takes its place."""
    try:
        file_exchange.finish(database)
    except StoreError:
        file_exchange.abandon(database)
    except OSError as error:
        raise StoreError(f"{database}: an earlier restore cannot be finished: {error}") from error


def _clear(part: Path) -> None:
    """Remove what was not finished, and its logs: an old log would be replayed into the next file of that name."""
    for end in file_exchange.ENDS:
        Path(f"{part}{end}").unlink(missing_ok=True)


def _damaged(db: sqlite3.Connection) -> Iterator[str]:
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}  # an older copy has not all of them
    for table, body, digest in (one for one in _BODIES if one[0] in tables):
        for row_id, stored, expected in db.execute(f"SELECT id, {body}, {digest} FROM {table} WHERE {body} IS NOT NULL"):
            if not isinstance(stored, bytes) or hashlib.sha256(stored).digest() != expected:
                yield f"{body} of {table}:{row_id}"


def _must_fit(db: sqlite3.Connection, database: Path, folder: Path) -> None:
    """Refuse a copy that would fill the disk that orders are stored on. Raises StoreError."""
    (pages,), (size,) = db.execute("PRAGMA page_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    same_disk = folder.stat().st_dev == database.stat().st_dev
    needed, free = pages * size + (_MARGIN_BYTES if same_disk else 0), shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(f"{folder}: {needed // 2**20} MiB are needed, {free // 2**20} MiB are free")


def _log_bytes(database: Path) -> int:
    """Return the length of the log: it cannot be emptied while a copy is read."""
    log = database.with_name(f"{database.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _reading(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise StoreError(f"there is no {path}")
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
