"""Command to publish a supplier's event: stock, delivery, status (vendors/scalepoint.md section 2, "Publishing events").

    POST {publish_url}        Authorization: Bearer ...        {publish_type_header}: {eventType}

The vendor publishes neither the names and fields of such events nor the name of the header. So the operator configures all of it, the
payload as a JSONata mapping. Without this configuration the command does not exist.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway import Command, PermanentError, Submission, Submitted, VendorClient, refused
from gateway_scalepoint.settings import PUBLISHING, Settings

_REFUSED = frozenset(range(400, 500)) - {401, 403, 408, 425, 429}  # sign-in failed, or too busy


class PublishEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Event from which the operator's template makes the payload. `attributes` are input of the template."""

    event_type: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$", examples=["order_shipped"])]
    order_token: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    attributes: dict[str, Any] = {}


def _subject(body: PublishEvent) -> str:
    """Return the order's token in lower case; the type for an event without an order."""
    return body.event_type if isinstance(body.order_token, UnsetType) else body.order_token.lower()


COMMAND = Command(
    title="Publish an event about an order, a delivery or the stock.",
    body=PublishEvent,
    needs=[*PUBLISHING, "token_url", "client_id"],
    subject=_subject,
    repeatable=lambda settings: bool(settings.publish_repeatable),
)


async def submit(submission: Submission, client: VendorClient, settings: Settings) -> Submitted:
    """Publish the event.

    Raises:
        PermanentError: The template makes no object, or Scalepoint refuses it.
        TransientError, AuthError: As the client raises them.
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
    """Return the input of the template, which is the same for every attempt."""
    ours = {"id": submission.id, "acceptedAt": submission.accepted_at}
    theirs = {"country": settings.publish_country, "tenant": settings.publish_tenant}
    said: dict[str, Any] = msgspec.to_builtins(submission.body)
    return said | ours | theirs


def _json(body: bytes) -> bytes | None:
    """Return the answer if it is JSON, which the caller gets."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: invalid UTF-8
        return None
    return body
