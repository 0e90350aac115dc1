"""The store as the doors and the engine see it: rows, statuses, and one method per state transition. No SQL here.

    inbox    ready -> leased -> done | held | dead          outbox   ready -> leased -> done | held | dead
             held  -> ready (release) | done (drop)                  the same
             dead  -> ready (replay)  | done (drop)                  the same
             leased -> ready (retry, hand-back, restart)             the same
                                                                     leased -> unknown (nobody knows whether it was taken)
                                                                     unknown -> leased (to look it up) -> done | unknown | ready | held

Rows of one order form a lane: only its oldest open row can be leased, so nothing overtakes. No message leaves while a later
version of its order is in the inbox and has not been looked at: it may have to wait with it, or be replaced.

Each method is one transaction; it is durable when its coroutine returns, and whole whether or not its caller was cancelled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct

from gateway.api.messages import Door, Stage
from gateway.api.order import Kind
from gateway.store.arrivals import Accepted, Compared, Incoming
from gateway.store.decisions import Deciding
from gateway.store.outcome import Progress, Settlement
from gateway.store.retention import Disk, Keeping
from gateway.store.row_names import Queue, Status
from gateway.store.submissions import Submissions
from gateway.store.targets import Held, Stray, Targets
from gateway.store.waiting import Sides

Came = Door | Literal["submit"]
STATUSES: tuple[Status, ...] = ("ready", "leased", "done", "held", "dead")
OUTBOX_STATUSES: tuple[Status, ...] = (*STATUSES, "unknown")
_WITH_UNKNOWN: tuple[Queue, ...] = ("outbox", "submit")


def statuses_of(queue: Queue) -> tuple[Status, ...]:
    """The statuses that a row of this queue can have."""
    return OUTBOX_STATUSES if queue in _WITH_UNKNOWN else STATUSES


class Verdict(Struct, frozen=True, kw_only=True):
    """What has become of an event by now: `waits` for a person, or `refused` by a target for a reason."""

    state: Literal["pending", "delivered", "refused", "waits"]
    reason: str = ""


class InboxRow(Struct, frozen=True, kw_only=True):
    """A leased inbox row. `messages` counts what was made of its order before; `compared`: its version is the fetched order's.

    `afresh`: the version before was refused and its sender told so, so this one is no revision of anything.
    """

    id: int
    lease: int
    source: str
    door: Came
    key: str
    version: int
    order_id: int | None
    order_ref: str | None
    messages: int
    attempts: int
    released: bool
    reference: str | None
    occurred_at: datetime | None
    received_at: datetime
    document: bytes | None
    sha256: bytes | None
    fetch: bool
    compared: bool
    afresh: bool
    fetched: bytes | None
    fetched_sha256: bytes | None


class Delivery(Struct, frozen=True, kw_only=True):
    """One new outbox row."""

    target: str
    kind: Kind
    body: bytes
    sha256: bytes


class Prepared(Struct, frozen=True, kw_only=True):
    """What the prepare step made of one row: message `n` of its order, once per target that wants it.

    Attributes:
        sent: What `sent_before` said when it was made; None where nobody asked.
        supersedes: What has surely not left of the order's earlier messages ends with the commit of this one.
        open: The order may still change at a vendor that is asked order by order.
        number: The vendor's own number of the order.
    """

    row: InboxRow
    key: str
    n: int
    deliveries: tuple[Delivery, ...]
    sent: frozenset[str] | None = None
    supersedes: bool = False
    open: bool = False
    number: str | None = None


class Open(Struct, frozen=True, kw_only=True):
    """An open order; `message` is the body of the newest message made of it."""

    id: int
    order_ref: str
    message: bytes | None


class OutboxRow(Struct, frozen=True, kw_only=True):
    """A leased delivery.

    Attributes:
        maybe_delivered: An earlier attempt may have reached the target.
        in_doubt_since: Since when nobody knows whether the last request was done; None where that is known.
        lookup_attempts: How many look-ups since then have not found it.
        ambiguous_failures: How many attempts ended in an answer that is believed a few times only.
        erp_id, erp_number: What the target calls the order, once it has said so.
        step: How many of the target's requests for this order are finished; 0: not even the first.
        item: How many requests of the step after those are finished.
        sent_sha256: Of the body that was announced last.
    """

    id: int
    lease: int
    target: str
    source: str
    order_id: int
    order_ref: str
    inbox_id: int
    key: str
    kind: Kind
    attempts: int
    first_attempt_at: datetime | None
    occurred_at: datetime | None
    received_at: datetime
    body: bytes | None
    sha256: bytes
    maybe_delivered: bool = False
    in_doubt_since: datetime | None = None
    lookup_attempts: int = 0
    ambiguous_failures: int = 0
    erp_id: str | None = None
    erp_number: str | None = None
    step: int = 0
    item: int = 0
    sent_sha256: bytes | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether it may be at the target without anybody knowing."""
        return self.in_doubt_since is not None or (self.maybe_delivered and self.step == 0)


