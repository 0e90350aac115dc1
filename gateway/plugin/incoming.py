"""Conversion of a connector's events to the inbox rows that the store accepts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable

from gateway.api.messages import Event, Stage, Unreadable
from gateway.config.settings import EarlierVersions
from gateway.store.arrivals import Accepted, NewEvent

log = logging.getLogger("gateway")


def incoming(
    events: Iterable[Event | Unreadable], stages: Collection[Stage] = (), earlier_versions: EarlierVersions = "flag"
) -> list[NewEvent]:
    """Convert events to rows for the store, with their digests and the `stages` to acknowledge at once."""
    sends = earlier_versions == "send"
    return [
        dead_letter(event.document, event.reason) if isinstance(event, Unreadable) else _event(event, stages, sends) for event in events
    ]


def dead_letter(document: bytes, reason: str) -> NewEvent:
    """Make a dead letter of an authentic document that cannot be read; its key is a digest, so that equal documents are one dead letter."""
    digest = hashlib.sha256(document).digest()
    return NewEvent(key=f"unreadable-{digest.hex()[:16]}", document=document, sha256=digest, dead=reason[:1000])


def _event(event: Event, stages: Collection[Stage], sends_earlier: bool) -> NewEvent:
    at_once: Stage | None = "stored" if "stored" in stages else None
    if event.ignored is not None and stages:  # it will reach no other stage
        at_once = at_once or "delivered"
    return NewEvent(
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


def warn_of_flagged(source: str, events: Iterable[NewEvent], accepted: Iterable[Accepted]) -> None:
    """Log a warning for each new event that an operator should look at."""
    for event, one in zip(events, accepted, strict=True):
        reason = event.ignored if event.flagged else one.flagged
        if reason is not None and one.outcome == "stored":
            log.warning("event.flagged", extra={"source": source, "key": one.key, "reason": reason})
