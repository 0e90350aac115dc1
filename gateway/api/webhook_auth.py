"""Authentication of webhooks whose body is not signed: `gateway.WebhookAuth`, a type for a connector's setting.

    webhook_auth = { kind = "bearer", token = { credential = "vendor-webhook" } }
    webhook_auth = { kind = "basic", username = "vendor", password = { credential = "vendor-webhook" } }
    webhook_auth = { kind = "jwt", issuer = "https://accounts.example", audience = "us", jwks_url = "https://accounts.example/jwks" }
    webhook_auth = { kind = "none", i_know_that_anybody_can_send = true }

A connector's `verify` returns `settings.webhook_auth.admits(envelope, now, keys)`, and its description names `jwks_url`. Secrets
are compared in constant time. A header that is missing, malformed or came twice is refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import jwt
from msgspec import Meta, Struct

from gateway.api.errors import UnknownKey
from gateway.api.jwks import PublicKey
from gateway.api.messages import Envelope
from gateway.api.secrets import Secret
from gateway.api.urls import Url

_MAX_TOKEN = 8192
_LATEST = 1e11
_Skew = Annotated[float, Meta(ge=0, le=300)]
_Text = Annotated[str, Meta(min_length=1)]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    @property
    def jwks(self) -> str | None:
        """Address of the keys that `admits` needs, for `Description.jwks_url`."""
        return None


class BearerToken(_Table, frozen=True, kw_only=True, tag_field="kind", tag="bearer"):
    """`Authorization: Bearer TOKEN` with a fixed token. `second_token` is valid as well, during a rotation."""

    token: Secret
    second_token: Secret | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        for name, secret in (("token", self.token), ("second_token", self.second_token)):
            if secret is not None and not (secret.reveal().isascii() and secret.reveal().isprintable() and " " not in secret.reveal()):
                yield name, f"holds a space, a line break or another character that no bearer token has ({secret.origin})"

    def admits(self, envelope: Envelope, now: datetime, keys: Mapping[str, Any]) -> bool:
        """Return True if the envelope has the token."""
        given = (_credentials(envelope, "bearer") or "").encode("utf-8", "replace")
        return _is_one_of(given, [secret.reveal().encode() for secret in (self.token, self.second_token) if secret])


class UserAndPassword(_Table, frozen=True, kw_only=True, tag_field="kind", tag="basic"):
    """`Authorization: Basic`, in UTF-8 (RFC 7617). `second_password` is valid as well, during a rotation."""

    username: _Text
    password: Secret
    second_password: Secret | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        if ":" in self.username or not self.username.isprintable():
            yield "username", "may not hold a colon or a control character; HTTP cannot carry it"

    def admits(self, envelope: Envelope, now: datetime, keys: Mapping[str, Any]) -> bool:
        """Return True if the envelope has user name and password."""
        try:
            given = base64.b64decode(_credentials(envelope, "basic") or "", validate=True)
        except (binascii.Error, ValueError):
            return False
        passwords = [secret.reveal() for secret in (self.password, self.second_password) if secret]
        return _is_one_of(given, [f"{self.username}:{password}".encode() for password in passwords])


class SignedToken(_Table, frozen=True, kw_only=True, tag_field="kind", tag="jwt"):
    """`Authorization: Bearer JWT`, signed by `issuer` for `audience` with one of the keys at `jwks_url`.

    Attributes:
        scope: If it is set, the token must have it.
        skew_s: Seconds by which the clocks of issuer and gateway may differ.
    """

    issuer: _Text
    audience: _Text
    jwks_url: Url
    allow_plain_http: bool = False
    scope: str = ""
    skew_s: _Skew = 60.0

    @property
    def jwks(self) -> str | None:
        return self.jwks_url

    def admits(self, envelope: Envelope, now: datetime, keys: Mapping[str, Any]) -> bool:
        """Return True if the envelope has a token that is valid now.

        Raises:
            UnknownKey: The token's claims are right, and its signing key is not in `keys`.
        """
        token = _credentials(envelope, "bearer") or ""
        if not 0 < len(token) <= _MAX_TOKEN:
            return False
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        if "crit" in header or not self._is_for_us(claims, now):
            return False
        kid = header.get("kid")
        named: Sequence[PublicKey] = [*keys.values()] if kid is None else [keys[kid]] if isinstance(kid, str) and kid in keys else []
        if any(header.get("alg") in key.algorithms and _is_signed(token, key) for key in named):
            return True
        if kid is None or not named:
            raise UnknownKey("a token is signed with a key that is not among the issuer's keys")
        return False

    def _is_for_us(self, claims: Mapping[str, Any], now: datetime) -> bool:
        at = now.timestamp()
        audience = claims.get("aud")
        times = [claims.get(name) for name in ("exp", "nbf", "iat")]
        if not all(time is None or _is_time(time) for time in times):
            return False
        ends, begins, issued = times
        return (
            claims.get("iss") == self.issuer
            and self.audience in (audience if isinstance(audience, list) else [audience])
            and ends is not None
            and at < ends + self.skew_s
            and all(time is None or time - self.skew_s <= at for time in (begins, issued))
            and (not self.scope or self.scope in _scopes(claims.get("scope", claims.get("scp"))))
        )


class Nothing(_Table, frozen=True, kw_only=True, tag_field="kind", tag="none"):
    """No authentication: something in front of the gateway decides who may send."""

    i_know_that_anybody_can_send: bool = False

    def check(self) -> Iterable[tuple[str, str]]:
        if not self.i_know_that_anybody_can_send:
            yield "i_know_that_anybody_can_send", "must be true: without authentication, anybody who finds the address can send orders"

    def admits(self, envelope: Envelope, now: datetime, keys: Mapping[str, Any]) -> bool:
        """Return True if the operator has confirmed that anybody can send."""
        return self.i_know_that_anybody_can_send


WebhookAuth: TypeAlias = BearerToken | UserAndPassword | SignedToken | Nothing


def _credentials(envelope: Envelope, scheme: str) -> str | None:
    """Return the part of the `Authorization` header behind the scheme."""
    found, _, given = (envelope.header("Authorization") or "").partition(" ")
    return given.strip() if found.lower() == scheme else None


def _is_one_of(given: bytes, wanted: Sequence[bytes]) -> bool:
    """Compare with every one, so that the time taken reveals nothing; an empty text is never right."""
    return bool(given) and sum(hmac.compare_digest(given, one) for one in wanted) > 0


def _is_signed(token: str, key: PublicKey) -> bool:
    try:
        jwt.decode(token, key.key, algorithms=list(key.algorithms), options=_SIGNATURE_ONLY)
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


# Only the signature: `_is_for_us` checks the claims with `now`, where the library would use a clock of its own.
_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False),
}


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LATEST


def _scopes(claim: object) -> Sequence[str]:
    """Read a text with spaces (RFC 9068), or a list, as older identity servers write it."""
    return claim.split() if isinstance(claim, str) else [one for one in claim if isinstance(one, str)] if isinstance(claim, list) else []
