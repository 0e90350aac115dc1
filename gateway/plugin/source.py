"""A configured source at run time: one connector, its client, its doors and where its orders go."""

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


def _everything(_: bytes) -> bool:
    return True


class Destination(Struct, frozen=True, kw_only=True):
    """A target as a source sees it: its name, which kinds it takes, and whether it wants the order of a message.

    `wants` raises PermanentError where it cannot say.
    """

    target: str
    accepts: frozenset[Kind]
    wants: Callable[[bytes], bool] = _everything


class Keys(Protocol):
    """The public keys that a source's webhooks are signed with, kept fresh by somebody."""

    @property
    def current(self) -> Mapping[str, Any]:
        """The keys of now, by `kid`; empty before the first were had."""

    async def look_again(self) -> bool:
        """Fetch them anew, unless that was done just now; whether `current` can be relied on."""


class Source(Struct, kw_only=True):
    """What the doors and the engine need to know of one source.

    Attributes:
        since: When it was first started.
        client: None where the vendor is never called.
        answer_wait_s: How long a webhook's answer waits for what the targets say; 0 for not at all.
        keys: None where nothing is signed with keys that are kept elsewhere.
        hook_runner: Where its plain hooks are called from.
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
