"""A configured source at run time: one connector, its client, its doors and where its orders go."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct, field

from gateway.api.messages import Door, Event, Stage, Unreadable
from gateway.api.order import Kind
from gateway.api.vendor_client import VendorClient
from gateway.config.settings import EarlierVersions, OnRevision
from gateway.plugin.connector import Connector
from gateway.plugin.hook_threads import Confined
from gateway.store.base import Accepted, Incoming

log = logging.getLogger("gateway")


def _everything(_: bytes) -> bool:
    return True


class Destination(Struct, frozen=True, kw_only=True):
    """A target as a source sees it: its name, which kinds it takes, and whether it wants the order of a message.

    `wants` raises PermanentError where it cannot say.
    """

    target: str
    accepts: frozenset[Kind]
    wants: Callable[[bytes], bool] = _everything


class Keys(Protocol):
    """The public keys that a source's webhooks are signed with, kept fresh by somebody."""

    @property
    def current(self) -> Mapping[str, Any]:
        """The keys of now, by `kid`; empty before the first were had."""

    async def look_again(self) -> bool:
        """Fetch them anew, unless that was done just now; whether `current` can be relied on."""


class Source(Struct, kw_only=True):
    """What the doors and the engine need to know of one source.

    Attributes:
        since: When it was first started.
        client: None where the vendor is never called.
        answer_wait_s: How long a webhook's answer waits for what the targets say; 0 for not at all.
        keys: None where nothing is signed with keys that are kept elsewhere.
        confined: Where its plain hooks are called from.
    """

    name: str
    connector: Connector
    doors: tuple[Door, ...]
    on_revision: OnRevision
    destinations: tuple[Destination, ...]
    stages: frozenset[Stage]
    max_body_bytes: int
    max_requests_per_second: int
    since: datetime
    vendor: str
    earlier_versions: EarlierVersions = "flag"
    answer_wait_s: float = 0.0
    client: VendorClient | None = None
    keys: Keys | None = None
    confined: Confined = field(default_factory=Confined)


def incoming(
    events: Iterable[Event | Unreadable], stages: Collection[Stage] = (), earlier_versions: EarlierVersions = "flag"
) -> list[Incoming]:
    """Events as the store takes them, with their digests and, of the source's `stages`, what is to be acknowledged."""
    sends = earlier_versions == "send"
    return [
        dead_letter(event.document, event.reason) if isinstance(event, Unreadable) else _event(event, stages, sends) for event in events
    ]


def dead_letter(document: bytes, reason: str) -> Incoming:
    """Something genuine that cannot be read; the same bytes are the same dead letter."""
    digest = hashlib.sha256(document).digest()
    return Incoming(key=f"unreadable-{digest.hex()[:16]}", document=document, sha256=digest, dead=reason[:1000])


def _event(event: Event, stages: Collection[Stage], sends_earlier: bool) -> Incoming:
    at_once: Stage | None = "stored" if "stored" in stages else None
    if event.ignored is not None and stages:  # it will reach no other stage
        at_once = at_once or "delivered"
    return Incoming(
        key=event.key,
        order_ref=event.order_ref,
        document=event.document,
        sha256=None if event.document is None else hashlib.sha256(event.document).digest(),
        content=None if event.content is None else hashlib.sha256(event.content).digest(),
        sequence=event.sequence,
        as_of=event.as_of,
        sends_earlier=sends_earlier,
        occurred_at=event.occurred_at,
        reference=event.reference,
        fetch=event.fetch or event.document is None,
        ignored=event.ignored,
        flagged=event.flagged,
        acknowledge=at_once,
    )


def warn_of_flagged(source: str, events: Iterable[Incoming], accepted: Iterable[Accepted]) -> None:
    """One warning for each event that is new, and that a person should look at."""
    for event, one in zip(events, accepted, strict=True):
        reason = event.ignored if event.flagged else one.flagged
        if reason is not None and one.outcome == "stored":
            log.warning("event.flagged", extra={"source": source, "key": one.key, "reason": reason})


__all__: Sequence[str] = ["Destination", "Keys", "Source", "dead_letter", "incoming", "warn_of_flagged"]
