"""OAuth2 client credentials (RFC 6749, 4.4): one token, one renewal at a time, before the token expires.

The client proves itself with a secret, or with a signed assertion (RFC 7523, 2.2). After a refused assertion none is sent for some
minutes, since only a person or a clock can put it right; a new secret starts over at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gateway.api.client_assertion import ASSERTION_TYPE, Signer, causes, signer
from gateway.api.errors import AuthError, PermanentError
from gateway.api.vendor_client import OAuth2
from gateway.clock import Clock
from gateway.outbound.answer import Answer, date_of, raise_if_busy

log = logging.getLogger("gateway.token")

_EARLY_S = 60.0
_UNSAID_S = 3600.0
_REFUSED_PAUSE_S = 300.0
_CODE = re.compile(r"[a-z_]{1,40}")

Send = Callable[[str, str, dict[str, str], bytes], Awaitable[Answer]]


class _Token(Struct):
    access_token: str
    expires_in: Any = None
    token_type: str = "Bearer"  # noqa: S105 - the name of a kind


class TokenSource:
    """Access token of one source or target.

    Args:
        settings: Endpoint and client. The secret is read for every renewal.
        send: Makes the request `(method, url, headers, body)`.
    """

    def __init__(self, settings: OAuth2, send: Send, clock: Clock) -> None:
        self._settings = settings
        self._send = send
        self._clock = clock
        self._token: str | None = None
        self._good_until = 0.0
        self._refusal = ""
        self._refused_until = 0.0
        self._turn = asyncio.Lock()

    async def token(self, *, instead_of: str | None = None) -> str:
        """Return the current token, or a new one in place of `instead_of`, which the other side has refused.

        Raises:
            AuthError: The token endpoint refuses us, or its answer is no token.
            TransientError: It cannot be reached, or fails.
        """
        async with self._turn:
            if self._token is None or self._token == instead_of or self._clock.monotonic() >= self._good_until:
                await self._renew()
            assert self._token is not None
            return self._token

    async def _renew(self) -> None:
        self._token = None
        asked_at = self._clock.monotonic()
        if asked_at < self._refused_until:
            raise AuthError(self._refusal)
        answer = await self._answer()
        try:
            token = msgspec.json.decode(answer.body, type=_Token, strict=False)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise AuthError("the token endpoint's answer is no token; check token_url", refused=False) from error
        if token.token_type.lower() != "bearer":
            raise AuthError("the token endpoint gives another kind of token than Bearer; check token_url", refused=False)
        if not token.access_token or not token.access_token.isprintable():
            raise AuthError("the token endpoint's answer holds no usable token; check token_url", refused=False)
        self._token = token.access_token
        lifetime_s = _lifetime_s(token.expires_in)
        self._good_until = asked_at + max(lifetime_s - _EARLY_S, lifetime_s / 2)

    async def _answer(self) -> Answer:
        """Return the endpoint's 200. Every other answer raises an error that lets orders wait, so that none becomes a dead letter."""
        try:
            answer = await self._send("POST", self._settings.token_url, *self._request())
        except PermanentError as error:
            raise AuthError(f"the token endpoint: {error}; check token_url", refused=False) from error
        raise_if_busy("the token endpoint", answer, self._clock.now())
        if self._settings.client_auth == "private_key_jwt" and answer.status in (400, 401) and _code(answer.body) == "invalid_client":
            raise self._refused(answer)
        if answer.status in (400, 401, 403):
            proof = self._settings.client_auth.removesuffix("_jwt")
            raise AuthError(f"the token endpoint answers {answer.status}{_reason(answer.body)}; check client_id and {proof}")
        if answer.status != 200:
            raise AuthError(f"the token endpoint answers {answer.status}; check token_url", refused=False)
        return answer

    def _refused(self, answer: Answer) -> AuthError:
        """Explain why the assertion was refused, and send none for some minutes."""
        settings, now = self._settings, self._clock.now()
        why = causes(self._signer(), audience=self._audience, lifetime_s=settings.assertion_s, now=now, their_now=date_of(answer.headers))
        self._refusal = f"the token endpoint answers {answer.status} (invalid_client); {why}"
        self._refused_until = self._clock.monotonic() + _REFUSED_PAUSE_S
        log.warning("token.refused", extra={"client_id": settings.client_id, "reason": self._refusal, "again_in_s": _REFUSED_PAUSE_S})
        return AuthError(self._refusal)

    def _request(self) -> tuple[dict[str, str], bytes]:
        fields = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            **self._proof(),
            **({"scope": self._settings.scope} if self._settings.scope else {}),
        }
        if self._settings.encoding == "json":
            return {"Content-Type": "application/json", "Accept": "application/json"}, msgspec.json.encode(fields)
        return {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}, urlencode(fields).encode()

    def _proof(self) -> dict[str, str]:
        """Return the secret, or a new assertion."""
        settings = self._settings
        if settings.client_auth == "client_secret":
            if settings.client_secret is None:
                raise AuthError("there is no client_secret")
            return {"client_secret": settings.client_secret.reveal()}
        signed = self._signer().sign(
            client_id=settings.client_id,
            audience=self._audience,
            jti=str(uuid.uuid4()),
            now=self._clock.now(),
            lifetime_s=settings.assertion_s,
            with_certificate=settings.send_certificate,
        )
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}

    @property
    def _audience(self) -> str:
        return self._settings.audience or self._settings.token_url

    def _signer(self) -> Signer:
        """Return a signer with the current key; its file may have changed before the certificate's."""
        settings = self._settings
        if settings.private_key is None:
            raise AuthError("there is no private_key")
        try:
            return signer(settings.private_key.reveal(), settings.certificate and settings.certificate.reveal())
        except ValueError as error:
            raise AuthError(f"private_key and certificate cannot be used: {error}") from error


def _lifetime_s(said: Any) -> float:
    """Return a token's lifetime; an hour where `expires_in` is missing or unreadable."""
    try:
        seconds = float(said)
    except (ArithmeticError, TypeError, ValueError):
        return _UNSAID_S
    return seconds if math.isfinite(seconds) else _UNSAID_S


class _Refusal(Struct):
    error: str | None = None


def _code(body: bytes) -> str:
    """Return the `error` code (RFC 6749, 5.2), or an empty text."""
    try:
        code = msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return code if code and _CODE.fullmatch(code) else ""


def _reason(body: bytes) -> str:
    """Return the error code in brackets. Nothing else of the answer is repeated: it could hold what we sent."""
    code = _code(body)
    return f" ({code})" if code else ""
