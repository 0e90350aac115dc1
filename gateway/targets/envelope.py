"""The headers that say which message a request carries."""

from __future__ import annotations

import uuid
from datetime import datetime
from urllib.parse import quote

from msgspec.structs import replace

from gateway.api.order import Message
from gateway.store.rows import OutboxRow
from gateway.targets.delivery_settings import Idempotency
from gateway.targets.request import Request

# CloudEvents 1.0, HTTP binding 3.1.3.2: what is not printable ASCII, and space, quote and percent, is percent-encoded.
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
_NAMESPACE = uuid.UUID("6c9d6cf5-3c5f-4d0b-8d7e-9a0c1e1b7a52")
_PLAIN = Idempotency()


def with_envelope(request: Request, row: OutboxRow | Message, idempotency: Idempotency) -> Request:
    """A request as it leaves, but for the credentials."""
    return replace(request, headers={**request.headers, **envelope_headers(row, idempotency)})


def envelope_headers(row: OutboxRow | Message, idempotency: Idempotency = _PLAIN) -> dict[str, str]:
    """The headers that say which message this is (CONTRACT section 5)."""
    key = quote(row.key, safe=_SAFE)
    return {
        "Content-Type": "application/json",
        idempotency.header: in_format(row.key, idempotency),
        "ce-specversion": "1.0",
        "ce-id": key,
        "ce-source": f"/sources/{row.source}",
        "ce-type": row.kind,
        "ce-time": _instant(row.occurred_at or row.received_at),
    }


def in_format(key: str, idempotency: Idempotency) -> str:
    """A key as the ERP wants it: derived, so that it is the same after a restart and on another machine."""
    if idempotency.format == "plain":
        return quote(key, safe=_SAFE)
    made = uuid.uuid5(_NAMESPACE, key)
    return str(made) if idempotency.format == "uuid5" else made.hex


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