class AckRow(Struct, frozen=True, kw_only=True):
    """A leased acknowledgement."""

    id: int
    lease: int
    source: str
    stage: Stage
    order_ref: str
    reference: str
    attempts: int
    first_attempt_at: datetime | None


class Store(Keeping, Submissions, Deciding, Targets, Protocol):
    """One method per transition. Raises `StoreBusy` where nothing was committed, `StoreFailed` where all is over."""

    async def register(self, sources: Sequence[str]) -> dict[str, datetime]:
        """Note the sources that exist; when each was first started."""

    async def cursor(self, source: str, door: Door) -> str | None:
        """The last committed cursor."""

    async def accept(
        self, source: str, door: Door, events: Sequence[Incoming], *, cursor: str | None = None, patience_s: float | None = None
    ) -> list[Accepted]:
        """Make events, their acknowledgements and the cursor durable, all or none.

        An order that comes again with the content of its newest version is a repeat. With content that it had before, or that the
        vendor counts or dates before the newest version, it is kept as done with the outcome `earlier_version`, and is a repeat
        from then on. An event whose key is another order's is a dead letter. Digests of contents live as long as their keys.

        With `patience_s`, raises TimeoutError where that takes longer, to a quarter of a second: whether it will be done is unknown.
        """

    async def reaccept(self, row: InboxRow, events: Sequence[Incoming]) -> list[Accepted]:
        """Replace a replayed dead letter that can now be read by the events in it.

        What the vendor does not date is as old as the dead letter: an earlier version where a newer one came meanwhile.
        """

    async def lease_inbox(self, source: str, limit: int, *, give_way_s: float = 0.0) -> list[InboxRow]:
        """Lease due rows, oldest first, one per order.

        With `give_way_s`, wait up to so many seconds while several events wait for their commit: their senders wait for an answer.
        """

    async def keep_document(self, row: InboxRow, document: bytes, sha256: bytes) -> None:
        """Keep what `fetch` brought, so that no later attempt fetches again."""

    async def compare(self, row: InboxRow, content: bytes, *, sends_earlier: bool = False) -> Compared:
        """Say what a fetched order is by its digest, and make a new one the newest version."""

    async def newest_message(self, row: InboxRow) -> bytes | None:
        """The body of the newest message made of the row's order; None where there is none, or it has been erased."""

    async def open_orders(self, source: str, after: int, limit: int) -> list[Open]:
        """Open orders whose id is above `after`, oldest first."""

    async def sent_before(self, row: InboxRow, *, supersede: bool) -> frozenset[str]:
        """The targets that have, or may have, an earlier message of this order.

        With `supersede`, what has surely not left for a target does not count: `prepared` will take it out of the way. Changes nothing.
        """

    async def prepared(self, made: Sequence[Prepared]) -> None:
        """Insert the deliveries, supersede what they replace, and finish their inbox rows.

        Raises LeaseLost, and `Outdated` where `sent` is no longer true, and then does nothing of it.
        """

    async def settle_inbox(self, row: InboxRow, end: Settlement, *, with_earlier: bool = False) -> None:
        """End one attempt. With `with_earlier`, what has not left of the same order is held with it."""

    async def lease_outbox(
        self, target: str, limit: int, *, records_intent: bool = False, early: bool = False, but_not: Collection[int] = ()
    ) -> list[OutboxRow]:
        """Take due deliveries, oldest due first, one per order; `early`, also what is due later; `but_not` those where there are others.

        Those others are taken from both ends in turn, by how many `but_not` names: where many that fail have come first, a newer one goes.
        With `records_intent`, a worker records each request before it leaves (`start_request`): what a crash finds leased and
        not announced has surely not left. Without, whatever a crash finds leased may have been taken.
        """

    async def start_request(self, row: OutboxRow, sha256: bytes | None) -> None:
        """A request for this row is about to leave. If nothing more is heard of it, the row is `unknown`. Raises LeaseLost."""

    async def finished(self, row: OutboxRow, progress: Progress) -> None:
        """One of several requests is done; a restart goes on behind it. Raises LeaseLost."""

    async def claimant(self, row: OutboxRow, erp_id: str) -> str | None:
        """The key of another order's message that became this order of the target, or None."""

    async def settle_outbox(self, row: OutboxRow, end: Settlement, *, acknowledge: bool = False) -> None:
        """End one attempt; with `acknowledge`, the last delivery of an event makes its delivered-stage acknowledgement."""

    async def lease_acknowledgements(self, source: str, limit: int) -> list[AckRow]:
        """Take due acknowledgements of one stage."""

    async def settle_acknowledgements(self, ends: Sequence[tuple[AckRow, Settlement]]) -> None:
        """End one attempt for each."""

    async def hasten(self, target: str, within_s: float) -> int:
        """Make what waits for a later try due soon, spread over `within_s`: the target is back."""

    async def shift_due(self, delta_ms: int, longest_ms: int) -> None:
        """The wall clock jumped by `delta_ms`: due times move with it, and none is further away than `longest_ms`.

        So does a first start that would be in the future, of which a new process knows only that it is past.
        """

    async def release_all_leases(self) -> None:
        """Give back everything that is leased: whoever leased it is gone. What was being sent may have been taken, what was
        announced as being sent is `unknown`."""

    async def wait(self, queue: Queue, name: str, timeout_s: float) -> None:
        """Return when rows of a source or target may have become ready, at the latest after the timeout."""

    async def next_due_s(self, queue: Queue, name: str) -> float | None:
        """Seconds until the next row is due; None where none waits for a time."""

    async def verdict(self, source: str, key: str) -> Verdict:
        """What has become of an accepted event; `key` as `Accepted` gave it."""

    async def reject(self, source: str, key: str, reason: str) -> bool:
        """End an event that a target has refused, since its sender is told now and will send the order anew.

        What of it has not left for another target ends too. False, and nothing is done, where nothing of it is refused.
        """


