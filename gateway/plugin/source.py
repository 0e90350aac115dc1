"""Configured source at run time: its connector, vendor client, doors and destinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct, field

from gateway.api.messages import Door, Stage
from gateway.api.order import Kind
from gateway.api.vendor_client import VendorClient
from gateway.config.settings import EarlierVersions, OnRevision
from gateway.plugin.connector import Connector
from gateway.plugin.hook_runner import HookRunner


class Destination(Struct, frozen=True, kw_only=True):
    """Target of a source's orders, the kinds it accepts, and the filter that decides by a message's body whether it gets the order.

    `wants` raises PermanentError if it cannot decide.
    """

    target: str
    accepts: frozenset[Kind]
    wants: Callable[[bytes], bool] = lambda _: True


class Keys(Protocol):
    """Public keys that verify the signatures of a source's webhooks."""

    @property
    def current(self) -> Mapping[str, Any]:
        """Current keys by `kid`; empty until the first fetch succeeds."""

    async def look_again(self) -> bool:
        """Fetch the keys again unless the last fetch was just now; return whether `current` can be relied on."""


class Source(Struct, kw_only=True):
    """Source at run time, as doors and engine use it.

    Attributes:
        since: Time of its first start.
        client: None if the gateway never calls the vendor.
        answer_wait_s: Longest wait of a webhook's answer for the targets' answers; 0 for none.
        keys: None unless `verify` needs keys that the vendor publishes.
    """

    name: str
    connector: Connector
    doors: tuple[Door, ...]
    on_revision: OnRevision
    destinations: tuple[Destination, ...]
    stages: frozenset[Stage]
    max_body_bytes: int
    max_requests_per_second: int
    since: datetime
    vendor: str
    earlier_versions: EarlierVersions = "flag"
    answer_wait_s: float = 0.0
    client: VendorClient | None = None
    keys: Keys | None = None
    hook_runner: HookRunner = field(default_factory=HookRunner)
