"""Events on their way into the inbox, and what the store finds them to be."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from gateway.api.messages import Stage
from gateway.store.outcome import storable


class NewEvent(Struct, frozen=True, kw_only=True):
    """Event on its way into the inbox.

    Attributes:
        key: Unique within the source, together with the version where `content` counts versions.
        order_ref: None if it could not be read.
        content: SHA-256 of what makes a version of the order; None where the key alone decides.
        sequence, as_of: How new it is among the events of its order, as the vendor counts or dates it.
        sends_earlier: What is an earlier version counts as a revision like any other.
        sha256: Of `document`.
        fetch: The order itself must be fetched.
        dead: Why it cannot be read; it becomes a dead letter at once.
        ignored: Why nothing is made of it; it is done at once, and counts as no version.
        flagged: With `ignored`: an operator should look at it.
        acknowledge: The stage that the commit reaches, if the vendor must be told of it.
    """

    key: str
    order_ref: str | None = None
    document: bytes | None = None
    sha256: bytes | None = None
    content: bytes | None = None
    sequence: int | None = None
    as_of: datetime | None = None
    sends_earlier: bool = False
    occurred_at: datetime | None = None
    reference: str | None = None
    fetch: bool = False
    dead: str | None = None
    ignored: str | None = None
    flagged: bool = False
    acknowledge: Stage | None = None

    def __post_init__(self) -> None:  # the key and the order's name are what they are: two may not become one
        for name in ("dead", "ignored", "reference"):
            if (text := getattr(self, name)) is not None and text != storable(text):
                force_setattr(self, name, storable(text))


class Accepted(Struct, frozen=True, kw_only=True):
    """Result for one `NewEvent`: stored now, or a repeat of what `key` names already.

    Attributes:
        flagged: Why nothing is made of it, where the store found that out: an earlier version, or a key of another order.
    """

    key: str
    outcome: Literal["stored", "repeat"]
    flagged: str | None = None


class Compared(Struct, frozen=True, kw_only=True):
    """Relation of a fetched order to those before it: a `new` version, the `same` as the newest one, or an `earlier` one.

    Attributes:
        version: Its number if it is new; else that of the version that has its content.
        reason: Why it is an earlier one.
    """

    verdict: Literal["new", "same", "earlier"]
    version: int
    reason: str = ""
