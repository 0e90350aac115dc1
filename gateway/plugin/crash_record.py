"""Record of the hooks that are running, so that a crash of the process is attributed to a hook and to what it worked on.

A hook can end the whole process: `os._exit`, a crash in C code, all memory used. No code can catch that. So each step of a hook is
written to a file of the data directory before it begins, and removed after it: one small write, which the kernel keeps when the process
dies. It is never synced, because a power cut is no hook's fault. A step that the file holds at start was running in the crash.
After three crashes

- on one subject (a webhook, a row), the hook no longer gets that subject, which becomes a dead letter with this reason. A call that was
  abandoned because it did not return counts, too;
- in a row, on different subjects or on none, the source is down until a reload or `gateway resume`.

A call that returns ends such a row.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.api.errors import GatewayError, PluginError

MAX_CRASHES = 3
_SLOTS, _SLOT_BYTES = 64, 256
_LOOKED_AT_BYTES = 16 * 1024
_MOST_REMEMBERED = 1000


class Step(Struct, frozen=True):
    """Step of a hook. `subject` names what it works on; `since` is monotonic time in seconds."""

    source: str
    hook: str
    subject: str
    since: float
    thread: int


class _Crash(Struct, frozen=True, array_like=True):
    source: str
    hook: str
    subject: str


class _Crashes(Struct):
    """Remembered crashes: `over` a subject, and in a `row` since the hook last returned."""

    over: list[_Crash] = []
    row: list[_Crash] = []


def name_of(body: bytes) -> str:
    """Name a document by a digest, so that the record holds no part of it."""
    return hashlib.sha256(b"%d " % len(body) + body[:_LOOKED_AT_BYTES]).hexdigest()[:16]


class CrashRecord:
    """Record of one process. Before `open` it knows no crash and is kept in memory."""

    def __init__(self) -> None:
        self.steps: list[Step | None] = [None] * _SLOTS
        self._slots: dict[int, int] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path: Path | None = None
        self._crashes = _Crashes()

    def open(self, data_dir: Path, *, make: bool = False) -> None:
        """Read what the last process left, and write to the file from now on; `make` creates it.

        A file that another gateway uses is left alone: the store refuses the second gateway. Without a file nothing is written.
        """
        if self._file is not None:
            return
        with suppress(OSError, msgspec.MsgspecError):
            path = data_dir / "hooks"
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file).st_size < _SLOTS * _SLOT_BYTES:
                    os.posix_fallocate(file, 0, _SLOTS * _SLOT_BYTES)
                self._file, self._path = file, data_dir / "hooks.json"
            finally:
                if self._file is None:
                    os.close(file)
            self._learn(file)

    def _learn(self, file: int) -> None:
        assert self._path is not None
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            self._crashes = msgspec.json.decode(self._path.read_bytes(), type=_Crashes)
        if left := list(_left(os.pread(file, _SLOTS * _SLOT_BYTES, 0))):
            self._remember([*self._crashes.over, *(one for one in left if one.subject)], [*self._crashes.row, *left])
            os.pwrite(file, bytes(_SLOTS * _SLOT_BYTES), 0)

    def _remember(self, over: list[_Crash], row: list[_Crash]) -> None:
        """Replace the remembered crashes. If that changes them, write a new file, sync it and rename it."""
        crashes = _Crashes(over=over[-_MOST_REMEMBERED:], row=row[-_MOST_REMEMBERED:])
        if crashes == self._crashes:
            return
        self._crashes = crashes
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):  # the disk is full: this process knows the crashes, and the next one may call the hook again
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(self._crashes))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._path)

    def close(self) -> None:
        """Clear the file: a regular stop is no crash, whatever is still running."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.pwrite(file, bytes(_SLOTS * _SLOT_BYTES), 0)
            os.close(file)

    def enter(
        self, source: str, hook: str, body: bytes | None = None, subject: str = "", otherwise: type[GatewayError] = PluginError
    ) -> Step | None:
        """Record that a step begins, on a document or a subject with a name. Return what ran in this thread before, for `leave`.

        Raises:
            PluginError, or `otherwise`: The process crashed too often on this subject.
        """
        if body is not None:
            subject = name_of(body)
        if self._crashes.over:
            self._refuse(source, hook, subject, otherwise)
        thread = threading.get_ident()
        slot = self._slots.get(thread, -1)
        if slot < 0:
            slot = self._slot_for(thread)
        before = self.steps[slot]
        self._note(slot, Step(source, hook, subject, time.monotonic(), thread))
        return before

    def _slot_for(self, thread: int) -> int:
        """Choose a slot that no living thread has: a shared one would blame the other thread's step."""
        with self._lock:
            there = {one.ident for one in threading.enumerate()} | {thread}
            self._slots = {one: slot for one, slot in self._slots.items() if one in there}
            free = sorted(set(range(_SLOTS)) - set(self._slots.values()))
            slot = self._slots[thread] = free[0] if free else thread % _SLOTS
            return slot

    def leave(self, before: Step | None = None) -> None:
        """Record that the latest step of this thread is over."""
        slot = self._slots[threading.get_ident()]
        step = self.steps[slot]
        self._note(slot, before)
        if step is not None and (self._crashes.row or self._crashes.over):
            self._acquit(step)

    def give_up(self, thread: int) -> None:
        """Record that a thread's step does not return; it counts as a crash on its subject."""
        slot = self._slots.get(thread, -1)
        if slot < 0 or (step := self.steps[slot]) is None:
            return
        self._note(slot, None)
        if step.subject:
            with self._lock:
                self._remember([*self._crashes.over, _Crash(step.source, step.hook, step.subject)], self._crashes.row)

    def _note(self, slot: int, step: Step | None) -> None:
        self.steps[slot] = step
        if self._file is None:
            return
        record = b"\0" if step is None else f"{step.source}\n{step.hook}\n{step.subject}".encode()[: _SLOT_BYTES - 1] + b"\0"
        with suppress(OSError):  # the store notices a disk that fails
            os.pwrite(self._file, record, slot * _SLOT_BYTES)

    def _acquit(self, step: Step) -> None:
        """Forget the crashes in a row of a hook that returned, and those on its subject."""
        with self._lock:
            mine = _Crash(step.source, step.hook, step.subject)
            over = [one for one in self._crashes.over if one != mine]
            row = [one for one in self._crashes.row if (one.source, one.hook) != (step.source, step.hook)]
            self._remember(over, row)

    def _refuse(self, source: str, hook: str, subject: str, otherwise: type[GatewayError]) -> None:
        if subject and (count := self._crashes.over.count(_Crash(source, hook, subject))) >= MAX_CRASHES:
            raise otherwise(
                f"{hook} is no longer called with this: it ended the process {count} times, or never returned; "
                f"repair the plugin, then run `gateway resume {source}`"
            )

    def down(self, source: str) -> str | None:
        """Return why no hook of the source may be called, if the process crashed in one of them in a row."""
        for hook in dict.fromkeys(one.hook for one in self._crashes.row if one.source == source):
            ends = [one for one in self._crashes.row if (one.source, one.hook) == (source, hook)]
            if len(ends) >= MAX_CRASHES and (len(set(ends)) > 1 or not ends[0].subject):
                return f"its {hook} ended the process {len(ends)} times in a row; repair the plugin, then reload"
        return None

    def reset(self, *sources: str) -> None:
        """Forget the crashes of these sources; of all if none is named."""
        with self._lock:
            over, row = ([one for one in ends if sources and one.source not in sources] for ends in (self._crashes.over, self._crashes.row))
            self._remember(over, row)


class Call(Struct, frozen=True):
    """Recorder of the steps of one call of an async hook, for `stepped`."""

    crash_record: CrashRecord
    source: str
    hook: str
    subject: str

    def enter(self) -> Step | None:
        """See `Steps`."""
        return self.crash_record.enter(self.source, self.hook, subject=self.subject)

    def leave(self, before: Step | None) -> None:
        """See `Steps`."""
        self.crash_record.leave(before)


def _left(written: bytes) -> Iterator[_Crash]:
    for n in range(0, len(written), _SLOT_BYTES):
        text = written[n : n + _SLOT_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        if text.count("\n") == 2:
            yield _Crash(*text.split("\n"))
