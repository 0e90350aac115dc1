"""Description of a connector, read once at the start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.api.commands import Command
from gateway.api.messages import Door, Stage
from gateway.api.order import Order
from gateway.api.vendor_client import Api


class FetchRetry(Struct, frozen=True, kw_only=True):
    """Schedule of `fetch` while the vendor does not have the order yet.

    Attributes:
        schedule_s: Seconds to wait after the first try, the second, ...; the last one repeats.
        give_up_s: Seconds after the event came at which the row is held for a person.
    """

    schedule_s: tuple[float, ...]
    give_up_s: float


class Description(Struct, frozen=True, kw_only=True):
    """A connector's title, settings, API and commands. The callables take the decoded settings, unless they say otherwise.

    Attributes:
        title: The vendor's product, for people.
        settings: The Struct that `[sources.NAME.settings]` is decoded into.
        needs: For each door the names of the settings that it cannot work without.
        opened_by: For a door that few sources use: the setting that opens it if a source names no doors.
        api: Returns the vendor's API; None if the connector calls nothing.
        acknowledge: Returns the stages to acknowledge; none by default.
        poll_interval_s: Returns the seconds between two polls.
        unreadable_status: The answer to a genuine but unreadable webhook: 400 if the sender must know that the order was not taken, 200
            if a 4xx would end the subscription.
        jwks_url: Returns the address of the public keys that webhooks' tokens are signed with; the core keeps the keys fresh and passes
            them to `verify`.
        max_body_bytes: Returns the source's own limit for webhook bodies, below the general one.
        fetch_retry: Returns the schedule of `fetch`; without it, growing pauses for a day.
        compares_fetched: True if the fetched order makes the versions: a canonical order that differs from the previous one is a
            revision, an equal one a repeat. For events that only say that an order has changed.
        is_open: Takes an order and returns whether it may still change at the vendor; `poll` gets those orders as `open_orders`.
        commands: The commands by the name in `POST /out/{source}/{name}`; needs the hook `submit`.
    """

    title: str
    settings: type[Struct]
    needs: Mapping[Door, Sequence[str]] = {}
    opened_by: Mapping[Door, str] = {}
    api: Callable[[Any], Api] | None = None
    acknowledge: Callable[[Any], Collection[Stage]] | None = None
    poll_interval_s: Callable[[Any], float] | None = None
    unreadable_status: Literal[200, 400] = 400
    jwks_url: Callable[[Any], str | None] | None = None
    max_body_bytes: Callable[[Any], int] | None = None
    fetch_retry: Callable[[Any], FetchRetry] | None = None
    compares_fetched: bool = False
    is_open: Callable[[Order], bool] | None = None
    commands: Mapping[str, Command] = {}
