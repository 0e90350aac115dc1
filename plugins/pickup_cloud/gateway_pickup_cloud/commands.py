"""Commands of Pickup Cloud: create an order in one of three ways, and look one up (vendors/pickup_cloud.md sections 1 and 2).

    POST {base_url}/api/{version}/orders | recurrentorders | ...on-behalf-of...        x-api-key: ...

A creation may mail the patient, so none is sent twice before the order was looked for by its number. What a number that is taken is
answered is not documented: any 4xx is a refusal, unless an attempt before it may have done the very thing that is in the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from gateway import Command, Hold, PermanentError, Submission, Submitted, TransientError, VendorClient, refused
from gateway_pickup_cloud import bodies, rest
from gateway_pickup_cloud.created import codes, submitted
from gateway_pickup_cloud.mapping import is_recurrent
from gateway_pickup_cloud.settings import Settings
from gateway_pickup_cloud.wire import OrderResponse, filled, instant, number

CREATE, RECURRENT, ON_BEHALF, GET = "create_order", "create_recurrent_order", "create_order_on_behalf_of", "get_order"

_PATHS = {CREATE: "orders_path", RECURRENT: "recurrent_orders_path", ON_BEHALF: "on_behalf_of_path"}
_REFUSED = frozenset(range(400, 500)) - {401, 403, 408, 425, 429}  # those say "who are you" and "not now"
_CLOCKS_DIFFER = timedelta(minutes=10)


def commands() -> dict[str, Command]:
    """Return the commands by name."""
    creating: dict[str, Any] = {"subject": lambda body: body.order_number, "unique": True, "look_up": look_up}
    return {
        CREATE: Command(
            title="Create a one-time pickup order.",
            body=bodies.NewOrder,
            check=bodies.check_number,
            **creating,
        ),
        RECURRENT: Command(
            title="Create a recurrent pickup order.",
            body=bodies.NewRecurrentOrder,
            check=bodies.check_recurrent,
            **creating,
        ),
        ON_BEHALF: Command(
            title="Create a one-time pickup order on behalf of another API client.",
            body=bodies.NewOrderOnBehalfOf,
            needs=["on_behalf_of_path"],
            check=bodies.check_number,
            **creating,
        ),
        GET: Command(
            title="Ask how an order stands.",
            body=bodies.GetOrder,
            check=bodies.check_number,
            subject=lambda body: str(body.order_number),
            repeatable=lambda settings: True,
        ),
    }


async def submit(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    """Say it; raises as the hook does."""
    return await (_get if submission.command == GET else _create)(submission, client, settings)


async def _get(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    found = await rest.find(submission.body.order_number, client, settings)
    if found is None:
        raise PermanentError("Pickup Cloud knows no order of this number")
    answer, shown = found
    return Submitted(answer=answer, codes=codes(shown))


async def _create(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    path = rest.path(getattr(settings, _PATHS[submission.command]), settings)
    headers = {"Content-Type": settings.content_type}
    answer = await client.request("POST", path, json=submission.body, headers=headers, accept=_REFUSED)
    if answer.status in _REFUSED:
        if submission.repeated and (found := await look_up(submission, client, settings)) is not None:
            return found
        raise PermanentError(refused("Pickup Cloud", answer, msgspec.to_builtins(submission.body), public=("orderNumber",)))
    body, shown = rest.read(submission.body.order_number, answer.body)
    return _submitted(submission, shown, body, settings)


async def look_up(submission: Submission, client: VendorClient, settings: Settings) -> Submitted | None:
    """Look up the order by its number, since nothing else of it is known.

    Raises:
        Hold: There is an order of this number, and it cannot be this one.
        TransientError: Neither an order nor a clear "there is none" was answered.
    """
    found = await rest.find(submission.body.order_number, client, settings)
    if found is None:
        return None
    answer, shown = found
    for difference in _contradictions(submission, shown, settings):
        raise Hold(f"Pickup Cloud has an order of this number, {difference}: whether it is this one, a person decides")
    return _submitted(submission, shown, answer, settings)


def _submitted(submission: Submission, shown: OrderResponse, answer: bytes, settings: Settings) -> Submitted:
    try:
        return submitted(submission, shown, answer, settings)
    except ValueError as error:
        raise TransientError("what Pickup Cloud answers is an order with a date that is none") from error


def _contradictions(submission: Submission, shown: OrderResponse, settings: Settings) -> Iterator[str]:
    """Yield the differences that show that the command did not create this order."""
    body, listed = submission.body, shown.articles or ()
    try:
        created_at = instant(shown.creation_date, settings.zone())
        has = sorted((filled(one.scan_code) or "", number(one.quantity_ordered) or 0) for one in listed)
    except ValueError as error:
        raise TransientError("what Pickup Cloud answers is an order with a date or a number that is none") from error
    if created_at is not None and created_at < submission.accepted_at - _CLOCKS_DIFFER:
        yield "created before it was asked for"
    if submission.command == RECURRENT:
        if listed and not is_recurrent(shown):
            yield "which is not recurrent"
    elif is_recurrent(shown) and not (submission.command == ON_BEHALF and not any(one.interval for one in listed)):
        yield "which is recurrent"
    if listed and has != bodies.articles(body):
        yield "with other articles"
