"""State of an order, and the effect of a change. Pure, and the only place that decides.

An order has a state, and each of its articles has one for each due date; neither is derived from the other, since a partial
pick-up leaves them different (vendors/pickup_cloud.md section 4, case 8). Nothing goes backwards (cases 2 and 5): by the change
date where both have one, else by rank. A recurrent order begins again: another due date of an article is another occurrence,
and an order that was picked up is open again once the vendor itself shows it so (case 6).

The memory from one message to the next is in `extra` of the order itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from gateway import Order, Status
from gateway_pickup_cloud.wire import STATES

RANK: dict[Status, int] = {status: rank for rank, status in enumerate(("placed", *STATES.values()))}
OVER: tuple[Status, ...] = ("picked_up", "cancelled")


class Occurrence(Struct, frozen=True, kw_only=True):
    """An article for one due date. `due_date` is that date as it was written, since in UTC the day may be another one;
    `line_number` is None where no line could be told to be its own."""

    article_id: str
    due_at: datetime | None = None
    due_date: str | None = None
    status: Status
    changed_at: datetime | None = None
    quantity: Decimal | None = None
    line_number: int | None = None

    @property
    def name(self) -> tuple[str, datetime | None]:
        return self.article_id, self.due_at


class Change(Struct, frozen=True, kw_only=True):
    """New state in a notification or answer; it is an article's if there is an `article_id`."""

    status: Status
    changed_at: datetime | None
    article_id: str | None = None
    due_at: datetime | None = None
    due_date: str | None = None
    quantity: Decimal | None = None


class Standing(Struct, frozen=True, kw_only=True):
    """State of an order; `status` is None before the first message. `one_time`: created here as such, so that nothing in an
    answer makes it recurrent."""

    status: Status | None = None
    changed_at: datetime | None = None
    recurrent: bool = False
    one_time: bool = False
    articles: tuple[Occurrence, ...] = ()

    def occurrence(self, change: Change) -> Occurrence | None:
        return next((one for one in self.articles if one.name == (change.article_id, change.due_at)), None)


class Memory(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a standing that a canonical order has no place for."""

    state_changed_at: datetime | None = None
    recurrent: bool = False
    one_time: bool = False
    articles: tuple[Occurrence, ...] = ()


def recall(previous: Order | None) -> Standing:
    """Return the state after the last message, or the first state if there was none."""
    if previous is None:
        return Standing()
    try:
        memory = msgspec.convert(previous.extra, Memory)
    except msgspec.ValidationError:  # made by another version
        memory = Memory()
    return Standing(
        status=previous.status,
        changed_at=memory.state_changed_at,
        recurrent=memory.recurrent,
        one_time=memory.one_time,
        articles=memory.articles,
    )


def is_open(order: Order) -> bool:
    """Return True if it may still change: a one-time order until it is picked up or cancelled, a recurrent one until cancelled."""
    return order.status not in OVER or (order.status == "picked_up" and recall(order).recurrent)


def remember(standing: Standing) -> dict[str, Any]:
    """Return the state as JSON values for `recall`."""
    memory = Memory(
        state_changed_at=standing.changed_at, recurrent=standing.recurrent, one_time=standing.one_time, articles=standing.articles
    )
    made: dict[str, Any] = msgspec.to_builtins(memory)
    return made


def advance(standing: Standing, changes: Sequence[Change], *, shown: Status | None) -> tuple[Standing, list[Change], list[str]]:
    """Apply changes to an order; return its state, the changes that counted, and why the others did not.

    Args:
        shown: The order's state as the REST API shows it just now; None where that is not known.
    """
    news, against = [], []
    for change in changes:
        reason = _against_it(standing, change, shown)
        if reason is not None:
            against.append(reason)
            continue
        news.append(change)
        if change.article_id is None:
            standing = msgspec.structs.replace(standing, status=change.status, changed_at=change.changed_at)
        else:
            standing = _with(standing, change)
    return msgspec.structs.replace(standing, recurrent=not standing.one_time and (standing.recurrent or _recurs(standing))), news, against


def _against_it(standing: Standing, change: Change, shown: Status | None) -> str | None:
    if change.article_id is None:
        reopened = shown is not None and RANK[shown] < RANK["picked_up"]
        return _against(standing.status, standing.changed_at, change, reopened=reopened)
    found = standing.occurrence(change)
    return _is_past(standing, change) if found is None else _against(found.status, found.changed_at, change)


def _against(now: Status | None, since: datetime | None, change: Change, *, reopened: bool = False) -> str | None:
    """Return why a change does not count, or None if it does."""
    if now is None:
        return None
    if change.status == now:
        return f"it is {now} already"
    if since and change.changed_at and since != change.changed_at:
        return None if change.changed_at > since else f"it is older than the change to {now}"
    if RANK[change.status] > RANK[now] or (now == "picked_up" and reopened):
        return None
    return f"{change.status} comes before {now}"


def _is_past(standing: Standing, change: Change) -> str | None:
    """Return why a due date that `_kept` has dropped does not open again, or None."""
    over = (one.due_at for one in standing.articles if one.article_id == change.article_id and one.status in OVER and one.due_at)
    newest = max(over, default=None)
    is_past = newest is not None and change.due_at is not None and change.due_at < newest
    return "a later due date of the article is over already" if is_past else None


def _with(standing: Standing, change: Change) -> Standing:
    """Return the state with the occurrence changed."""
    assert change.article_id is not None
    found = standing.occurrence(change)
    occurrence = Occurrence(
        article_id=change.article_id,
        due_at=change.due_at,
        due_date=change.due_date,
        status=change.status,
        changed_at=change.changed_at,
        quantity=change.quantity if change.quantity is not None or found is None else found.quantity,
        line_number=found.line_number if found else None,
    )
    articles = [occurrence if one is found else one for one in standing.articles]
    if found is None:
        articles.append(occurrence)
    return msgspec.structs.replace(standing, articles=tuple(_kept(articles)))


def _kept(articles: Sequence[Occurrence]) -> Iterator[Occurrence]:
    """Yield the open occurrences, and of each article's closed ones only the one due last: a daily order has hundreds."""
    last: dict[str, Occurrence] = {}
    for one in articles:
        before = last.get(one.article_id)
        if one.status in OVER and (before is None or (one.due_at is not None and (before.due_at is None or one.due_at > before.due_at))):
            last[one.article_id] = one
    return (one for one in articles if one.status not in OVER or one is last[one.article_id])


def _recurs(standing: Standing) -> bool:
    """Only recurrent orders are ever scheduled (seed 001), and only they have one article for several due dates."""
    due = [one.name for one in standing.articles if one.due_at]
    return standing.status == "scheduled" or any(o.status == "scheduled" for o in standing.articles) or len({a for a, _ in due}) < len(due)
