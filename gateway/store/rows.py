"""Rows that the store hands out and takes in. Statuses are in `row_names`, events on their way in are in `arrivals`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from gateway.api.messages import Door, Stage
from gateway.api.order import Kind

Channel = Door | Literal["submit"]


class InboxRow(Struct, frozen=True, kw_only=True):
    """Leased event.

    Attributes:
        door: The channel by which it came; `submit` for an event in a vendor's answer to a command.
        messages: The number of messages made of its order before.
        released: An operator has released or replayed it.
        fetch: The order must be fetched.
        content_checked: `version` counts the fetched contents.
        after_rejection: The version before was refused and its sender told so: this one is no revision of anything.
    """

    id: int
    lease: int
    source: str
    door: Channel
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
    content_checked: bool
    after_rejection: bool
    fetched: bytes | None
    fetched_sha256: bytes | None


class Delivery(Struct, frozen=True, kw_only=True):
    """New outbox row."""

    target: str
    kind: Kind
    body: bytes
    sha256: bytes


class Prepared(Struct, frozen=True, kw_only=True):
    """Result of the prepare step for one event: message `n` of its order, one delivery for each target that takes it.

    Attributes:
        sent: The answer of `sent_before` that the message was made with; None if it was not asked.
        supersedes: End the order's earlier messages that have surely not left.
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


class OpenOrder(Struct, frozen=True, kw_only=True):
    """Order that may still change at its vendor; `message` is the body of its newest message."""

    id: int
    order_ref: str
    message: bytes | None


class OutboxRow(Struct, frozen=True, kw_only=True):
    """Leased delivery.

    Attributes:
        maybe_delivered: An earlier attempt may have reached the target.
        in_doubt_since: Since when the outcome of the last request is unknown; None if it is known.
        lookup_attempts: The number of look-ups since then that did not find it.
        ambiguous_failures: The number of attempts that ended in an answer that is believed a few times only.
        erp_id, erp_number: What the target calls the order, once it has said so.
        step: The number of the target's requests for this order that are finished.
        item: The number of finished requests of the step after those.
        sent_sha256: SHA-256 of the body that was announced last.
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
        """True if the target may have the order and the gateway does not know."""
        return self.in_doubt_since is not None or (self.maybe_delivered and self.step == 0)


class AckRow(Struct, frozen=True, kw_only=True):
    """Leased acknowledgement."""

    id: int
    lease: int
    source: str
    stage: Stage
    order_ref: str
    reference: str
    attempts: int
    first_attempt_at: datetime | None


class Verdict(Struct, frozen=True, kw_only=True):
    """State of an accepted event: `waits` for a decision, or `refused` by a target for a reason."""

    state: Literal["pending", "delivered", "refused", "waits"]
    reason: str = ""
