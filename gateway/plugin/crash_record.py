"""What a connector's code is doing at this moment, noted so that the next process knows over what the last one ended.

A hook can end the whole process: `os._exit`, a crash in C code, all of the memory. Nobody can catch that. So every step of a hook is
noted before it begins and taken back after it: one small write into a file of the data directory, which the kernel keeps when a process
dies; it is never synced, for a power cut is no hook's fault. What stands there at a start was under way when the last process ended.
After three such ends,

- over one thing (a webhook, a row), that thing is not given to the hook any more: it becomes a dead letter with this reason; a call
  that had to be left behind, since it did not come back, counts as well;
- in a row, over different things or over none, the source is down until a reload or `gateway resume`.

A call that comes back ends the row of ends.
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
    """One step of a hook: whose, over what, since when (monotonic), in which thread."""

    source: str
    hook: str
    about: str
    since: float
    thread: int


class _Ended(Struct, frozen=True, array_like=True):
    source: str
    hook: str
    about: str


class _Ends(Struct):
    """The ends that are remembered: over what they were, and those since the hook last came back."""

    over: list[_Ended] = []
    row: list[_Ended] = []


def name_of(body: bytes) -> str:
    """What stands for a document in a note: no part of it."""
    return hashlib.sha256(b"%d " % len(body) + body[:_LOOKED_AT_BYTES]).hexdigest()[:16]


class CrashRecord:
    """One per process. Before `open` it knows of nothing that ended, and keeps its notes in memory."""

    def __init__(self) -> None:
        self.steps: list[Step | None] = [None] * _SLOTS
        self._slots: dict[int, int] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path: Path | None = None
        self._ends = _Ends()

    # --- the file

    def open(self, data_dir: Path, *, make: bool = False) -> None:
        """Read what the last process left, and note from now on; with `make` where there is no file yet.

        Another gateway's notes are left alone: whoever comes second is refused by the store. Without a file nothing is noted.
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
            self._ends = msgspec.json.decode(self._path.read_bytes(), type=_Ends)
        if left := list(_left(os.pread(file, _SLOTS * _SLOT_BYTES, 0))):
            over = [*self._ends.over, *(one for one in left if one.about)][-_MOST_REMEMBERED:]
            self._ends = _Ends(over=over, row=[*self._ends.row, *left][-_MOST_REMEMBERED:])
            self._keep()
            os.pwrite(file, bytes(_SLOTS * _SLOT_BYTES), 0)

    def _keep(self) -> None:
        """Write down what ended: beside it, synced, renamed."""
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):  # a disk without room: the ends of this process are known, and the next one may ask again
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(self._ends))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._path)

    def close(self) -> None:
        """An end in order is nobody's fault, whatever is still under way."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.pwrite(file, bytes(_SLOTS * _SLOT_BYTES), 0)
            os.close(file)

    # --- noting

    def enter(
        self, source: str, hook: str, body: bytes | None = None, about: str = "", otherwise: type[GatewayError] = PluginError
    ) -> Step | None:
        """Note that a step begins, over a document or something else with a name; what was under way in this thread, for `leave`.

        Raises:
            PluginError, or `otherwise`: The process ended too often over the same.
        """
        if body is not None:
            about = name_of(body)
        if self._ends.over:
            self._refuse(source, hook, about, otherwise)
        thread = threading.get_ident()
        slot = self._slots.get(thread, -1)
        if slot < 0:
            slot = self._slot_for(thread)
        before = self.steps[slot]
        self._note(slot, Step(source, hook, about, time.monotonic(), thread))
        return before

    def _slot_for(self, thread: int) -> int:
        """One that no thread has which is still there: a shared one would blame what another thread is doing."""
        with self._lock:
            there = {one.ident for one in threading.enumerate()} | {thread}
            self._slots = {one: slot for one, slot in self._slots.items() if one in there}
            free = sorted(set(range(_SLOTS)) - set(self._slots.values()))
            slot = self._slots[thread] = free[0] if free else thread % _SLOTS
            return slot

    def leave(self, before: Step | None = None) -> None:
        """The step that began last in this thread is over."""
        slot = self._slots[threading.get_ident()]
        step = self.steps[slot]
        self._note(slot, before)
        if step is not None and (self._ends.row or self._ends.over):
            self._acquit(step)

    def give_up(self, thread: int) -> None:
        """The step that this thread is in does not come back: remember over what, as over an end of the process."""
        slot = self._slots.get(thread, -1)
        if slot < 0 or (step := self.steps[slot]) is None:
            return
        self._note(slot, None)
        if step.about:
            with self._lock:
                over = [*self._ends.over, _Ended(step.source, step.hook, step.about)]
                self._ends = _Ends(over=over[-_MOST_REMEMBERED:], row=self._ends.row)
                self._keep()

    def _note(self, slot: int, step: Step | None) -> None:
        self.steps[slot] = step
        if self._file is None:
            return
        record = b"\0" if step is None else f"{step.source}\n{step.hook}\n{step.about}".encode()[: _SLOT_BYTES - 1] + b"\0"
        with suppress(OSError):  # a disk that fails is the store's to notice
            os.pwrite(self._file, record, slot * _SLOT_BYTES)

    def _acquit(self, step: Step) -> None:
        """It came back: the row of ends is broken, and what it was about is not to blame."""
        with self._lock:
            mine = _Ended(step.source, step.hook, step.about)
            over = [one for one in self._ends.over if one != mine]
            row = [one for one in self._ends.row if (one.source, one.hook) != (step.source, step.hook)]
            if (len(over), len(row)) != (len(self._ends.over), len(self._ends.row)):
                self._ends = _Ends(over=over, row=row)
                self._keep()

    # --- judging

    def _refuse(self, source: str, hook: str, about: str, otherwise: type[GatewayError]) -> None:
        if about and (count := self._ends.over.count(_Ended(source, hook, about))) >= MAX_CRASHES:
            raise otherwise(
                f"{hook} is not called for it any more: the process ended {count} times while this was being worked on, "
                f"or {hook} never came back; "
                f"when the plugin is mended, `gateway resume {source}` lets it be tried again"
            )

    def down(self, source: str) -> str | None:
        """Why none of its hooks is to be called: the process ended in one of them, again and again."""
        for hook in dict.fromkeys(one.hook for one in self._ends.row if one.source == source):
            ends = [one for one in self._ends.row if (one.source, one.hook) == (source, hook)]
            if len(ends) >= MAX_CRASHES and (len(set(ends)) > 1 or not ends[0].about):
                return f"the process ended {len(ends)} times in a row inside its {hook}; when it is mended, a reload tries it again"
        return None

    def reset(self, *sources: str) -> None:
        """Whoever says so has mended it: begin to count anew; for all where none is named."""
        with self._lock:
            over, row = ([one for one in ends if sources and one.source not in sources] for ends in (self._ends.over, self._ends.row))
            if (over, row) != (self._ends.over, self._ends.row):
                self._ends = _Ends(over=over, row=row)
                self._keep()


class Call(Struct, frozen=True):
    """One call of an async hook, for `stepped`."""

    crash_record: CrashRecord
    source: str
    hook: str
    about: str

    def enter(self) -> Step | None:
        """See `Steps`."""
        return self.crash_record.enter(self.source, self.hook, about=self.about)

    def leave(self, before: Step | None) -> None:
        """See `Steps`."""
        self.crash_record.leave(before)


def _left(written: bytes) -> Iterator[_Ended]:
    for n in range(0, len(written), _SLOT_BYTES):
        text = written[n : n + _SLOT_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        if text.count("\n") == 2:
            yield _Ended(*text.split("\n"))
