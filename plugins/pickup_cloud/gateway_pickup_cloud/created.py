"""First event of an order that was created through the gateway.

The vendor's answer lists no articles for a recurrent order, and no customer. So the event holds both the request and the answer.
An event of the hub may have overtaken it: then it adds what was missing, and no state goes backwards.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from gateway import Codes, Customer, Event, Ignore, Order, Submission, Submitted, read_json
from gateway_pickup_cloud.events import answered_changes
from gateway_pickup_cloud.mapping import to_order
from gateway_pickup_cloud.settings import Settings
from gateway_pickup_cloud.state import advance, recall
from gateway_pickup_cloud.wire import OrderResponse, filled, fold, instant, status

_MAX_BYTES = 16 * 1024 * 1024
_PARTS = {"request", "answer"}
_OURS = ("articles", "recurrent", "one_time")  # what of `extra` a creation knows better than what came before it
_replace = msgspec.structs.replace


def submitted(submission: Submission, shown: OrderResponse, answer: bytes, settings: Settings) -> Submitted:
    """Return a creation's result: the answer, its codes, and the order's first event. Raises ValueError."""
    event = Event(
        key=f"created-{submission.id}",
        order_ref=shown.order_number,
        document=msgspec.json.encode({"request": submission.body, "answer": Raw(answer)}),
        occurred_at=instant(shown.creation_date, settings.zone()),
    )
    return Submitted(answer=answer, codes=codes(shown), events=(event,))


def codes(shown: OrderResponse) -> Codes:
    """Told apart by the names of their fields: the one that begins with `pickup_` is the storage code (seed 001)."""
    return Codes(number=shown.order_number, pickup=filled(shown.pickup_code), storage=filled(shown.storage_code))


def read_created(document: bytes) -> tuple[OrderResponse, OrderResponse] | None:
    """Read the request and the answer of a creation; return None if the document is a plain order. Raises ValueError."""
    if not document.startswith(b'{"request":'):
        return None
    both: Any = fold(read_json(document, max_bytes=_MAX_BYTES))
    if set(both) != _PARTS:
        raise ValueError("a creation without what was asked for or answered")
    return msgspec.convert(both["request"], OrderResponse), msgspec.convert(both["answer"], OrderResponse)


def to_created_order(asked: OrderResponse, answer: OrderResponse, previous: Order | None, settings: Settings) -> Order:
    """Make the order that was created. Flag: `demo_trigger`, if its note begins with `$`, which the demo instance obeys.

    Raises:
        Ignore: All of it is known already.
        ValueError: A date or a number that is none.
    """
    zone, order = settings.zone(), _whole(asked, answer)
    is_recurrent = any(article.interval for article in asked.articles or ())
    before = recall(previous)
    looks_recurrent = before.recurrent or "scheduled" in (before.status, status(order.state))
    before = _replace(before, recurrent=is_recurrent, one_time=looks_recurrent and not is_recurrent)
    now, news, _ = advance(before, list(answered_changes(order, zone)), shown=None)  # an answer that comes late shows what was
    made = to_order(order, previous, before, now, settings)
    if (filled(asked.related_notes) or "").startswith("$"):
        made = _replace(made, flags=(*made.flags, "demo_trigger"))
    if previous is None or news:
        return made
    late = _completed(previous, made)
    if late == previous:
        raise Ignore("it is known already: an event of the hub was faster")
    return late


def _whole(asked: OrderResponse, answer: OrderResponse) -> OrderResponse:
    """Complete the answer with what only the request has."""
    return _replace(
        answer,
        articles=answer.articles or asked.articles,
        customer_details=answer.customer_details or asked.customer_details,
        related_notes=filled(answer.related_notes) or asked.related_notes,
        dosage_information=filled(answer.dosage_information) or asked.dosage_information,
        start_date=filled(answer.start_date) or asked.start_date,
        end_date=filled(answer.end_date) or asked.end_date,
    )


def _completed(previous: Order, made: Order) -> Order:
    """Complete a known order with what only its creation says; all else stays."""
    known = {name: value for name, value in previous.extra.items() if name not in _OURS}
    return _replace(
        previous,
        lines=made.lines,
        customer=made.customer if previous.customer == Customer() else previous.customer,
        notes=previous.notes or made.notes,
        references=made.references | previous.references,
        flags=tuple(dict.fromkeys((*previous.flags, *made.flags))),
        extra=made.extra | known,
    )
