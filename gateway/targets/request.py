"""What travels between the parts of a target: the request that is to be sent, the context it is made of, and what can stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from gateway.api.errors import Hold, PermanentError
from gateway.outbound.answer import Answer

Context = dict[str, Any]
"""What templates and expressions see: `order`, `message`, `vars`, `lookup`, and what came later (`captured`, `item`)."""


class Request(Struct, frozen=True, kw_only=True):
    """One HTTP request without its credentials; `url` is whole and percent-encoded, and goes out as it stands."""

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
    """Sends requests to one ERP, with its credentials."""

    async def send(self, request: Request) -> Answer:
        """One request, one whole answer; signs in before it where needed, and once more after a refusal.

        Raises:
            AuthError: The ERP does not accept the credentials, or has refused them too often: hold the target.
            TransientError: Signing in did not work now; the request was not sent. Unreached (and Untrusted) as well.
            Unanswered: It may have been done.
            TooLong: It was done, and the answer is cut.
        """
