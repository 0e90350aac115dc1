"""Secrets inside bodies, as JSON-RPC wants them: expressions see a mark, which the sender replaces by the secret.

So no secret stands in what is printed, compared or kept. A mark holds sixteen random bytes of this process: no order can bring one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from gateway.api.secrets import Secret

_PROCESS = secrets.token_hex(16)


def marks(names: Mapping[str, Secret]) -> dict[str, str]:
    """Return the mark of each secret, for `secret.NAME`."""
    return {name: _mark(name) for name in names}


def unmarked(body: bytes | None, names: Mapping[str, Secret]) -> bytes | None:
    """Return a body with the current secrets in place of their marks."""
    if body is None or not names:
        return body
    for name, secret in names.items():
        body = body.replace(_mark(name).encode(), json.dumps(secret.reveal())[1:-1].encode())
    return body


def _mark(name: str) -> str:
    return f"***{name}:{_PROCESS}***"
