"""The store as the doors and the engine see it: one method for each state transition. No SQL here.

Every event becomes an inbox row. The prepare step makes messages of it: an outbox row for each target. What a vendor must be told becomes
an acknowledgement, what a caller wants sent to a vendor a submission. Each of the four is a queue of rows (`rows.py`, `submissions.py`):

    ready -> leased         A worker takes a due row and counts an attempt. The lease is a fencing token: without it nothing is settled.
    leased -> done          The attempt succeeded.
    leased -> ready         It is tried again later.
    leased -> unknown       Outbox and submit only: the outcome of a request is in doubt. Leased again, to be looked up, it becomes
                            done, ready, held or unknown.
    leased -> held | dead   An operator must decide: release or drop what is held, replay or drop what is dead.

Rows of one order share an ordering key, in the outbox for each target: only the oldest open one has a due time and can be leased, so that
nothing overtakes. No message leaves while a later version of its order waits in the inbox: that may hold or replace it.

Each method is one transaction. When its coroutine returns, it is durable; it is whole even if its caller was cancelled. Methods raise
`StoreBusy` if nothing was committed, and `StoreFailed` if the store cannot be trusted any more.

The parts: decisions of operators (`decisions.py`), commands for vendors (`submissions.py`), whole targets (`targets.py`), retention and the
file's own upkeep (`retention.py`). `reader.py` is the half that only reads. `sqlite/` is the store that there is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from gateway.api.messages import Door
from gateway.store.arrivals import Accepted, Compared, NewEvent
from gateway.store.decisions import DecisionStore
from gateway.store.outcome import Progress, Settlement
from gateway.store.retention import MaintenanceStore, RetentionStore
from gateway.store.row_names import Queue
from gateway.store.rows import AckRow, InboxRow, OpenOrder, OutboxRow, Prepared, Verdict
from gateway.store.submissions import SubmissionStore
from gateway.store.targets import TargetStore


class Store(DecisionStore, SubmissionStore, TargetStore, RetentionStore, MaintenanceStore, Protocol):
    """Transactions of a running gateway."""

    # The doors

    async def register(self, sources: Sequence[str]) -> dict[str, datetime]:
        """Record the configured sources, and return when each was first started."""

    async def cursor(self, source: str, door: Door) -> str | None:
        """Return the last committed cursor."""

    async def accept(
        self, source: str, door: Door, events: Sequence[NewEvent], *, cursor: str | None = None, patience_s: float | None = None
    ) -> list[Accepted]:
        """Make events, their acknowledgements and the cursor durable, all or none.

        An order that comes again with the content of its newest version is a repeat. With content that it had before, or that the
        vendor counts or dates before the newest version, it is kept as done with the outcome `earlier_version`, and is a repeat
        from then on. An event whose key is another order's is a dead letter. Digests of contents live as long as their keys.

        With `patience_s`, raises TimeoutError where that takes longer, to a quarter of a second: whether it will be done is unknown.
        """

    async def verdict(self, source: str, key: str) -> Verdict:
        """Return what has become of an accepted event; `key` as in `Accepted`."""

    async def reject(self, source: str, key: str, reason: str) -> bool:
        """End an event that a target has refused: its sender is told now, and will send the order anew.

        Its messages that have not left for another target end too. False, and nothing is done, if nothing of it is refused.
        """

    # Prepare

    async def lease_inbox(self, source: str, limit: int, *, give_way_s: float = 0.0) -> list[InboxRow]:
        """Lease due rows, oldest first, one per order.

        With `give_way_s`, wait up to so many seconds while several events wait for their commit: their senders wait for an answer.
        """

    async def keep_document(self, row: InboxRow, document: bytes, sha256: bytes) -> None:
        """Store the fetched document, so that no later attempt fetches again. Raises LeaseLost."""

    async def compare(self, row: InboxRow, content: bytes, *, sends_earlier: bool = False) -> Compared:
        """Compare a fetched order with its earlier versions by its digest, and make a new one the newest. Raises LeaseLost."""

    async def newest_message(self, row: InboxRow) -> bytes | None:
        """Return the body of the newest message of the row's order; None if there is none, or if it was redacted."""

    async def open_orders(self, source: str, after: int, limit: int) -> list[OpenOrder]:
        """Return open orders whose id is above `after`, oldest first."""

    async def sent_before(self, row: InboxRow, *, supersede: bool) -> frozenset[str]:
        """Return the targets that have, or may have, an earlier message of this order.

        With `supersede`, what has surely not left for a target does not count: `prepared` will end it. Changes nothing.
        """

    async def prepared(self, made: Sequence[Prepared]) -> None:
        """Insert the deliveries, end what they supersede, and finish their inbox rows, all or none.

        Raises LeaseLost, and `Outdated` if `sent` is no longer true.
        """

    async def reaccept(self, row: InboxRow, events: Sequence[NewEvent]) -> list[Accepted]:
        """Replace a replayed dead letter, which can be read now, by its events. Raises LeaseLost.

        What the vendor does not date is as old as the dead letter: an earlier version if a newer one came meanwhile.
        """

    async def settle_inbox(self, row: InboxRow, end: Settlement, *, with_earlier: bool = False) -> None:
        """End one attempt. With `with_earlier`, hold with it what has not left of the same order. Raises LeaseLost."""

    # Deliver

    async def lease_outbox(
        self, target: str, limit: int, *, records_intent: bool = False, early: bool = False, but_not: Collection[int] = ()
    ) -> list[OutboxRow]:
        """Lease due deliveries, oldest due first, one per order.

        Args:
            records_intent: A worker records each request before it leaves (`start_request`): what a crash finds leased and not
                recorded has surely not left. Without, whatever a crash finds leased may have been delivered.
            early: Also lease what is due later.
            but_not: Rows that are taken only if there are no others. The others are taken from both ends in turn, by the length of
                `but_not`: where many that fail have come first, a newer one goes.
        """

    async def start_request(self, row: OutboxRow, sha256: bytes | None) -> None:
        """Record that a request is about to leave. If nothing more is heard of it, the row is `unknown`. Raises LeaseLost."""

    async def record_progress(self, row: OutboxRow, progress: Progress) -> None:
        """Record that one of several requests is done; a restart resumes behind it. Raises LeaseLost."""

    async def claimant(self, row: OutboxRow, erp_id: str) -> str | None:
        """Return the key of another order's message that became this order of the target, or None."""

    async def settle_outbox(self, row: OutboxRow, end: Settlement, *, acknowledge: bool = False) -> None:
        """End one attempt. Raises LeaseLost.

        With `acknowledge`, the last delivery of an event makes its acknowledgement of the stage `delivered`.
        """

    async def retry_soon(self, target: str, within_s: float) -> int:
        """Make what waits for a later try due soon, spread over `within_s`, since the target is back; return how many rows."""

    # Acknowledge

    async def lease_acknowledgements(self, source: str, limit: int) -> list[AckRow]:
        """Lease due acknowledgements of one stage."""

    async def settle_acknowledgements(self, ends: Sequence[tuple[AckRow, Settlement]]) -> None:
        """End one attempt for each. Raises LeaseLost."""

    # Every queue

    async def wait(self, queue: Queue, name: str, timeout_s: float) -> None:
        """Return when rows of a source or target may have become due, at the latest after the timeout."""

    async def next_due_s(self, queue: Queue, name: str) -> float | None:
        """Return the seconds until the next row is due; None if none waits for a time."""

    async def release_leases(self, queue: Queue, name: str, reason: str, ids: Sequence[int] | None = None) -> int:
        """Release rows whose attempt ended without a settlement: `ids`, or all that are leased of a source or target.

        They are due again later and later. What may have been delivered is marked so; a request that was recorded is `unknown`.
        """

    async def release_all_leases(self) -> None:
        """Release everything that is leased, since its workers are gone, with the same marks."""

    async def shift_due(self, delta_ms: int, longest_ms: int) -> None:
        """Move due times with a jump of the wall clock by `delta_ms`; none is further away than `longest_ms`.

        A first start that would be in the future moves as well: a new process knows of it only that it is past.
        """
