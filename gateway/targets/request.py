"""Requests to an ERP: their parts, the headers that identify the message, and the errors that stop them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.errors import Hold, PermanentError
from gateway.api.order import Message
from gateway.outbound.answer import Answer
from gateway.store.rows import OutboxRow
from gateway.targets.delivery_settings import Idempotency

# CloudEvents 1.0, HTTP binding 3.1.3.2: what is not printable ASCII, and space, quote and percent, is percent-encoded.
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
_NAMESPACE = uuid.UUID("6c9d6cf5-3c5f-4d0b-8d7e-9a0c1e1b7a52")

Context = dict[str, Any]
"""Values for templates and expressions: `order`, `message`, `vars`, `lookup`, and later `captured`, `item`."""


class Request(Struct, frozen=True, kw_only=True):
    """HTTP request without its credentials; `url` is whole and percent-encoded, and goes out as it stands."""

    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes | None = None


class Refused(PermanentError):
    """No request can be made of this order; `problems` names each reason with line and code, for a person to act on."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Unknown(Hold):
    """A look-up with `on_missing = "hold"` misses something: a person decides."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Sender(Protocol):
    """Client of one ERP, with its credentials."""

    async def send(self, request: Request) -> Answer:
        """Send a request; sign in before it where needed, and once more after a refusal.

        Raises:
            AuthError: The ERP does not accept the credentials, or has refused them too often: hold the target.
            TransientError: Signing in failed, and the request was not sent. Unreached (and Untrusted) as well.
            Unanswered: The ERP may have done it.
            TooLong: The ERP has done it, and the answer is cut.
        """


def with_message_headers(request: Request, row: OutboxRow | Message, idempotency: Idempotency) -> Request:
    """Add the headers that identify the message (CONTRACT section 5)."""
    headers = {
        "Content-Type": "application/json",
        idempotency.header: key_in_format(row.key, idempotency),
        "ce-specversion": "1.0",
        "ce-id": quote(row.key, safe=_SAFE),
        "ce-source": f"/sources/{row.source}",
        "ce-type": row.kind,
        "ce-time": (row.occurred_at or row.received_at).isoformat().replace("+00:00", "Z"),
    }
    return replace(request, headers={**request.headers, **headers})


def key_in_format(key: str, idempotency: Idempotency) -> str:
    """Return a key in the ERP's format. It is derived from our key alone, so no restart or other machine changes it."""
    if idempotency.format == "plain":
        return quote(key, safe=_SAFE)
    made = uuid.uuid5(_NAMESPACE, key)
    return str(made) if idempotency.format == "uuid5" else made.hex
