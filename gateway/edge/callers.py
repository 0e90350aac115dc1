"""Authentication of callers of the command API by bearer token; the configuration has only its SHA-256."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from msgspec import Struct

from gateway.config.settings import OPERATOR, CallerSettings

_LONGEST_TOKEN = 4096


class Caller(Struct, frozen=True, kw_only=True):
    """Caller with its rights. `commands` are patterns; None for all. `most_per_second`: None for no limit."""

    name: str
    commands: frozenset[str] | None = None
    most_per_second: int | None = None

    def may(self, source: str, command: str) -> bool:
        """Return True if the caller may submit this command."""
        return self.commands is None or f"{source}/{command}" in self.commands or f"{source}/*" in self.commands


OPERATORS = Caller(name=OPERATOR)
"""Operators who may open the control socket."""


class Callers:
    """Configured callers, by the digest of their tokens."""

    def __init__(self, settings: Mapping[str, CallerSettings]) -> None:
        self._known = [
            (
                bytes.fromhex(one.token_sha256),
                Caller(name=name, commands=frozenset(one.commands), most_per_second=one.max_requests_per_second),
            )
            for name, one in settings.items()
        ]

    def of(self, authorization: Sequence[str]) -> Caller | None:
        """Return the caller whose token the one `Authorization` header has. Every digest is compared, in constant time."""
        token = _token(authorization)
        given, found = hashlib.sha256(token).digest(), None
        for digest, caller in self._known:
            if hmac.compare_digest(given, digest):
                found = caller
        return found if token else None


def _token(authorization: Sequence[str]) -> bytes:
    """Return the bearer token, or nothing if there is none or more than one header."""
    if len(authorization) != 1 or len(authorization[0]) > _LONGEST_TOKEN:
        return b""
    scheme, _, token = authorization[0].partition(" ")
    return token.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""
