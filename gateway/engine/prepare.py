"""Prepare step: make the messages for the targets out of an inbox row."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from time import perf_counter

import msgspec

from gateway.api.errors import (
    AuthError,
    GatewayError,
    Hold,
    Ignore,
    LeaseLost,
    Outdated,
    PermanentError,
    PluginError,
    Rejected,
    StoreError,
    StoreFailed,
)
from gateway.api.messages import Envelope, Event
from gateway.api.order import Order, content, read_order
from gateway.clock import Clock
from gateway.engine.batch_worker import now_for_ages, retry_commit
from gateway.engine.difference import is_likely_new
from gateway.engine.order_messages import deliveries, difference, numbered
from gateway.engine.prepare_outcome import settlement
from gateway.metrics import Metrics
from gateway.plugin.incoming import incoming, warn_of_flagged
from gateway.plugin.source import Source
from gateway.plugin.validation import Misread
from gateway.store.base import Store
from gateway.store.outcome import Settlement
from gateway.store.rows import InboxRow, Prepared

log = logging.getLogger("gateway.prepare")

BATCH = 50
# Concurrent fetches, and the size of a batch while the vendor is slow.
_FETCHES, _SLOW_S = 4, 0.05
_SLICE = 10
_GIVES_WAY_S = 1.0
FETCH_TIMEOUT_S = 60.0
_AFTER_MISTAKE_S = 60.0


class _Revision(Exception):
    """Error: the order came again with other content, and an operator decides about it."""

    def __init__(self, previous: Order | None, order: Order, version: int) -> None:
        super().__init__()
        likely_new = previous is not None and is_likely_new(previous, order)
        self.reason = f"version {version} of the order has other content" + (", and looks like another order" if likely_new else "")
        self.detail = difference(previous, order)


class _Earlier(Exception):
    """Error: the order had this content before, and has other content now."""


class Prepare:
    """Prepare step of one source."""

    def __init__(self, source: Source, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._retry = source.connector.fetch_retry()
        self._compares = source.connector.description.compares_fetched
        self._behind = False
        self._limit = _FETCHES if source.connector.fetches else BATCH
        self._tells_open = source.connector.description.is_open is not None
        self._takes_previous = source.connector.takes("normalize", "previous")

    async def run_once(self) -> bool:
        """Lease and prepare one batch; return False if nothing was due."""
        # Senders wait for their answers, so this step gives way in a burst, for at most `_GIVES_WAY_S`. After that both take turns, so
        # that the inbox does not grow however long the burst is.
        rows = await self._store.lease_inbox(self._source.name, self._limit, give_way_s=0.0 if self._behind else _GIVES_WAY_S)
        self._behind = bool(rows) and (self._clock.now() - rows[0].received_at).total_seconds() > _GIVES_WAY_S
        await self._prepare_batch([row for row in rows if not _needs_fetch(row)])
        await self._fetch_batch([row for row in rows if _needs_fetch(row)])
        return bool(rows)

    async def _prepare_batch(self, rows: Sequence[InboxRow]) -> None:
        """Prepare rows that need no fetch, and commit them together."""
        slice_ = BATCH if self._behind else _SLICE
        ready: list[Prepared] = []
        for n, row in enumerate(rows):
            if n % slice_ == 0:
                await asyncio.sleep(0)  # a batch is milliseconds of work, and senders wait for answers
            made = await self._prepare_or_postpone(row)
            if made is not None:
                ready.append(made)
        if ready:
            await self._finish(ready)

    async def _fetch_batch(self, rows: Sequence[InboxRow]) -> None:
        """Fetch and prepare, a few rows at a time, and commit each as soon as it is there.

        While the vendor is slow, a batch takes only those few, so that later events do not wait for a long one.
        """
        waiting, slow = iter(rows), False

        async def work() -> None:
            nonlocal slow
            for row in waiting:
                began = perf_counter()
                made = await self._prepare_or_postpone(row)
                slow = slow or perf_counter() - began > _SLOW_S
                if made is not None:
                    await self._finish([made])

        ended = await asyncio.gather(*(work() for _ in range(min(_FETCHES, len(rows)))), return_exceptions=True)
        for error in filter(None, ended):
            raise error
        if self._source.connector.fetches:
            self._limit = _FETCHES if slow else BATCH

    async def _prepare_or_postpone(self, row: InboxRow) -> Prepared | None:
        try:
            return await self._prepare(row)
        except StoreFailed:
            raise
        except Exception as error:  # a mistake of ours: this row later, the others now
            log.error("prepare.failed", exc_info=error, extra={"source": row.source, "key": row.key})
            end = Settlement(
                status="ready", outcome="retry", due_in_s=_AFTER_MISTAKE_S, reason=f"{type(error).__name__} in the gateway itself"
            )
            await self._end(row, end, perf_counter(), self._clock.now_ms())
            return None

    async def _finish(self, ready: Sequence[Prepared]) -> None:
        """Commit them together; if that fails, one by one, so that one row costs no other its message."""
        try:
            await retry_commit(self._clock, lambda: self._store.prepared(ready))
        except StoreFailed:
            raise
        except (LeaseLost, Outdated, StoreError) as error:
            if len(ready) > 1:
                for one in ready:
                    await self._finish([one])
            elif isinstance(error, Outdated):
                again = await self._prepare_or_postpone(ready[0].row)
                if again is not None:
                    await self._finish([again])
            elif isinstance(error, LeaseLost):
                log.warning("prepare.lease_lost", extra={"source": self._source.name, "key": ready[0].row.key})
            else:
                end = Settlement(status="dead", outcome="dead", reason=f"the store refuses its message: {error}")
                await self._end(ready[0].row, end, perf_counter(), self._clock.now_ms())

    async def _prepare(self, row: InboxRow) -> Prepared | None:
        began, began_ms = perf_counter(), self._clock.now_ms()
        try:
            if row.order_ref is None:
                await self._reread(row)
                return None
            document = await self._document(row)
            previous = await self._previous(row)
            order = await self._read(row, document, previous)
            return await self._prepared(await self._with_version(row, order), order, previous)
        except LeaseLost:
            log.warning("prepare.lease_lost", extra={"source": self._source.name, "key": row.key})
        except _Revision as revision:
            end = Settlement(status="held", outcome="revision", reason=revision.reason, detail=revision.detail)
            await self._end(row, end, began, began_ms, with_earlier=True)
        except _Earlier as earlier:
            await self._end(row, Settlement(status="done", outcome="earlier_version", reason=str(earlier)), began, began_ms)
        except StoreError:
            raise
        except (GatewayError, Misread, TimeoutError) as error:
            await self._end(row, settlement(row, error, self._retry, now=now_for_ages(self._store)), began, began_ms)
            if isinstance(error, PluginError):
                log.error("plugin.failed", exc_info=error, extra={"source": row.source, "key": row.key, "order_ref": row.order_ref})
        return None

    async def _reread(self, row: InboxRow) -> None:
        """Read an unreadable envelope again, after an operator replayed it."""
        assert row.door != "submit"  # what a connector makes of an answer can be read
        envelope = Envelope(source=row.source, door=row.door, body=row.document or b"", received_at=row.received_at)
        try:
            events = await self._source.hook_runner.run("read", lambda: self._source.connector.read(envelope))
        except Rejected as error:
            raise PermanentError("rejected by the connector; its reason was for the sender") from error
        came = incoming(events, self._source.stages, self._source.earlier_versions)
        accepted = await retry_commit(self._clock, lambda: self._store.reaccept(row, came))
        warn_of_flagged(row.source, came, accepted)

    async def _document(self, row: InboxRow) -> bytes:
        """Return the document that holds the order: the event's own, or the fetched one."""
        for document, sha256 in ((row.document, row.sha256), (row.fetched, row.fetched_sha256)):
            if document is not None and hashlib.sha256(document).digest() != sha256:
                log.critical("store.damaged_document", extra={"source": row.source, "key": row.key, "order_ref": row.order_ref})
                raise PermanentError("the stored document is damaged: its SHA-256 differs from the one it was stored with")
        if not row.fetch and row.document is not None:
            return row.document
        return await self._fetch(row) if row.fetched is None else row.fetched

    async def _fetch(self, row: InboxRow) -> bytes:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            document = await self._fetched(row)
        await retry_commit(self._clock, lambda: self._store.keep_document(row, document, hashlib.sha256(document).digest()))
        return document

    async def _fetched(self, row: InboxRow) -> bytes:
        """Call `fetch`, and show in `readyz` if the vendor refuses the credentials."""
        try:
            document = await self._source.connector.fetch(_event(row), self._source.client)
        except AuthError as error:
            self._metrics.health.set_door(self._source.name, "fetch", "down", str(error))
            raise
        self._metrics.health.set_door(self._source.name, "fetch", "up")
        return document

    async def _previous(self, row: InboxRow) -> Order | None:
        """Return the order's newest message, if the connector or a comparison needs it."""
        if not row.messages or not (row.version > 1 or self._takes_previous or self._compares):
            return None
        return read_order(await retry_commit(self._clock, lambda: self._store.newest_message(row)))

    async def _read(self, row: InboxRow, document: bytes, previous: Order | None) -> Order:
        """Read the order; fetch it again if an earlier attempt stored a document that makes no sense.

        A vendor's maintenance page may come with a 200: kept for good, no replay could get past it.
        """
        try:
            return await self._order(row, document, previous)
        except (PermanentError, PluginError):
            if row.fetched is None or document is not row.fetched:
                raise
        return await self._order(row, await self._fetch(row), previous)

    async def _order(self, row: InboxRow, document: bytes, previous: Order | None) -> Order:
        try:
            normalize = self._source.connector.normalize
            return await self._source.hook_runner.run("normalize", lambda: normalize(_event(row), document, previous))
        except Hold as hold:
            if hold.order is not None and (row.released or (hold.revision and self._source.on_revision != "hold")):
                return hold.order
            hold.detail = None if hold.order is None else difference(previous, hold.order)
            raise

    async def _with_version(self, row: InboxRow, order: Order) -> InboxRow:
        """Return the row with its version, if fetched content makes the versions. Raises Ignore for the newest content, _Earlier."""
        if not self._compares or row.content_checked or not (row.fetch or row.document is None):
            return row
        digest, sends = hashlib.sha256(content(order)).digest(), self._source.earlier_versions == "send"
        found = await retry_commit(self._clock, lambda: self._store.compare(row, digest, sends_earlier=sends))
        if found.verdict == "same":
            raise Ignore("the order is as it was")
        if found.verdict == "earlier":
            raise _Earlier(found.reason)
        return msgspec.structs.replace(row, version=found.version, content_checked=True)

    async def _prepared(self, row: InboxRow, order: Order, previous: Order | None) -> Prepared:
        policy = self._source.on_revision
        if row.version > 1 and policy == "hold" and not row.released and not row.after_rejection:
            raise _Revision(previous, order, row.version)
        sent: frozenset[str] = frozenset()
        supersede = policy == "replace" and row.version > 1
        if row.messages:
            sent = await retry_commit(self._clock, lambda: self._store.sent_before(row, supersede=supersede))
        n = row.messages + 1
        key = f"{row.source}/{row.order_ref}/{n}"
        order = numbered(row, order, previous)
        made = deliveries(self._source, row, key, order, sent)
        is_open = self._tells_open and await self._source.hook_runner.run("is_open", lambda: self._source.connector.is_open(order))
        return Prepared(
            row=row,
            key=key,
            n=n,
            deliveries=made,
            sent=sent,
            supersedes=supersede,
            open=is_open,
            number=order.order_number,
        )

    async def _end(self, row: InboxRow, end: Settlement, began: float, began_ms: int, *, with_earlier: bool = False) -> None:
        duration_ms = round((perf_counter() - began) * 1000)
        end = msgspec.structs.replace(end, started_at_ms=began_ms, duration_ms=duration_ms)
        await retry_commit(self._clock, lambda: self._store.settle_inbox(row, end, with_earlier=with_earlier))
        log.log(
            logging.INFO if end.status == "ready" or end.outcome == "ignored" else logging.WARNING,
            "prepare.attempted",
            extra={
                "source": row.source,
                "order_ref": row.order_ref,
                "key": row.key,
                "attempt": row.attempts,
                "outcome": end.outcome,
                "status": end.status,
            },
        )


def _needs_fetch(row: InboxRow) -> bool:
    """Return True if the order must be fetched first."""
    return row.order_ref is not None and row.fetched is None and (row.fetch or row.document is None)


def _event(row: InboxRow) -> Event:
    assert row.order_ref is not None
    document = row.document if row.fetch else None
    return Event(key=row.key, order_ref=row.order_ref, document=document, occurred_at=row.occurred_at, reference=row.reference)
