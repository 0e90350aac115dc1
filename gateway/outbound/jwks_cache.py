"""Cache of the public keys that sign a vendor's webhooks.

Any sender can name a key that does not exist, so the set is fetched at most every 30 s. Known keys stay while the endpoint is
down or answers something else; a key that a new set lacks is gone at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from gateway.api.errors import PermanentError, TransientError
from gateway.api.jwks import MAX_BYTES, PublicKey, read_keys
from gateway.clock import Clock
from gateway.outbound.session import exchange
from gateway.retry import backoff_s

log = logging.getLogger("gateway.keys")

REFRESH_S = 3600.0
QUIET_S = 30.0
_TIMEOUT_S = 5.0

Noted = Callable[[str | None], None]


class KeySet:
    """Public keys of one source; `run()` is its task.

    Args:
        noted: Called after each fetch: None while there are keys, or why there are none.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, clock: Clock, noted: Noted = lambda _: None) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        self._noted = noted
        self._turn = asyncio.Lock()
        self._keys: Mapping[str, PublicKey] = {}
        self._asked_at: float | None = None
        self._failures = 0

    @property
    def current(self) -> Mapping[str, Any]:
        return self._keys

    async def look_again(self) -> bool:
        """Fetch the keys, unless the last fetch was less than 30 s ago; return whether the last fetch succeeded.

        Callers at the same moment share one fetch.
        """
        async with self._turn:
            if self._asked_at is None or self._clock.monotonic() - self._asked_at >= QUIET_S:
                await self._fetch()
            return self._failures == 0

    async def run(self) -> None:
        """Refresh the keys until cancelled: every hour, sooner after a failure."""
        while True:
            await self.look_again()
            wait_s = backoff_s(self._failures, base_s=QUIET_S, cap_s=REFRESH_S) if self._failures else REFRESH_S
            await self._clock.sleep(max(wait_s, QUIET_S))

    async def _fetch(self) -> None:
        self._asked_at = self._clock.monotonic()
        problem = None
        try:
            answer = await exchange(
                self._session,
                "GET",
                self._url,
                headers={"Accept": "application/json"},
                body=None,
                timeout_s=_TIMEOUT_S,
                max_bytes=MAX_BYTES,
            )
            if answer.status != 200:
                raise PermanentError(f"it answers {answer.status}")
            self._keys = read_keys(answer.body)
        except (TransientError, PermanentError, ValueError) as error:
            problem = f"the keys at jwks_url cannot be had: {error}"
        if problem is not None and self._failures == 0:
            log.warning("keys.not_fetched", extra={"url": self._url, "reason": problem, "keys_kept": len(self._keys)})
        elif problem is None and self._failures:
            log.info("keys.fetched", extra={"url": self._url, "keys": len(self._keys)})
        self._failures = 0 if problem is None else self._failures + 1
        self._noted(None if self._keys else problem)
