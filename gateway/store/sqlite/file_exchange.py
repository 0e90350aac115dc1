"""Exchange of the database for another file: a kill at any moment leaves the old one, the new one, or a note that says how to go on.

A database is up to four files, which no single rename exchanges: an old log beside a new file would be replayed into it. So the new
file is written and synced first, then an intent that names it, then the old files move away and the new one takes their place. Until
the intent is there, nothing has changed; once it is there, the next start, or the next restore, finishes what it says.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import MsgspecError, Struct, json

from gateway.api.errors import StoreError

ENDS = ("-journal", "-wal", "-shm", "")
_INTENT = "gateway.restoring"


class Intent(Struct, frozen=True, kw_only=True):
    """Names in the data directory: the new file, and what the old files are called from now on."""

    new: str
    aside: str


def exchange(new: Path, database: Path, aside: Path) -> bool:
    """Make a complete and synced file the database. Return whether another was there, which is now called `aside`.

    Raises:
        OSError: Nothing is changed, or the intent is there and `finish` goes on with it.
    """
    was_there = any(_of(database, end).exists() for end in ENDS)
    _write(database.parent / _INTENT, json.encode(Intent(new=new.name, aside=aside.name)))
    finish(database)
    return was_there


def is_under_way(database: Path) -> bool:
    """Return whether an exchange was cut short."""
    return (database.parent / _INTENT).exists()


def finish(database: Path) -> Path | None:
    """Do what an intent says, whatever of it is done already. Return the new name of the old database, None if there is no intent.

    Raises:
        OSError: It cannot be done; the intent stays.
        StoreError: The intent cannot be read, or names a file that is gone.
    """
    note = database.parent / _INTENT
    if not note.exists():
        return None
    try:
        intent = json.decode(note.read_bytes(), type=Intent)
    except MsgspecError as error:
        raise StoreError(
            f"{note} is no note of ours: {error}; move it away, and look which of the files beside it is the database"
        ) from error
    new, aside = note.with_name(intent.new), note.with_name(intent.aside)
    if new.exists():
        for end in ENDS:
            if _of(database, end).exists():
                os.rename(_of(database, end), _of(aside, end))
        sync(note.parent)  # no disk may show the new file beside a log of the old one
        os.rename(new, database)
        sync(note.parent)
    elif not database.exists():
        raise StoreError(f"{note} says that {new.name} becomes the database, and it is gone; put a copy back with `gateway restore FILE`")
    note.unlink()
    sync(note.parent)
    return aside


def abandon(database: Path) -> None:
    """Delete the intent of an exchange whose new file is gone: another copy takes its place."""
    note = database.parent / _INTENT
    note.unlink(missing_ok=True)
    sync(note.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_to_owner(file: Path) -> None:
    """Give a file that root made to the owner of its folder."""
    folder = file.parent.stat()
    if os.geteuid() == 0:
        os.chown(file, folder.st_uid, folder.st_gid)


def _write(note: Path, text: bytes) -> None:
    part = note.with_name(f".{note.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    give_to_owner(part)
    os.rename(part, note)
    sync(note.parent)


def _of(database: Path, end: str) -> Path:
    return Path(f"{database}{end}")
