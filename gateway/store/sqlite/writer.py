"""Writing thread: it owns the connection, runs each transaction whole, and shares commits.

Transactions that wait at the same moment run inside one BEGIN IMMEDIATE ... COMMIT, so that one fsync answers all of them.
If one of them raises, the whole group is rolled back and each runs again by itself. A transaction function therefore only builds its
return value and changes nothing else.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gateway.api.errors import GatewayError, StoreBusy, StoreError, StoreFailed

T = TypeVar("T")

_FATAL = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_GROUP = 256
_LOOK_S = 0.25


class Connection(Protocol):
    """Used part of `sqlite3.Connection`; the simulated power cut puts another SQLite behind it."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> Any: ...
    def executemany(self, sql: str, parameters: Any, /) -> Any: ...
    def close(self) -> None: ...


Change = Callable[[Connection], T]


class Batchable(ABC, Generic[T]):
    """Transaction that can run at once with others of its kind that share its commit, in fewer statements.

    They come to the front of the group; all of it waits at the same moment, so any order is a right one.
    """

    __slots__ = ()

    def __call__(self, db: Connection) -> T:
        return self.run_batch(db, [self])[0]

    @classmethod
    @abstractmethod
    def run_batch(cls, db: Connection, changes: Sequence[Any]) -> list[T]:
        """Do them in order, and return the result of each. If one raises, the writer runs each by itself."""


@dataclass(slots=True, eq=False)
class _Waiting:
    change: Change[Any]
    future: asyncio.Future[Any]
    inside: bool
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runner of transactions on a thread of its own.

    Args:
        connect: Opens and checks the connection; called on the thread.
        committed: Called on the thread after each commit, before anybody is answered; what it raises counts as the commit's error.
        on_full: Called on the thread, outside a transaction, where the disk is full: True if it made room.
        on_failed: Called once on the event loop when the store can no longer be trusted.
        on_commit: Told the seconds of each commit, on the event loop.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        committed: Callable[[], None],
        on_full: Callable[[Connection], bool],
        on_failed: Callable[[StoreFailed], None],
        on_commit: Callable[[float], None],
    ) -> None:
        self._connect = connect
        self._committed = committed
        self._on_full = on_full
        self._on_failed = on_failed
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._failed: StoreFailed | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._opened: asyncio.Future[None] | None = None
        self._deadlines: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.answered_at = time.monotonic()

    async def start(self) -> None:
        """Open the file. Raises what `connect` raises."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def run(self, change: Change[T], patience_s: float | None = None) -> T:
        """Run one transaction: durable when this returns, whole even if the caller is cancelled.

        Args:
            patience_s: How long to wait for it, to a quarter of a second; the same for all who say so.
        Raises:
            TimeoutError: It takes longer; whether it will be committed is unknown.
            StoreBusy: Nothing was committed.
            StoreFailed: The store cannot be trusted any more; whether this was committed is unknown.
        """
        return await self._enqueue(change, inside=True, patience_s=patience_s)

    async def run_outside_transaction(self, call: Change[T]) -> T:
        """Run what cannot run inside a transaction (a checkpoint)."""
        return await self._enqueue(call, inside=False)

    async def _enqueue(self, change: Change[T], *, inside: bool, patience_s: float | None = None) -> T:
        if self._failed:
            raise self._failed
        if self._closed or self._loop is None:
            raise StoreBusy("the store is closing")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Waiting(change, future, inside))
        if patience_s is not None:
            self._deadlines.append((self._loop.time() + patience_s, future))
            if self._timer is None:
                self._timer = self._loop.call_later(_LOOK_S, self._expire)
        return await future  # a caller that goes away leaves its future behind, never its transaction

    def _expire(self) -> None:
        """Answer those that have waited too long. One timer serves all: two a request are a thing that a busy loop notices."""
        assert self._loop is not None
        now, waiting = self._loop.time(), self._deadlines
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _fail(waiting.popleft()[1], TimeoutError())
        self._timer = self._loop.call_later(_LOOK_S, self._expire) if waiting else None

    @property
    def closed(self) -> bool:
        """True if nothing more is taken."""
        return self._closed

    async def close(self) -> None:
        """Commit what waits, then close the connection."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        assert self._loop is not None
        assert self._opened is not None
        try:
            db = self._connect()
        except BaseException as error:
            self._loop.call_soon_threadsafe(_fail, self._opened, error)
            return
        self._loop.call_soon_threadsafe(_settle, self._opened, None)
        open_for_more = True
        while open_for_more:
            group = [self._queue.get()]
            while len(group) < _GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            open_for_more = None not in group
            self._run_group(db, [waiting for waiting in group if waiting is not None])
        db.close()

    def _run_group(self, db: Connection, group: list[_Waiting]) -> None:
        began = time.monotonic()
        inside = [waiting for waiting in group if waiting.inside]
        if inside and not self._try(db, inside):
            for waiting in inside:
                if not self._try(db, [waiting]) and self._made_room(db, waiting):
                    self._try(db, [waiting])
        self.answered_at = time.monotonic()
        if inside:
            self._call_loop(_answer, inside, self.answered_at - began, self._on_commit)
        for waiting in group:
            if not waiting.inside:
                self._call(db, waiting)

    def _call(self, db: Connection, waiting: _Waiting) -> None:
        try:
            waiting.result = waiting.change(db)
        except BaseException as error:
            waiting.error = self._undo(db, error)
        self._call_loop(_answer, [waiting], 0.0, lambda _seconds: None)

    def _try(self, db: Connection, group: list[_Waiting]) -> bool:
        """Run and commit a group. On an error undo all of it, and note the error if the group is a single one."""
        if self._failed:
            for waiting in group:
                waiting.error = self._failed
            return True
        try:
            db.execute("BEGIN IMMEDIATE")
            _run(db, group)
            db.execute("COMMIT")
            self._committed()
        except BaseException as error:
            translated = self._undo(db, error)
            if len(group) == 1 or isinstance(translated, StoreFailed):
                for waiting in group:
                    waiting.error = translated
            return isinstance(translated, StoreFailed)
        if len(group) == 1:
            group[0].error = None
        return True

    def _undo(self, db: Connection, error: BaseException) -> BaseException:
        translated = _translate(error)
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error as second:
            translated = StoreFailed(f"a transaction could not be rolled back: {second}")
        if isinstance(translated, StoreFailed) and self._failed is None:
            self._failed = translated
            self._call_loop(self._on_failed, translated)
        return translated

    def _made_room(self, db: Connection, waiting: _Waiting) -> bool:
        if not isinstance(waiting.error, _DiskFull):
            return False
        try:
            return self._on_full(db)
        except sqlite3.Error as error:  # another program has taken the room at once
            waiting.error = self._undo(db, error)
            return False

    def _call_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed; no caller is left
            pass


