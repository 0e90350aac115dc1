"""Paging through the supplier's order list, and the cursor between two requests (vendors/apicbase.md section 4, cases 4 to 6).

A *round* asks for `status=ORDERED` and then for `status=DELIVERED`, since an order that the customer marks as delivered
between two polls leaves the first list. Both *sweeps* begin an overlap below the watermark, which is the newest `ordered_on`
of earlier rounds: the vendor's filter `ordered_on__gt` is strict, and orders may become visible late.

A sweep asks for the oldest first and goes on by *key*: the next request begins a microsecond below the last row, so rows that
come or go meanwhile move nothing. Where all rows of a page share one instant it goes on by page number instead. And where
the list turns out to be in another order (by default it is newest first), it reads all pages by number and then looks at the
first one again: if that has changed, rows have moved, and it reads them all once more.

Everything here is pure; `poll` makes the one request that each step needs. A step's answer and the cursor are committed
together, so a crash resumes at the page that was not committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway import PermanentError
from gateway_apicbase.listing import Listing
from gateway_apicbase.settings import Settings

_TICK = timedelta(microseconds=1)
_MAX_PAGES = 10_000
_MAX_PASSES = 5


class Sweep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pass over the orders of one status, not finished.

    Attributes:
        lower: Its beginning; older orders are not requested.
        after: Lower bound of the next request, exclusive.
        page: Its page, from 1.
        query: The vendor's own query for that page.
        last: The newest order of the page before, where both belong to one request by key.
        before: The fingerprint of the page before.
        unordered: The list does not come oldest first.
        first: The fingerprint of the first page of this pass, where the list is unordered.
        passes: How often rows have moved so far.
        state: `shifting` is given up: the orders are stored, and the watermark stays.
    """

    status: Literal["ORDERED", "DELIVERED"]
    lower: datetime
    after: datetime
    page: int = 1
    query: dict[str, str] = {}
    last: datetime | None = None
    before: str = ""
    unordered: bool = False
    first: str = ""
    passes: int = 0
    state: Literal["reading", "through", "shifting"] = "reading"


class Round(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Both sweeps. `newest` is the newest order met in it."""

    started_at: datetime
    sweep: Sweep
    newest: datetime | None = None
    shifting: bool = False


class Cursor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State stored between two calls. `round` is None between two rounds."""

    watermark: datetime
    round: Round | None = None

    def text(self) -> str:
        return msgspec.json.encode(self).decode()


def resume(cursor: str | None, since: datetime, now: datetime, settings: Settings) -> tuple[datetime, Round]:
    """Return the watermark and the unfinished round, or a new one.

    A cursor that cannot be read, from another version of this plugin, starts again at the beginning: what comes again is
    a repeat.
    """
    floor = settings.start.after.astimezone(UTC) if settings.start else since - timedelta(seconds=settings.overlap_s)
    try:
        known = msgspec.json.decode(cursor, type=Cursor) if cursor else Cursor(watermark=floor)
    except msgspec.MsgspecError:
        known = Cursor(watermark=floor)
    if known.round is not None:
        return known.watermark, known.round
    # A whole second, so that a list that shows seconds only does not seem to hold orders from before; and a tick less, since
    # the filter is strict and there may be no overlap.
    watermark = min(known.watermark, now)  # later only where it was taken over from a first start whose clock was ahead
    below = (watermark - timedelta(seconds=settings.overlap_s)).replace(microsecond=0) - _TICK
    lower = max(floor, below)
    return watermark, Round(started_at=now, sweep=Sweep(status="ORDERED", lower=lower, after=lower))


def parameters(sweep: Sweep, settings: Settings) -> Mapping[str, str]:
    """Return the query of the next request.

    Source: https://developers.apicbase.com/reference/get-supplier-purchase-orders (`status`, `ordered_on__gt`) and
    /reference/pagination (`ordering`, `page_size`). The page selector has two names there; the `next` link knows better.
    """
    wanted = {
        "status": sweep.status,
        "ordered_on__gt": sweep.after.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "ordering": "ordered_on",
        "page_size": str(settings.page_size),
    }
    if sweep.page > 1:
        wanted |= sweep.query or {settings.page_parameter: str(sweep.page)}
    return wanted


def after_page(watermark: datetime, round_: Round, listing: Listing, settings: Settings) -> Cursor:
    """Return the cursor after a page. Raises PermanentError if the list leads nowhere."""
    times = [row.ordered_at for row in listing.rows if row.ordered_at is not None]
    newest = max([*times, *([round_.newest] if round_.newest else [])], default=None)
    sweep = advance(round_.sweep, listing, settings)
    shifting = round_.shifting or sweep.state == "shifting"
    if sweep.state == "reading":
        return Cursor(watermark=watermark, round=replace(round_, sweep=sweep, newest=newest, shifting=shifting))
    if sweep.status == "ORDERED":
        delivered = Sweep(status="DELIVERED", lower=sweep.lower, after=sweep.lower)
        return Cursor(watermark=watermark, round=replace(round_, sweep=delivered, newest=newest, shifting=shifting))
    if newest is None or shifting:
        return Cursor(watermark=watermark)
    # Not beyond the round's own beginning: an order may have been placed behind the sweep's back.
    return Cursor(watermark=max(watermark, min(newest, round_.started_at)))


def advance(sweep: Sweep, listing: Listing, settings: Settings) -> Sweep:
    """Return the sweep after another page."""
    if sweep.page > 1 and listing.rows and listing.fingerprint == sweep.before:
        raise PermanentError("the list gives the same page again; check page_parameter")
    if sweep.page > _MAX_PAGES:
        raise PermanentError(f"the list has no end after {_MAX_PAGES} pages; check page_parameter")
    more = listing.has_more(settings.page_size)
    if sweep.unordered:
        return _by_number(sweep, listing, more)
    times = [row.ordered_at for row in listing.rows if row.ordered_at is not None]
    oldest = sweep.last or sweep.after
    if times != sorted(times) or any(at < oldest for at in times):
        return _unordered(sweep, listing, more)
    if not more:
        return replace(sweep, state="through")
    reached = times[-1] - _TICK if times else sweep.after
    if times and times[-1] > (sweep.last or times[0]) and reached > sweep.after:
        return Sweep(status=sweep.status, lower=sweep.lower, after=reached)
    return replace(_turn(sweep, listing), last=times[-1] if times else sweep.last)


def _unordered(sweep: Sweep, listing: Listing, more: bool) -> Sweep:
    """From now on by number. What was read by key may have left orders out, so that begins anew."""
    anew = Sweep(status=sweep.status, lower=sweep.lower, after=sweep.lower, unordered=True)
    is_first = sweep.page == 1 and sweep.after == sweep.lower
    return _by_number(anew, listing, more) if is_first else anew


def _by_number(sweep: Sweep, listing: Listing, more: bool) -> Sweep:
    if sweep.page > 1:
        return _turn(sweep, listing) if more else replace(sweep, page=1, query={}, before="")
    if not more or listing.fingerprint == sweep.first:
        return replace(sweep, state="through")
    passes = sweep.passes + 1 if sweep.first else 0
    if passes >= _MAX_PASSES:
        return replace(sweep, state="shifting")
    return replace(_turn(sweep, listing), first=listing.fingerprint, passes=passes)


def _turn(sweep: Sweep, listing: Listing) -> Sweep:
    return replace(sweep, page=sweep.page + 1, query=dict(listing.next_query), before=listing.fingerprint)