class Reader(Protocol):
    """What pages, commands and metrics show; it cannot change anything. Rows are dicts ready for JSON but for bodies."""

    async def summary(self) -> dict[Queue, dict[str, Any]]:
        """Per queue the counts by status, the same `by_name` of source or target, and `oldest_ms` of what is under way."""

    async def disk(self) -> Disk:
        """How large the file is, and how long the disk will last."""

    async def restored_at(self) -> str | None:
        """When a copy was put back, until somebody says that the gap is closed."""

    async def held_targets(self) -> dict[str, Held]:
        """What people hold, by target."""

    async def strays(self, sources: Collection[str], targets: Collection[str]) -> list[Stray]:
        """Rows under way whose source or target is none of these."""

    async def sources(self) -> dict[str, str | None]:
        """When each source's last message came."""

    async def rows(
        self, queue: Queue, *, status: Status | None = None, name: str | None = None, limit: int = 50, sides: Sides = ...
    ) -> list[dict[str, Any]]:
        """The newest rows of a queue, each with what it `waits` for and `next_at`."""

    async def standing(self, sides: Sides = ...) -> list[dict[str, Any]]:
        """What does not move, by queue, name and status: how many, the oldest `row`, what it `waits` for and `next_at`."""

    async def deliveries(self, target: str, *, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Deliveries that are done, held, dead or unknown, newest first, from below the id `before`, with their bodies; what
        was dropped or superseded is left out."""

    async def orders(self, *, source: str | None = None, limit: int = 50, sides: Sides = ...) -> list[dict[str, Any]]:
        """The newest orders."""

    async def show(self, key: str, *, sides: Sides = ...) -> list[dict[str, Any]]:
        """Everything known of what a key names, bodies as bytes under `body`. Raises GatewayError where it may be several things."""
