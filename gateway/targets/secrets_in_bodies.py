"""Secrets that an ERP wants inside the body, as JSON-RPC does: expressions see a mark, and the secret takes its place on the way out.

So no secret stands in what is printed, compared or kept. A mark holds sixteen random bytes of this process: no order can bring one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from gateway.api.secrets import Secret

_PROCESS = secrets.token_hex(16)


def marks(names: Mapping[str, Secret]) -> dict[str, str]:
    """What `secret.NAME` is to an expression."""
    return {name: _mark(name) for name in names}


def unmarked(body: bytes | None, names: Mapping[str, Secret]) -> bytes | None:
    """A body with the secrets of now in place of their marks."""
    if body is None or not names:
        return body
    for name, secret in names.items():
        body = body.replace(_mark(name).encode(), json.dumps(secret.reveal())[1:-1].encode())
    return body


def _mark(name: str) -> str:
    return f"***{name}:{_PROCESS}***"
