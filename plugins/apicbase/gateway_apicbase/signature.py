"""The webhook's signature: hex HMAC-SHA256 of the payload (vendors/apicbase.md sections 1 and 2, from the vendor's
"Receive Orders" page, 2.1).

The vendor says to verify "using the raw request data content or to ensure the content has the ASCII encoding", and its
sample signs `json.dumps(request.data)`. So the raw bytes are tried first and, where the operator allows it, Python's ASCII
form of the same data second. No timestamp or nonce is signed: a captured request passes for ever, and is a repeat.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_genuine(body: bytes, given: str | None, secrets: Sequence[str], *, ascii_fallback: bool) -> bool:
    """Whether `given` is the signature of `body` under one of the secrets.

    Case does not matter; a prefix, a missing or a doubled header (None) does. What does not even look like a signature is
    refused before the body is looked at.
    """
    signature = (given or "").lower()
    if not _HEX_SHA256.fullmatch(signature):
        return False
    if _matches(body, signature, secrets):
        return True
    plain = ascii_form(body) if ascii_fallback else None
    return plain is not None and _matches(plain, signature, secrets)


def _matches(message: bytes, signature: str, secrets: Sequence[str]) -> bool:
    """Looks at every secret, so that the time taken does not say which one it was."""
    found = False
    for secret in secrets:
        made = _keyed(secret).copy()
        made.update(message)
        found |= hmac.compare_digest(made.hexdigest(), signature)
    return found


@lru_cache(maxsize=8)
def _keyed(secret: str) -> hmac.HMAC:
    """Begun once for each secret: `hmac.digest` lets the interpreter lock go over every message, this does so over long ones only."""
    return hmac.new(secret.encode(), digestmod="sha256")


def ascii_form(body: bytes) -> bytes | None:
    """`json.dumps(json.loads(body))`; None where there is no such thing.

    A key that stands twice is such a case: `json.dumps` writes none, and which of the two was signed would be a guess.
    """
    try:
        return json.dumps(json.loads(body, object_pairs_hook=unique)).encode("ascii")
    except (ValueError, RecursionError):
        return None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand once. Raises ValueError."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return made
