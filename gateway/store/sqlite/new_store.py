"""Permission to begin with an empty database: only in a directory that was not in use, or if an operator says so.

A directory that was in use has at least our lock file. If its database is missing, or holds nothing, orders are lost with it: a start
refuses, and touches nothing. A first start that is cut short leaves `gateway.beginning`, so that the next one goes on with it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gateway.api.errors import ConfigError
from gateway.store.sqlite.connection import LOCK_FILE, not_writable
from gateway.store.sqlite.file_exchange import sync

_BEGINNING = "gateway.beginning"
_OURS = (LOCK_FILE, "gateway.reserve", "control.sock")
_LOG_FIRST = ("-wal", "-journal", "-shm", "")  # while a log is there without its database, the directory is not taken for a new one


def begin(database: Path) -> None:
    """Mark a first start, if nothing of ours is there; before the lock is taken, which leaves a file behind.

    Raises:
        ConfigError, StoreFailed: The directory cannot be made or written.
    """
    folder = database.parent
    try:
        if not was_in_use(database):
            folder.mkdir(mode=0o700, exist_ok=True)
            _say(folder)
    except OSError as error:
        raise not_writable(folder, error) from error


def refuse_if_lost(database: Path) -> None:
    """Refuse a directory that was in use and whose database is missing or has 0 bytes. The caller holds the directory's lock.

    Raises:
        ConfigError: It is so; the text says which files are there, and what to do.
    """
    if is_empty(database) and not is_beginning(database):
        raise ConfigError([missing(database)])


def missing(database: Path) -> str:
    """Say why there is no database, and what to do."""
    if not was_in_use(database) or is_beginning(database):
        return f"there is no {database} yet; it is made when the gateway is first started"
    state = "has 0 bytes" if database.exists() else "is missing"
    there = ", ".join(sorted(file.name for file in database.parent.iterdir() if file.name != "control.sock"))
    return (
        f"{database} {state}, and its folder was in use before (there is {there}); beginning with nothing would forget every order. "
        "Look for the file (another store.url, a disk that is not mounted), or put a copy back: `gateway restore FILE`. "
        "To begin with nothing all the same, once: `gateway serve --new-store`, which moves what is left aside"
    )


def is_beginning(database: Path) -> bool:
    """Return whether a first start is under way."""
    return (database.parent / _BEGINNING).exists()


def begun(database: Path) -> None:
    """Remove the mark: from now on the database may not be missing. Raises StoreFailed."""
    try:
        if is_beginning(database):
            sync(database.parent)
            (database.parent / _BEGINNING).unlink()
            sync(database.parent)
    except OSError as error:
        raise not_writable(database.parent, error) from error


def set_aside(database: Path, now_ms: int) -> list[Path]:
    """Move what is left of an old database aside, as an operator has said; nothing is deleted. The caller holds the directory's lock.

    Returns:
        Where what was left of the old database is now.
    Raises:
        ConfigError, StoreFailed: There is a database with something in it, or the directory cannot be written.
    """
    if not is_empty(database):
        raise ConfigError(
            [
                f"gateway serve --new-store: {database} is there and not empty; a new one is made only if there is none. "
                "Start without --new-store; if you are sure that nobody needs it, move it and its -wal file away first"
            ]
        )
    try:
        moved = []
        for end in _LOG_FIRST:
            if (file := Path(f"{database}{end}")).exists():
                moved.append(Path(f"{database}.lost-{now_ms}{end}"))
                file.rename(moved[-1])
        sync(database.parent)
        _say(database.parent)
    except OSError as error:
        raise not_writable(database.parent, error) from error
    return moved


def _say(folder: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(folder / _BEGINNING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    sync(folder)


def was_in_use(database: Path) -> bool:
    """Return whether anything of ours is in the directory."""
    folder = database.parent
    return (
        any((folder / name).exists() for name in _OURS) or any(folder.glob(f"{database.name}*")) or any(folder.glob(f".{database.name}.*"))
    )


def is_empty(database: Path) -> bool:
    """Return whether there is no database file, or one of 0 bytes."""
    try:
        return database.stat().st_size == 0
    except FileNotFoundError:
        return True
