"""Structs that doors, connectors and the core exchange before there is a canonical order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from gateway.api.order import Order

# Words that programs write for no value, bare or in brackets or quotes; the nil UUID is zeros and signs.
_NO_IDENTITY = re.compile(r"[0\W_]*|[\W_]*(?:null|none|undefined|nil|nan|dbnull|n/a|object object)[\W_]*|\\N", re.IGNORECASE)

Door = Literal["webhook", "poll", "realtime"]
Stage = Literal["stored", "delivered"]


class Envelope(Struct, frozen=True, kw_only=True):
    """Raw request of a webhook, or call of a hub, as it arrived.

    Attributes:
        body: The raw body; a signature is checked over exactly these bytes.
            Through `realtime` it is one call of the hub: `{"target": NAME, "arguments": [...]}`, the arguments as they came.
        headers: Name and value pairs as they came, in order, repeats included.
        received_at: UTC, by the gateway's clock.
    """

    source: str
    door: Door = "webhook"
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    received_at: datetime

    def header(self, name: str) -> str | None:
        """Return the value of a header that came exactly once; None if it is missing or came twice."""
        wanted = name.lower().encode("ascii")
        found = [value for key, value in self.headers if key.lower() == wanted]
        return found[0].decode("latin-1").strip() if len(found) == 1 else None


class Event(Struct, frozen=True, kw_only=True):
    """An event: something that happened to one order.

    Attributes:
        key: Name of the event within its source, the same through every door. At most 200 characters.
        order_ref: Name of the order within its source, the same in all its revisions. At most 200 characters.
        document: The bytes as received: the vendor's full order, or, with `fetch`, the notice of it.
        fetch: True if the document is not the order itself: `fetch` gets the order, and both are kept. Implied without a document.
        content: The bytes that make a version of the order. Equal `content` in two events of one order is the same version (a
            repeat), other content is a revision. Content of a version before the newest is kept, flagged `earlier_version` and not
            sent; but an event with a key of its own that comes again unchanged is a repeat. Leave out facts that the customer does
            not decide (a status, a mark, the spelling of a date). None: the key alone decides, and the same key again is a repeat.
        sequence: Number that the vendor counts up with each change of the order. An event with a lower number than the newest
            version's is an earlier version, whatever its content. None: the vendor has no such number.
        as_of: Instant, aware, at which the order was as it is here, by the vendor's account: the time of the change, not of the
            notice; None if the order is fetched later. If two events both have a `sequence`, that decides.
        occurred_at: Instant of the event at the vendor, aware, or None; nothing is decided by it.
        reference: Name by which `acknowledge` refers to the event; default the `order_ref`.
        ignored: Reason why the event makes no message (another kind of event, an order from before the start). It is kept with its
            document, done at once, and belongs to no order. It is acknowledged like the others.
        flagged: With `ignored`: True if a person should look at it, since its meaning is unknown. Outcome `flagged`, and a warning.
    """

    key: str
    order_ref: str
    document: bytes | None = None
    fetch: bool = False
    content: bytes | None = None
    sequence: int | None = None
    as_of: datetime | None = None
    occurred_at: datetime | None = None
    reference: str | None = None
    ignored: str | None = None
    flagged: bool = False


class Unreadable(Struct, frozen=True, kw_only=True):
    """Genuine element of a webhook or poll that cannot be read: it becomes a dead letter, and the others go on."""

    document: bytes
    reason: str


class Page(Struct, frozen=True, kw_only=True):
    """Result of one call of `poll`.

    Attributes:
        cursor: The connector's resume point, stored in the same transaction as the events; at most 64 KiB.
        more: True to poll again at once. After 100 pages in a row without an event, or after an hour, the round is cut: the door is
            down, and a later round resumes at the cursor.
    """

    events: Sequence[Event | Unreadable] = ()
    cursor: str | None = None
    more: bool = False


class OpenOrder(Struct, frozen=True, kw_only=True):
    """Order that may still change at a vendor that is polled order by order.

    Attributes:
        order: The newest version; None if its body has been erased.
    """

    order_ref: str
    order: Order | None


class Receipt(Struct, frozen=True, kw_only=True):
    """Acknowledgement to send to the vendor: the event has reached the stage.

    Attributes:
        id: `acknowledge` returns it if the vendor confirmed.
        reference: As the event gave it.
        stage: `stored` (committed here) or `delivered` (every target has confirmed it).
    """

    id: int
    reference: str
    order_ref: str
    stage: Stage


def is_identity(text: str | None) -> bool:
    """Return True if a text can identify one thing.

    False for the words that programs write for no value: `null`, `<none>`, `undefined`, `N/A`, `[object Object]`, the nil UUID, any text
    without a letter and without a digit but 0.
    """
    return text is not None and not _NO_IDENTITY.fullmatch(text)
