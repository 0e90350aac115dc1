"""Settings for Apicbase in `[sources.NAME.settings]` (CONTRACT section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from gateway import Secret, TextList, Url

Rule = Literal["unknown_customer", "unknown_article", "empty_order", "zero_quantity"]

LIST_PATH = "api/v2/integrations/suppliers/purchase_orders/"


_PATH = "a path below base_url, as in " + LIST_PATH
_FORMS = {
    "currency": (r"[A-Z]{3}", 'three capital letters, as in "EUR"'),
    "signature_header": (r"[A-Za-z0-9-]{1,100}", "the name of a header"),
    "list_path": (r"[A-Za-z0-9/_.~%-]{1,500}", _PATH),
    "mark_path": (r"[A-Za-z0-9/_.~%{}-]{1,500}", _PATH),
    "page_parameter": (r"[A-Za-z0-9_.-]{1,60}", "the name of a query parameter"),
}


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Start(_Table, frozen=True, kw_only=True):
    """Start of polling: orders up to and including this instant are never requested."""

    after: Annotated[datetime, Meta(tz=True)]


class Settings(_Table, frozen=True, kw_only=True):
    """See README.md for what each one means, and where the vendor's documents leave it open."""

    currency: str
    price_decimals: Annotated[int, Meta(ge=0, le=6)] = 2
    time_zone: str = "UTC"

    webhook_secrets: tuple[Secret, ...] = ()
    signature_header: str = "X-APIC-WEBHOOK-SIGNATURE"
    ascii_fallback: bool = True

    base_url: Url = Url("https://api.apicbase.com")
    token_url: Url = Url("https://api.apicbase.com/oauth/token/")
    allow_plain_http: bool = False
    client_id: str | None = None
    client_secret: Secret | None = None
    scope: str = "supplier"
    token_encoding: Literal["form", "json"] = "form"  # noqa: S105 - the name of a kind

    poll_interval_s: Annotated[float, Meta(gt=0)] = 300.0
    overlap_s: Annotated[float, Meta(ge=0, le=31 * 86400)] = 900.0
    calls_per_minute: Annotated[int, Meta(ge=1, le=100)] = 60
    list_path: str = LIST_PATH
    page_parameter: str = "page"
    page_size: Annotated[int, Meta(ge=1, le=200)] = 200
    start: Start | None = None

    refuse: tuple[Rule, ...] = ()
    known_customers: TextList | None = None
    known_articles: TextList | None = None
    sandbox_customers: TextList | None = None

    mark_fetched: Literal["off", "stored"] = "off"
    mark_viewed: Literal["off", "delivered"] = "off"
    mark_path: str | None = None
    mark_body: Literal["one", "list"] = "one"

    def check(self) -> Iterable[tuple[str, str]]:
        """Check what the types cannot."""
        for key, (form, words) in _FORMS.items():
            value = getattr(self, key)
            if value is not None and not re.fullmatch(form, value):
                yield key, f"must be {words}"
        for rule, key, known in (
            ("unknown_customer", "known_customers", self.known_customers),
            ("unknown_article", "known_articles", self.known_articles),
        ):
            if rule in self.refuse and not (known and known.words):
                yield "refuse", f"{rule} refuses what is not in {key}, which is {'empty' if known else 'not there'}"
        try:
            self.zone()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield "time_zone", 'is no time zone of this machine; write one as in "Europe/Brussels" (Debian package tzdata)'
        if self.mark_body == "list" and "{id}" in (self.mark_path or ""):
            yield "mark_path", 'holds the {id} of one order, and mark_body = "list" sends many at once'
        for key, value in (("mark_fetched", self.mark_fetched), ("mark_viewed", self.mark_viewed)):
            if value != "off" and not (self.client_id and self.client_secret):
                yield key, "calls Apicbase, and needs client_id and client_secret for that"

    def zone(self) -> tzinfo:
        """Return the zone of dates and times that have none. `UTC` needs no time zone database."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)
