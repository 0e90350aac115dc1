"""Page of the supplier's order list; single rows may be unreadable (vendors/apicbase.md section 2).

    {"count": 2, "next": "https://.../?page=2", "previous": null, "results": [{...}, {...}]}

The envelope is known from third-party reconstructions only, so `count` and `next` may be missing. One row that is poison
(NaN, half a surrogate pair, nested without end) makes the whole page no JSON; it is cut out and becomes a dead letter, so
that it does not stop every order behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import UNSET, Struct

from gateway import Event, PermanentError, Unreadable, list_apart, without_input
from gateway_apicbase.event import event
from gateway_apicbase.wire import read

# What the vendor gives where `page_size` means nothing to it: a page of this length may be a full one.
_DEFAULT_PAGE_SIZE = 10
_NEXT_LIMIT = 2000


class Row(Struct, frozen=True, kw_only=True):
    """Row of the list: an order or a dead letter. `ordered_at` is None if unknown."""

    found: Event | Unreadable
    ordered_at: datetime | None


class Listing(Struct, frozen=True, kw_only=True):
    """A page.

    Attributes:
        count: Of all pages, where the vendor says so.
        has_next: None where the vendor does not say.
        next_query: The query of the vendor's `next` link. Its host and path are of no interest.
        fingerprint: Equal for two readings of a page that nothing was moved on to or away from.
    """

    rows: Sequence[Row]
    count: int | None = None
    has_next: bool | None = None
    next_query: Mapping[str, str] = {}
    fingerprint: str = ""

    def has_more(self, page_size: int) -> bool:
        """Return True if there may be another page; if the vendor does not say, a full page means yes."""
        if self.has_next is not None:
            return self.has_next
        return len(self.rows) >= min(page_size, _DEFAULT_PAGE_SIZE)


NOTHING = Listing(rows=(), has_next=False)


class _Page(Struct):
    results: list[msgspec.Raw]
    count: Any = None
    next: Any = UNSET


def read_listing(body: bytes, zone: tzinfo) -> Listing:
    """Read a page.

    Raises:
        PermanentError: It is not of that shape (a sign-in page, a cut-off answer, another envelope).
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        page = msgspec.json.decode(body, type=_Page)
        raw = [bytes(row) for row in page.results]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        envelope, raw = list_apart(body, "results")  # one that is poison stops no other
        try:
            page = msgspec.json.decode(envelope, type=_Page)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise PermanentError(
                f"the list of orders is not the JSON expected; check base_url and list_path: {without_input(error)}"
            ) from error
    rows = [_row(document, zone) for document in raw]
    count = page.count if isinstance(page.count, int) else None
    return Listing(
        rows=rows,
        count=count,
        has_next=None if page.next is UNSET else bool(page.next),
        next_query=_query(page.next) if isinstance(page.next, str) else {},
        fingerprint=_fingerprint(count, rows),
    )


def _row(document: bytes, zone: tzinfo) -> Row:
    try:
        found = event(read(document), document, zone)
    except (PermanentError, ValueError) as error:
        return Row(found=Unreadable(document=document, reason=without_input(error)), ordered_at=None)
    return Row(found=found, ordered_at=found.occurred_at)


def _query(link: str) -> Mapping[str, str]:
    try:
        query = dict(parse_qsl(urlsplit(link).query))
    except ValueError as error:
        raise PermanentError("the list's `next` is no address") from error
    if len(link) > _NEXT_LIMIT:
        raise PermanentError(f"the list's `next` is longer than {_NEXT_LIMIT} characters")
    return query


def _fingerprint(count: int | None, rows: Sequence[Row]) -> str:
    names = [row.found.key if isinstance(row.found, Event) else hashlib.sha256(row.found.document).hexdigest() for row in rows]
    return hashlib.sha256(msgspec.json.encode([count, names])).hexdigest()[:32]
