"""Settings for Pickup Cloud in `[sources.NAME.settings]` (CONTRACT section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from gateway import Reconnect, Secret, Url
from gateway_pickup_cloud.push import ARTICLE, ORDER, PACK

ORDERS_PATH = "api/{api_version}/orders"
RECURRENT_ORDERS_PATH = "api/{api_version}/recurrentorders"
STATUS_PATH = "api/{api_version}/orders/by-ordernumber/{order_number}"

_FORMS = {
    "api_version": (r"[A-Za-z0-9._-]{1,40}", 'a version, as in "v2"'),
    "status_path": (
        r"[A-Za-z0-9/_.~%{}-]{0,500}\{order_number\}[A-Za-z0-9/_.~%{}-]{0,500}",
        "a path below base_url with {order_number} in it",
    ),
    **dict.fromkeys(
        ("orders_path", "recurrent_orders_path", "on_behalf_of_path"), (r"[A-Za-z0-9/_.~%{}-]{1,1000}", "a path below base_url")
    ),
    "content_type": (
        r"[A-Za-z0-9.+*-]{1,100}/[A-Za-z0-9.+*-]{1,100}(; ?charset=[A-Za-z0-9-]{1,40})?",
        'a media type, as in "application/json"',
    ),
}
_HEADER, _PARAMETER = r"[A-Za-z0-9-]{1,100}", r"[A-Za-z0-9_.-]{1,100}"


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class KeyIn(_Table, frozen=True, kw_only=True):
    """Place of the hub's key: `{ header = "x-api-key" }` or `{ query = "name" }`."""

    header: str | None = None
    query: str | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        """Exactly one of the two, and a name that can stand there."""
        if (self.header is None) == (self.query is None):
            yield "", 'must be { header = "x-api-key" }, { query = "name" } or "bearer"'
        elif self.header is not None and not re.fullmatch(_HEADER, self.header):
            yield "header", "must be the name of a header"
        elif self.query is not None and not re.fullmatch(_PARAMETER, self.query):
            yield "query", "must be the name of a query parameter"


class Targets(_Table, frozen=True, kw_only=True):
    """Further names of the three notifications on the wire; the documents spell them in several ways."""

    order: tuple[str, ...] = ("OrderStateChange",)
    article: tuple[str, ...] = ("OrderArticleStateChange", "OrderArticleIStateChange")
    pack: tuple[str, ...] = ("OrderArticleWithPackStateChange",)

    def names(self) -> dict[str, str]:
        """Name on the wire to the name that `ingest` sees."""
        return {name: known for known, names in self._all().items() for name in names}

    def _all(self) -> dict[str, set[str]]:
        return {ORDER: {ORDER, *self.order}, ARTICLE: {ARTICLE, *self.article}, PACK: {PACK, *self.pack}}

    def check(self) -> Iterable[tuple[str, str]]:
        """Check that a name means one notification only."""
        if len(self.names()) < sum(len(names) for names in self._all().values()):
            yield "", "must not give one name to two notifications"
        if not all(name.strip() for name in self.names()):
            yield "", "must not have an empty name"


class Settings(_Table, frozen=True, kw_only=True):
    """See README.md for what each one means, and where the vendor's documents leave it open."""

    api_key: Secret
    base_url: Url = Url("https://api.pickup.bd.com")
    api_version: str = "v2"
    status_path: str = STATUS_PATH
    orders_path: str = ORDERS_PATH
    recurrent_orders_path: str = RECURRENT_ORDERS_PATH
    on_behalf_of_path: str | None = None
    content_type: str = "application/json"
    hub_url: Url | None = None
    allow_plain_http: bool = False
    api_key_in: KeyIn | Literal["bearer"] = KeyIn(header="x-api-key")
    negotiate: bool = True
    targets: Targets = Targets()

    reconnect: Reconnect = Reconnect()
    keep_alive_s: Annotated[float, Meta(gt=0, le=3600)] = 15.0
    server_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0

    resync_interval_s: Annotated[float, Meta(gt=0)] = 900.0
    calls_per_minute: Annotated[int, Meta(ge=30)] = 120
    fetch_retry_s: tuple[Annotated[float, Meta(gt=0)], ...] = (2.0, 10.0, 60.0, 300.0, 900.0)
    fetch_give_up_s: Annotated[float, Meta(gt=0)] = 172_800.0

    time_zone: str = "Europe/Berlin"
    forward_personal_data: bool = False

    def check(self) -> Iterable[tuple[str, str]]:
        """Check what the types cannot."""
        for key, (form, words) in _FORMS.items():
            value = getattr(self, key)
            if value is not None and not re.fullmatch(form, value):
                yield key, f"must be {words}"
        if not set(re.findall(r"\{(.*?)\}", self.status_path)) <= {"api_version", "order_number"}:
            yield "status_path", "may hold {api_version} and {order_number}, and no other braces"
        for key in ("orders_path", "recurrent_orders_path", "on_behalf_of_path"):
            if re.search(r"[{}]", (getattr(self, key) or "").replace("{api_version}", "")):
                yield key, "may hold {api_version}, and no other braces"
        if not self.fetch_retry_s:
            yield "fetch_retry_s", "must have at least one pause"
        try:
            self.zone()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield "time_zone", 'is no time zone of this machine; write one as in "Europe/Berlin" (Debian package tzdata)'

    def zone(self) -> tzinfo:
        """Return the zone of dates that have none."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)
