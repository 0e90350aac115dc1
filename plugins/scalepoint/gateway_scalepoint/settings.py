"""Settings of a Scalepoint source, `[sources.NAME.settings]` (CONTRACT section 3; vendors/scalepoint.md section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, tzinfo
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from gateway import Api, FetchRetry, Mapping, OAuth2, Secret, Url, WebhookAuth

ORDER_URL = "https://www.scalepoint.com/api/Orders?ExternalId={orderToken}"
ORDER_CREATED = "order_created"

# Settings that publishing needs besides sign-in; the vendor documents none of them.
PUBLISHING = ("publish_url", "publish_country", "publish_tenant", "publish_type_header", "publish_payload")

_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_SCOPES = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*\Z")  # RFC 6749, 3.3

_NAME = re.compile(r"[A-Za-z0-9._~-]{1,100}")
_OURS = "authorization|content-.*|accept|host|user-agent|connection|transfer-encoding"
_HEADER = re.compile(rf"(?!({_OURS})\Z)[A-Za-z0-9-]{{1,100}}", re.IGNORECASE)

Seconds = Annotated[float, Meta(gt=0, le=30 * 86400)]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Start(_Table, frozen=True, kw_only=True):
    """Start of long polling: after this event. Ids are opaque and look like `_122047`."""

    after_event: Annotated[str, Meta(min_length=1, max_length=200)]


class Settings(_Table, frozen=True, kw_only=True):
    """Settings of one source. README.md describes each, and what the vendor's documents leave open."""

    webhook_auth: WebhookAuth | None = None
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024)] = 262144
    order_events: tuple[str, ...] = (ORDER_CREATED,)

    order_url: Url = Url(ORDER_URL)
    order_at: str = ""
    fetch_retry_s: tuple[Seconds, ...] = (5.0, 15.0, 60.0, 300.0, 900.0)
    fetch_give_up_s: Seconds = 86400.0
    calls_per_minute: Annotated[int, Meta(ge=1, le=6000)] | None = None

    token_url: Url | None = None
    client_id: str = ""
    client_auth: Literal["private_key_jwt", "client_secret"] = "private_key_jwt"
    private_key: Secret | None = None
    certificate: Secret | None = None
    send_certificate: bool = False
    client_secret: Secret | None = None
    audience: str = ""
    assertion_s: Annotated[float, Meta(ge=10, le=600)] = 60.0
    scope: str = ""
    allow_plain_http: bool = False

    receive_url: Url | None = None
    events_scope: str = "events"
    start: Start | None = None
    poll_timeout_s: Annotated[float, Meta(ge=1, le=240)] = 120.0
    poll_interval_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0

    publish_url: Url | None = None
    publish_country: str = ""
    publish_tenant: str = ""
    publish_type_header: str = ""
    publish_payload: Mapping | None = None
    publish_scope: str = "events"
    publish_repeatable: bool = False

    mapping: Mapping | None = None
    currency: str | None = None
    time_zone: str = "UTC"

    def check(self) -> Iterable[tuple[str, str]]:
        """Yield the problems that types cannot express."""
        for key, url, place in (("order_url", self.order_url, "{orderToken}"), ("receive_url", self.receive_url, "{lastEventId}")):
            if url is not None and (url.count(place) != 1 or place in (urlsplit(url).netloc + urlsplit(url).fragment)):
                yield key, f"must hold {place} once, in its path or its query"
        if not self.order_events or not all(normalized_name(name) for name in self.order_events):
            yield "order_events", 'must be names of events, as in ["order_created"]'
        if not self.fetch_retry_s:
            yield "fetch_retry_s", "is empty; leave it out for the default"
        if self.currency is not None and not _CURRENCY.match(self.currency):
            yield "currency", 'must be three capital letters, as in "DKK"'
        for key, scope in (("scope", self.scope), ("events_scope", self.events_scope), ("publish_scope", self.publish_scope)):
            if scope and not _SCOPES.match(scope):
                yield key, "must be names with single spaces between them"
        yield from self._check_publishing()
        try:
            self.zone()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield "time_zone", 'is no time zone of this machine; write one as in "Europe/Copenhagen" (Debian package tzdata)'

    def _check_publishing(self) -> Iterable[tuple[str, str]]:
        """Yield the problems of the publish_ settings, which must be given all or none."""
        if not any(getattr(self, key) for key in PUBLISHING):
            return
        for key in PUBLISHING:
            if not getattr(self, key):
                yield key, "is needed to publish events; leave out every publish_ setting to publish none"
        for key in ("publish_country", "publish_tenant"):
            if getattr(self, key) and not _NAME.fullmatch(getattr(self, key)):
                yield key, "must be a name, as it stands in an address"
        if self.publish_type_header and not _HEADER.fullmatch(self.publish_type_header):
            yield "publish_type_header", "must be the name of a header, and not of one that we set ourselves"
        if self.publish_url and sorted(re.findall(r"\{.*?\}", self.publish_url)) != ["{country}", "{tenant}"]:
            yield "publish_url", "must hold {country} and {tenant} once each, and no other braces"
        elif self.publish_url and "{" in urlsplit(self.publish_url).netloc + urlsplit(self.publish_url).fragment:
            yield "publish_url", "may hold {country} and {tenant} in its path and its query only"

    def zone(self) -> tzinfo:
        """Return the zone of times without one. `UTC` needs no time zone database."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)

    def api(self) -> Api:
        """Return all APIs, with a token for each scope; without sign-in if `token_url` or `client_id` is missing."""
        auth = None
        if self.token_url and self.client_id:
            auth = OAuth2(
                token_url=self.token_url,
                client_id=self.client_id,
                client_auth=self.client_auth,
                client_secret=self.client_secret,
                private_key=self.private_key,
                certificate=self.certificate,
                send_certificate=self.send_certificate,
                audience=self.audience,
                assertion_s=self.assertion_s,
                scope=self.scope,
            )
        also = tuple(_origin(url) for url in (self.receive_url, self.publish_url) if url is not None)
        return Api(
            base_url=_origin(self.order_url),
            also=also,
            auth=auth,
            calls_per_minute=self.calls_per_minute,
            max_response_bytes=4 * 1024 * 1024,
        )

    def fetch_retry(self) -> FetchRetry:
        return FetchRetry(schedule_s=self.fetch_retry_s, give_up_s=self.fetch_give_up_s)

    def is_order_event(self, name: str) -> bool:
        """Tell whether an event of this type announces an order."""
        return normalized_name(name) in {normalized_name(one) for one in self.order_events}


def normalized_name(name: str) -> str:
    """Normalize a name for comparison: the seed's prose has `ORDER-CREATED`, its payload `order_created`."""
    return re.sub(r"[-_\s]", "", name).lower()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
