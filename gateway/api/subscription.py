"""Subscription to a vendor's hub: the result of `subscribe`. Data only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.api.secrets import Secret
from gateway.api.vendor_client import BearerAuth, HeaderAuth, QueryAuth

_SECRETS: dict[type, str] = {HeaderAuth: "value", QueryAuth: "value", BearerAuth: "token"}


class Reconnect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wait before the next try: random between 0 and `base_s * factor**n`, at most `cap_s` seconds. Usable as a setting's type."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield each problem as key and text."""
        if not 0 < self.base_s < math.inf:
            yield "base_s", "must be more than 0"
        if not 1 <= self.factor < math.inf:
            yield "factor", "must be at least 1"
        if not self.base_s <= self.cap_s < math.inf:
            yield "cap_s", "must be at least base_s"


class Subscription(Struct, frozen=True, kw_only=True):
    """Address of a hub, and how to listen there.

    Attributes:
        url: The hub, as `https://host/path`; a query is kept.
        auth: Credentials for the negotiation and the WebSocket; read again for every try.
        targets: Canonical names by the names on the wire; each spelling is an entry. A call under any other name keeps its name.
        keep_alive_s: Seconds between two pings of the gateway.
        server_timeout_s: Seconds without a message from the hub after which the connection counts as lost; at least twice the hub's
            own ping interval.
        negotiate: False opens the WebSocket at once, without a negotiation.
        max_message_bytes: A longer message ends the connection.
        connect_timeout_s: Seconds for negotiation, connection, upgrade and handshake together.
    """

    url: str
    auth: HeaderAuth | QueryAuth | BearerAuth | None = None
    targets: Mapping[str, str] = {}
    reconnect: Reconnect = Reconnect()
    keep_alive_s: float = 15.0
    server_timeout_s: float = 30.0
    negotiate: bool = True
    max_message_bytes: int = 1024 * 1024
    connect_timeout_s: float = 10.0

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each value that cannot be used."""
        parts = urlsplit(self.url) if isinstance(self.url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            yield "its url must be an absolute address, as in https://hub.example/orders"
        if self.auth is not None and not isinstance(getattr(self.auth, _SECRETS.get(type(self.auth), ""), None), Secret):
            yield "its auth must be a HeaderAuth, QueryAuth or BearerAuth with a Secret"
        if not isinstance(self.targets, Mapping) or not all(isinstance(name, str) for pair in self.targets.items() for name in pair):
            yield "its targets must map names to names"
        if isinstance(self.reconnect, Reconnect):
            yield from (f"its reconnect.{key} {text}" for key, text in self.reconnect.check())
        else:
            yield "its reconnect must be a Reconnect"
        for name in ("keep_alive_s", "server_timeout_s", "max_message_bytes", "connect_timeout_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                yield f"its {name} must be more than 0"
