"""OAuth2 client credentials (RFC 6749, 4.4): one token, one renewal at a time, renewed before it runs out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gateway.client import OAuth2
from gateway.clock import Clock
from gateway.errors import AuthError, PermanentError, RateLimited, TransientError
from gateway.outbound.session import Answer, retry_after_s

_EARLY_S = 60.0
_UNSAID_S = 3600.0
_CODE = re.compile(r"[a-z_]{1,40}")

Send = Callable[[str, str, dict[str, str], bytes], Awaitable[Answer]]


class _Token(Struct):
    access_token: str
    expires_in: float | None = None
    token_type: str = "Bearer"  # noqa: S105 - the name of a kind


class TokenSource:
    """The token of one source or target.

    Args:
        settings: Where to ask, as whom. The secret is read anew for every renewal.
        send: Makes the request `(method, url, headers, body)`.
    """

    def __init__(self, settings: OAuth2, send: Send, clock: Clock) -> None:
        self._settings = settings
        self._send = send
        self._clock = clock
        self._token: str | None = None
        self._good_until = 0.0
        self._turn = asyncio.Lock()

    async def token(self, *, instead_of: str | None = None) -> str:
        """The token of now; another one than `instead_of`, which the other side has just refused.

        Raises:
            AuthError: The token endpoint refuses us, or answers something that is no token.
            TransientError: It cannot be reached or is not well.
        """
        async with self._turn:
            if self._token is None or self._token == instead_of or self._clock.monotonic() >= self._good_until:
                await self._renew()
            assert self._token is not None
            return self._token

    async def _renew(self) -> None:
        self._token = None
        asked_at = self._clock.monotonic()
        answer = await self._answer()
        try:
            token = msgspec.json.decode(answer.body, type=_Token, strict=False)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise AuthError("the token endpoint's answer is no token; check token_url") from error
        if token.token_type.lower() != "bearer":
            raise AuthError("the token endpoint gives another kind of token than Bearer; check token_url")
        if not token.access_token or not token.access_token.isprintable():
            raise AuthError("the token endpoint's answer holds no usable token; check token_url")
        self._token = token.access_token
        lifetime_s = _UNSAID_S if token.expires_in is None else token.expires_in
        self._good_until = asked_at + max(lifetime_s - _EARLY_S, lifetime_s / 2)

    async def _answer(self) -> Answer:
        """A 200 of the token endpoint. Nothing that it says otherwise may bury an order: whoever waits for a token waits on."""
        try:
            answer = await self._send("POST", self._settings.token_url, *self._request())
        except PermanentError as error:
            raise AuthError(f"the token endpoint: {error}; check token_url") from error
        wait_s = retry_after_s(answer.headers, self._clock.now())
        if answer.status == 429:
            raise RateLimited("the token endpoint says that we call too often (429)", retry_after_s=wait_s or 60.0)
        if answer.status in (408, 425) or answer.status >= 500:
            raise TransientError(f"the token endpoint answers {answer.status}", retry_after_s=wait_s)
        if answer.status in (400, 401, 403):
            raise AuthError(f"the token endpoint answers {answer.status}{_reason(answer.body)}; check client_id and client_secret")
        if answer.status != 200:
            raise AuthError(f"the token endpoint answers {answer.status}; check token_url")
        return answer

    def _request(self) -> tuple[dict[str, str], bytes]:
        fields = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.reveal(),
            **({"scope": self._settings.scope} if self._settings.scope else {}),
        }
        if self._settings.encoding == "json":
            return {"Content-Type": "application/json", "Accept": "application/json"}, msgspec.json.encode(fields)
        return {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}, urlencode(fields).encode()


class _Refusal(Struct):
    error: str | None = None


def _reason(body: bytes) -> str:
    """The standard's `error` code (RFC 6749, 5.2); nothing else of the answer is repeated, it could hold what we sent."""
    try:
        code = msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return f" ({code})" if code and _CODE.fullmatch(code) else ""