class _DiskFull(StoreBusy):
    pass


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return StoreError(f"it holds what cannot be stored ({type(error).__name__})")
    if isinstance(error, GatewayError) or not isinstance(error, sqlite3.Error):
        return error
    name = getattr(error, "sqlite_errorname", None) or ""
    if name == "SQLITE_FULL":
        return _DiskFull("the disk is full")
    if name.startswith(_FATAL):
        return StoreFailed(f"{error} ({name})")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy("another process writes to the database file", retry_after_s=5)
    return StoreError(f"{error} ({name or type(error).__name__})")


def _run(db: Connection, group: Sequence[_Waiting]) -> None:
    """Run the transactions of a group, those of one kind at the first of them."""
    alike: dict[type[Batchable[Any]], list[_Waiting]] = {}
    for waiting in group:
        if isinstance(waiting.change, Batchable):
            alike.setdefault(type(waiting.change), []).append(waiting)
    for waiting in group:
        if not isinstance(waiting.change, Batchable):
            waiting.result = waiting.change(db)
        elif those := alike.pop(type(waiting.change), None):
            results = type(waiting.change).run_batch(db, [one.change for one in those])
            for one, result in zip(those, results, strict=True):
                one.result = result


def _answer(group: list[_Waiting], seconds: float, on_commit: Callable[[float], None]) -> None:
    for waiting in group:
        if waiting.error is not None:
            _fail(waiting.future, waiting.error)
        else:
            _settle(waiting.future, waiting.result)
    on_commit(seconds)


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # retrieved here: a caller that was cancelled leaves no warning behind
