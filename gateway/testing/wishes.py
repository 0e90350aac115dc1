"""Orders that the demo's ERP creates at a vendor's simulator through the gateway, and their return."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import aiohttp
from msgspec import Struct

from gateway.testing.simulator import Sent

_PATIENCE = 120
_PAUSE_S = 0.5


class Wish(Struct, frozen=True, kw_only=True):
    """Order that the ERP creates.

    Attributes:
        sent: The order as the vendor and the ERP should have it in the end.
    """

    command: str
    body: dict[str, Any]
    sent: Sent


@runtime_checkable
class Orderable(Protocol):
    """A simulator of a vendor at which orders can be created: `gateway.testing.Simulator`, and this."""

    def wishes(self, *, unkind: bool = False) -> Sequence[Wish]:
        """New orders, one of each kind. The vendor moves them on as soon as they are created.

        Args:
            unkind: The answer to the first creation gets lost.
        """

    def doubled(self) -> Sequence[str]:
        """Return the numbers of orders that were created twice; there must be none."""


async def submit_command(gateway_url: str, token: str, source: str, wish: Wish) -> int:
    """Hand a wish in, as an ERP does: the same again under the same key while there is no answer or a 5xx; the last status, 0 for none."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": secrets.token_hex(16)}
    status = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        for _ in range(_PATIENCE):
            try:
                async with session.post(f"{gateway_url}/out/{source}/{wish.command}", json=wish.body, headers=headers) as answer:
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            if 200 <= status < 500 and status != 429:
                break
            await asyncio.sleep(_PAUSE_S)
    return status
