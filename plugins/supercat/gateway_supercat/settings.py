"""Settings of a SuperCat source, `[sources.NAME.settings]` (CONTRACT section 3; defaults: vendors/supercat.md section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, tzinfo
from typing import Annotated, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from gateway import Mapping, Secret, Url

LIST_PATH = "{org}/ext/v2/orders/new_orders"

_START = (
    "is needed, since the first poll brings every order that was never marked as received: write start = { after_id = 0 } to forward "
    "them all, or the id of the last order that the ERP has already; orders up to and including it are marked, and not forwarded"
)
_MISSING = {
    "org": 'is needed: the short name of your organisation in the address of the admin portal, as in "demo"',
    "username": "is needed: an admin's name, best an account of its own",
    "password": 'is needed, as in { credential = "supercat" }',
    "mapping": 'is needed, since SuperCat publishes no list of order fields: write one from a real order, as in "supercat.jsonata"',
}
_PATH = r"[A-Za-z0-9/_.~%{}-]{1,500}"
_FORMS = {
    # "2-9 character eCat company abbreviation" (seed, Tips & Tricks)
    "org": (r"[A-Za-z0-9_-]{2,9}", "the organisation's short name, 2 to 9 letters and digits"),
    "username": (r"[^:\x00-\x1f\x7f]{1,200}", "a name without a colon"),
    "list_path": (_PATH, "a path below base_url, as in " + LIST_PATH),
    "mark_path": (_PATH, "a path below base_url, as in " + LIST_PATH),
    "currency": (r"[A-Z]{3}", 'three capital letters, as in "USD"'),
    "quiet_hours": (r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]", 'from and to, as in "22:00-06:00"'),
}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = frozenset({"authorization", "content-type", "content-length", "content-encoding", "transfer-encoding", "host", "connection"})


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Start(_Table, frozen=True, kw_only=True):
    """Start of forwarding: orders up to and including this id are stored and marked as received, and not forwarded."""

    after_id: Annotated[int, Meta(ge=0)]


class Settings(_Table, frozen=True, kw_only=True):
    """Settings of one source. README.md describes each, and what the vendor's documents leave open."""

    base_url: Url = Url("https://supercat.supercatsolutions.com")
    allow_plain_http: bool = False
    org: str | None = None
    username: str | None = None
    password: Secret | None = None
    stop_after_auth_failures: Annotated[int, Meta(ge=1)] = 2
    headers: dict[str, str] = {}

    poll_interval_s: Annotated[float, Meta(gt=0)] = 300.0
    quiet_hours: str | None = None
    read_timeout_s: Annotated[float, Meta(ge=1, le=280)] = 120.0
    max_response_bytes: Annotated[int, Meta(ge=1024, le=1024**3)] = 50 * 1024**2
    list_path: str = LIST_PATH
    start: Start | None = None

    mark: Literal["stored", "delivered", "off"] = "stored"
    mark_path: str | None = None
    mark_batch: Annotated[int, Meta(ge=1, le=100)] = 100

    currency: str | None = None
    time_zone: str = "UTC"
    mapping: Mapping | None = None
    text_lines: Literal["text", "goods"] = "text"
    base_pattern: str = r"^\d+-\d{6}-\d+$"
    suffix_pattern: str = r"-(\d+)$"
    volatile: tuple[str, ...] = ()

    def check(self) -> Iterable[tuple[str, str]]:
        """Yield the problems that types cannot express."""
        for key, words in _MISSING.items():
            if getattr(self, key) is None:
                yield key, words
        if self.start is None:
            yield "start", _START
        for key, (form, words) in _FORMS.items():
            value = getattr(self, key)
            if value is not None and not re.fullmatch(form, value):
                yield key, f"must be {words}"
        for key in ("base_pattern", "suffix_pattern"):
            if problem := _pattern_problem(getattr(self, key), groups=key == "suffix_pattern"):
                yield key, problem
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not (value.isascii() and value.isprintable()):
                yield "headers", "has a name or a value that HTTP cannot carry"
            elif name.lower() in _OURS:
                yield "headers", f"may not hold {name}, which the gateway writes"
        try:
            self.zone()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield "time_zone", 'is no time zone of this machine; write one as in "America/New_York" (Debian package tzdata)'

    def zone(self) -> tzinfo:
        """Return the zone of the quiet hours, and of dates and times without one. `UTC` needs no time zone database."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)

    def is_quiet(self, now: datetime) -> bool:
        """Tell whether polling pauses now; `22:00-06:00` goes past midnight."""
        if self.quiet_hours is None:
            return False
        begin, end = (time.fromisoformat(text) for text in self.quiet_hours.split("-"))
        at = now.astimezone(self.zone()).time()
        return begin <= at < end if begin <= end else at >= begin or at < end

    def list_at(self) -> str:
        """Return the path of the list of unmarked orders."""
        return self.list_path.replace("{org}", quote(self.org or "", safe=""))

    def mark_at(self) -> str:
        """Return the path for marks: "the same URL" (seed, Marking Orders Received), unless `mark_path` is set."""
        return (self.mark_path or self.list_path).replace("{org}", quote(self.org or "", safe=""))


def _pattern_problem(pattern: str, *, groups: bool) -> str | None:
    try:
        found = re.compile(pattern, re.ASCII).groups
    except (re.error, RecursionError, OverflowError):
        return "is no regular expression"
    return "must have one group, the version, as in -(\\d+)$" if groups and found != 1 else None
