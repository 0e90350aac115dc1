"""Messages between the doors, a connector and the core, before there is a canonical order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from gateway.api.order import Order

# What programs write where they have no value, bare or in brackets or quotes; the nil UUID is zeros and signs.
_NO_IDENTITY = re.compile(r"[0\W_]*|[\W_]*(?:null|none|undefined|nil|nan|dbnull|n/a|object object)[\W_]*|\\N", re.IGNORECASE)

Door = Literal["webhook", "poll", "realtime"]
Stage = Literal["stored", "delivered"]


class Envelope(Struct, frozen=True, kw_only=True):
    """What arrived at a push door, untouched.

    Attributes:
        body: The raw body; a signature is checked over exactly these bytes.
            Through `realtime` it is one call of the hub: `{"target": NAME, "arguments": [...]}`, the arguments as they came.
        headers: Name and value pairs as they came, in order, repeats included.
        received_at: Our clock, UTC.
    """

    source: str
    door: Door = "webhook"
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    received_at: datetime

    def header(self, name: str) -> str | None:
        """The value of a header that came exactly once; None where it is missing or doubled."""
        wanted = name.lower().encode("ascii")
        found = [value for key, value in self.headers if key.lower() == wanted]
        return found[0].decode("latin-1").strip() if len(found) == 1 else None


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to one order.

    Attributes:
        key: The event's name within its source, the same through whichever door it comes. At most 200 characters.
        order_ref: The order's name within its source, the same over all its revisions. At most 200 characters.
        document: What came, as received: the vendor's full order, or, with `fetch`, what speaks about it.
        fetch: The order itself is not in the document; `fetch` gets it, and both are kept. Without a document always so.
        content: What makes a version of the order: two events of one order with equal `content` are the same version
            (a repeat), with other content a revision. With the content of a version before the newest it is kept, flagged
            `earlier_version` and not sent; an event that has a key of its own and comes again as it came last is a repeat even
            then. Put facts that are not the customer's doing (a status, a mark, the spelling of a date) outside it. None: the key
            alone decides, and the same key again is a repeat.
        sequence: How new it is among the events of its order: a number that the vendor counts up. An event with a lower one than
            the newest version's is an earlier version, whatever its content. None: the vendor has no such number.
        as_of: The same as an instant, aware: when the vendor says that the order was as it is here. Not when it was told, and
            none where the order is fetched later. Where two events both have a `sequence`, that decides.
        occurred_at: When it happened at the vendor, aware, or None; nothing is decided by it.
        reference: What `acknowledge` must name to the vendor; default the `order_ref`.
        ignored: Why nothing is made of it (another kind of event, an order from before the start): it is kept with its
            document, done at once, and belongs to no order. Where the source acknowledges anything, so is this.
        flagged: With `ignored`: a person should have a look, since nobody knows what it means. Outcome `flagged`, and a warning.
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
    """One element of a poll answer that is genuine but cannot be read: kept as a dead letter, the rest goes on."""

    document: bytes
    reason: str


class Page(Struct, frozen=True, kw_only=True):
    """What one `poll` call brought.

    Attributes:
        cursor: The connector's own resume point, stored in the same transaction as the events; at most 64 KiB.
        more: Ask again at once. After 100 pages in a row without an event, or an hour, the round is cut: the door is down, and a
            later round goes on from the cursor.
    """

    events: Sequence[Event | Unreadable] = ()
    cursor: str | None = None
    more: bool = False


class OpenOrder(Struct, frozen=True, kw_only=True):
    """An order that may still change at the vendor, for vendors that are asked order by order.

    Attributes:
        order: The last one made of it; None where its body has been erased.
    """

    order_ref: str
    order: Order | None


class Receipt(Struct, frozen=True, kw_only=True):
    """One thing to tell the vendor: this event has reached this stage.

    Attributes:
        id: What `acknowledge` returns where the vendor confirmed it.
        reference: As the event gave it.
        stage: `stored` (committed here) or `delivered` (every target has taken it).
    """

    id: int
    reference: str
    order_ref: str
    stage: Stage


def is_identity(text: str | None) -> bool:
    """Whether a text can name one thing.

    What programs write where they have nothing (`null`, `<none>`, `undefined`, `N/A`, `[object Object]`, the nil UUID, any text without
    a letter and without a digit but 0) would name many things.
    """
    return text is not None and not _NO_IDENTITY.fullmatch(text)
