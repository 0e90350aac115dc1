"""Notifications and answers as changes and as events: what names an event (vendors/pickup_cloud.md section 4, case 7).

An event's key is made of order, article, due date, state and change date, so the same said twice is one event, by whichever
door. SCHEDULED has no change date. What a notification says then is an event each time, since nothing tells a repeat from the
next interval; what an answer says is named by the state that it follows. Whether it changes anything is for `state` to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

import msgspec

from gateway import Event, OpenOrder
from gateway_pickup_cloud.push import Push, Strange, read_push
from gateway_pickup_cloud.state import Change, advance, recall
from gateway_pickup_cloud.wire import OrderResponse, filled, instant, number, status

UNKNOWN = "a state that is not known here; `gateway show KEY --body` has it"


def pushed(body: bytes, received_at: datetime, zone: tzinfo) -> Event:
    """Make the event of a notification, whose order is then fetched; unreadable ones are kept and flagged.

    Raises:
        ValueError: It does not have what belongs to it.
    """
    push = read_push(body)
    if isinstance(push, Strange):
        return Event(key=f"call-{_digest(body)}", order_ref="unknown", document=body, ignored=push.reason, flagged=True)
    change = pushed_change(push, zone)
    if change is None:
        return _of_unknown_state(push.order_number, push.state, body, since=push.changed)
    key = _key(push.order_number, change, since=received_at)
    return Event(key=key, order_ref=push.order_number, document=body, fetch=True, occurred_at=change.changed_at)


def answered(one: OpenOrder, order: OrderResponse, body: bytes, zone: tzinfo) -> Event | None:
    """Return an event with the news of an answer, or None if there is none. Raises ValueError."""
    shown = status(order.state)
    if shown is None and filled(order.state):
        return _of_unknown_state(one.order_ref, str(order.state), body, since=order.last_update_date)
    before = recall(one.order)
    _, news, _ = advance(before, list(answered_changes(order, zone)), shown=shown)
    if not news:
        return None
    keys = []
    for change in news:
        stood = before if change.article_id is None else before.occurrence(change)
        keys.append(_key(one.order_ref, change, since=(stood.status, stood.changed_at) if stood else None))
    key = keys[0] if len(keys) == 1 else f"answer-{_digest(*keys)}"
    occurred_at = max((change.changed_at for change in news if change.changed_at), default=None)
    return Event(key=key, order_ref=one.order_ref, document=body, occurred_at=occurred_at)


def pushed_change(push: Push, zone: tzinfo) -> Change | None:
    """Return a notification's change, or None if its state is unknown. Raises ValueError."""
    known, article = status(push.state), push.article
    if known is None:
        return None
    return Change(
        status=known,
        changed_at=instant(push.changed, zone),
        article_id=article.article_id if article else None,
        due_at=instant(article.due_date, zone) if article else None,
        due_date=article.due_date if article else None,
        quantity=number(article.required_quantity) if article else None,
    )


def answered_changes(order: OrderResponse, zone: tzinfo) -> Iterator[Change]:
    """Yield an answer's states of the order and of its articles. Raises ValueError."""
    shown = status(order.state)
    if shown is not None:
        yield Change(status=shown, changed_at=order.changed_at(zone))
    for article in order.articles or ():
        known, code = status(article.order_article_state), filled(article.scan_code)
        if known is not None and code is not None:
            yield Change(
                status=known,
                changed_at=instant(article.order_article_state_changed_date, zone),
                article_id=code,
                due_at=instant(article.due_date, zone),
                due_date=article.due_date,
                quantity=number(article.quantity_ordered),
            )


def _of_unknown_state(order_ref: str, state: str, body: bytes, *, since: str | None) -> Event:
    return Event(key=f"state-{_digest(order_ref, state, since)}", order_ref=order_ref, document=body, ignored=UNKNOWN, flagged=True)


def _key(order_ref: str, change: Change, *, since: object) -> str:
    when = change.changed_at or since
    if change.article_id is None:
        return f"order-{_digest_of_order(order_ref, change.status, when)}"
    return f"article-{_digest(order_ref, change.article_id, change.due_at, change.status, when)}"


def _digest_of_order(order_ref: str, status: str, when: object) -> str:
    """Return `_digest(order_ref, None, None, status, when)`, but faster: bursts consist of these."""
    ref, state, at = order_ref.encode(), status.encode(), _written(when)
    whole = b"%d:%b4:None4:None%d:%b%d:%b" % (len(ref), ref, len(state), state, len(at), at)
    return hashlib.sha256(whole).hexdigest()[:32]


def _written(when: object) -> bytes:
    """Return `str(when)`, but faster: for a datetime, `str` takes longer than reading the notification."""
    if isinstance(when, datetime) and when.tzinfo is UTC:
        made = msgspec.json.encode(when)
        return b"%b %b+00:00" % (made[1:11], made[12:-2])
    return str(when).encode()


def _digest(*parts: object) -> str:
    """128 bits that name them; length by length, so that no two lists of parts read alike."""
    written = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(one), one) for one in written])).hexdigest()[:32]
