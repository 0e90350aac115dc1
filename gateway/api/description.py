"""Description: a connector's account of itself, read once at the start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.api.commands import Command
from gateway.api.messages import Door, Stage
from gateway.api.order import Order
from gateway.api.vendor_client import Api


class FetchRetry(Struct, frozen=True, kw_only=True):
    """When `fetch` is tried again while the order is not there yet.

    Attributes:
        schedule_s: Seconds after the first try, the second, ...; the last one repeats.
        give_up_s: Seconds since the event came, until the row is held for a person.
    """

    schedule_s: tuple[float, ...]
    give_up_s: float


class Description(Struct, frozen=True, kw_only=True):
    """What a connector says of itself.

    Attributes:
        title: The vendor's product, for people.
        settings: The Struct that `[sources.NAME.settings]` is decoded into.
        needs: For each door the names of the settings that it cannot work without.
        opened_by: Doors that few use: where a source names no doors, such a one is open only with this setting.
        api: Makes the description of the vendor's API from the settings; None where nothing is ever called.
        acknowledge: Makes the stages to acknowledge from the settings; none by default.
        poll_interval_s: Makes the seconds between two polls from the settings.
        unreadable_status: What the sender of a genuine but unreadable webhook hears: 400 where it must know that the
            order was not taken, 200 where a 4xx would end the subscription.
        jwks_url: Where the public keys are that webhooks' tokens are signed with; the core keeps them fresh and hands them to
            `verify`.
        max_body_bytes: Makes a source's own limit for webhook bodies from the settings, where it is below the general one.
        fetch_retry: Makes the schedule of `fetch` from the settings; without it, growing pauses for a day.
        compares_fetched: What `fetch` brings makes the versions: where the canonical order differs from the one before it is
            a revision, where it is the same the event is a repeat. For events that say "this order, again".
        is_open: Whether an order may still change at the vendor; `poll` is given those as `open_orders`.
        commands: What can be said to the vendor, by the name in `POST /out/{source}/{name}`; needs the hook `submit`.
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
