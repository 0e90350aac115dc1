"""Vendor client over HTTP: one per source, with its credentials and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec

from gateway.api.errors import AuthError, PermanentError
from gateway.api.vendor_client import Api, OAuth2, Response
from gateway.clock import Clock
from gateway.outbound.answer import Answer, raise_if_busy
from gateway.outbound.auth_headers import auth_headers
from gateway.outbound.oauth2 import TokenSource
from gateway.outbound.session import exchange
from gateway.rate_limit import RateLimiter


class HttpVendorClient:
    """Implementation of `VendorClient`. Call `reset()` after a secret has changed."""

    def __init__(self, api: Api, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._api = api
        self._session = session
        self._clock = clock
        self._budget = RateLimiter(api.calls_per_minute, 60.0, clock)
        self._one_at_a_time = asyncio.Lock()
        self._refusals = 0
        self._tokens: dict[str, TokenSource] = {}
        self.reset()

    def reset(self) -> None:
        """Forget tokens and refusals."""
        self._tokens = {}
        self._refusals = 0

    async def sign_in(self) -> None:
        """Get a token where the API needs one. Raises what `request` raises."""
        tokens = self._tokens_for(None)
        if tokens:
            await tokens.token()

    def _tokens_for(self, scope: str | None) -> TokenSource | None:
        auth = self._api.auth
        if not isinstance(auth, OAuth2):
            return None
        wanted = auth.scope if scope is None else scope
        if wanted not in self._tokens:
            self._tokens[wanted] = TokenSource(msgspec.structs.replace(auth, scope=wanted), self._send, self._clock)
        return self._tokens[wanted]

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        scope: str | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        url = self._address(path)
        body = None if json is None else msgspec.json.encode(json)
        sent = {"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}

        async def send(token: str | None) -> Answer:
            return await self._send(method, url, {**sent, **self._credentials(token)}, body, params, timeout_s)

        tokens = self._tokens_for(scope)
        if self._api.stop_after_auth_failures is None:
            return self._judge(await _authorised(tokens, send), accept)
        async with self._one_at_a_time:  # two at the same time could both be the last one too many
            self._refuse_to_be_locked_out(self._api.stop_after_auth_failures)
            answer = await _authorised(tokens, send)
            self._refusals = self._refusals + 1 if answer.status == 401 else 0
            self._refuse_to_be_locked_out(self._api.stop_after_auth_failures)
            return self._judge(answer, accept)

    def _refuse_to_be_locked_out(self, limit: int) -> None:
        if self._refusals >= limit:
            raise AuthError(
                f"the vendor refused the credentials {self._refusals} times; nothing more is sent, so that the account is not locked, "
                "until the secret changes, the configuration is reloaded, or `gateway resume SOURCE`"
            )

    def _address(self, path: str) -> str:
        url = urljoin(self._api.base_url.rstrip("/") + "/", path)
        theirs = urlsplit(url)
        ours = [urlsplit(one) for one in (self._api.base_url, *self._api.also)]
        if not any((one.scheme, one.netloc) == (theirs.scheme, theirs.netloc) for one in ours):
            raise PermanentError(f"{theirs.netloc} is not the vendor's host {ours[0].netloc}; credentials do not go there")
        return url

    def _credentials(self, token: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"} if token else auth_headers(self._api.auth)

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        await self._budget.take()
        return await exchange(
            self._session,
            method,
            url,
            headers=headers,
            body=body,
            params=params,
            timeout_s=timeout_s or self._api.timeout_s,
            max_bytes=self._api.max_response_bytes,
        )

    def _judge(self, answer: Answer, accept: Collection[int]) -> Response:
        status = answer.status
        if 200 <= status < 300 or status in accept:
            return Response(status=status, headers={name.lower(): value for name, value in answer.headers.items()}, body=answer.body)
        raise_if_busy("the vendor", answer, self._clock.now())
        if status in (401, 403):
            raise AuthError(f"the vendor answers {status}; check the credentials and what they may do")
        if 300 <= status < 400:
            raise PermanentError(f"the vendor redirects ({status}); check base_url, redirects are not followed")
        raise PermanentError(f"the vendor answers {status}")


async def _authorised(tokens: TokenSource | None, send: Callable[[str | None], Awaitable[Answer]]) -> Answer:
    """Send with a token, and once more with a new one after a 401."""
    token = await tokens.token() if tokens else None
    answer = await send(token)
    if answer.status == 401 and tokens:
        answer = await send(await tokens.token(instead_of=token))
    return answer
