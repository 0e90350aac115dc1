"""An event of the supplier's: stock, delivery, status (vendors/scalepoint.md section 2, "Publishing events").

    POST {publish_url}        Authorization: Bearer ...        {publish_type_header}: {eventType}

The vendor says that there are such events, and publishes neither their names nor their fields, nor what the header is called. So all of
it is the operator's, the payload as a JSONata mapping, and without it there is no such command.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway import Command, PermanentError, Submission, Submitted, VendorClient, refused
from gateway_scalepoint.settings import PUBLISHING, Settings

_REFUSED = frozenset(range(400, 500)) - {401, 403, 408, 425, 429}  # those say "who are you" and "not now"


class PublishEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """An event, from which the operator's template makes what is sent. `attributes` is whatever that template reads."""

    event_type: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$", examples=["order_shipped"])]
    order_token: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    attributes: dict[str, Any] = {}


def _subject(body: PublishEvent) -> str:
    """The order, whose token comes in either letter case; events that name none go one after the other by their type."""
    return body.event_type if isinstance(body.order_token, UnsetType) else body.order_token.lower()


COMMAND = Command(
    title="Publish an event about an order, a delivery or the stock.",
    body=PublishEvent,
    needs=[*PUBLISHING, "token_url", "client_id"],
    subject=_subject,
    repeatable=lambda settings: bool(settings.publish_repeatable),
)


async def submit(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    """Publish it.

    Raises:
        PermanentError: The template makes nothing of it, or Scalepoint refuses it.
        TransientError, AuthError: As the client does.
    """
    assert settings.publish_url is not None
    assert settings.publish_payload is not None
    body: PublishEvent = submission.body
    payload = settings.publish_payload.evaluate(msgspec.json.encode(_document(submission, settings)))
    if not isinstance(payload, dict) or not payload:
        raise PermanentError("the template of publish_payload makes no object of this event")
    url = settings.publish_url.replace("{country}", settings.publish_country).replace("{tenant}", settings.publish_tenant)
    headers = {settings.publish_type_header: body.event_type}
    answer = await client.request("POST", url, json=payload, headers=headers, scope=settings.publish_scope or None, accept=_REFUSED)
    if answer.status in _REFUSED:
        raise PermanentError(refused("Scalepoint", answer, msgspec.to_builtins(body), public=("eventType", "orderToken")))
    return Submitted(answer=_json(answer.body))


def _document(submission: Submission, settings: Settings) -> dict[str, Any]:
    """What the template is given; the same for every attempt."""
    ours = {"id": submission.id, "acceptedAt": submission.accepted_at}
    theirs = {"country": settings.publish_country, "tenant": settings.publish_tenant}
    said: dict[str, Any] = msgspec.to_builtins(submission.body)
    return said | ours | theirs


def _json(body: bytes) -> bytes | None:
    """The answer, where it is JSON: it is shown to the caller as such."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: a text in it is no UTF-8
        return None
    return body
