"""Simulated authorization server: keys, certificates, client assertions and tokens (vendors/scalepoint.md section 2).

It checks a client assertion fully: the pinned certificate by `x5t`, RS256, issuer and subject, audience, times, and a new `jti`. It
signs webhook tokens with keys that a test can rotate.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TOKEN_S = 3600
_UNCHECKED: Any = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud"), False)


class Pair(Struct, frozen=True):
    """RSA key and self-signed certificate in PEM, as the vendor requires."""

    key: str
    certificate: str
    x5t: str
    public: rsa.RSAPublicKey


def make_pair(at: datetime) -> Pair:
    """Make a pair that is valid for two years."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "constructed supplier")])
    building = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    building = building.serial_number(x509.random_serial_number()).not_valid_before(at - timedelta(days=1))
    made = building.not_valid_after(at + timedelta(days=730)).sign(key, hashes.SHA256())
    return Pair(
        key=key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
        certificate=made.public_bytes(serialization.Encoding.PEM).decode(),
        x5t=_url64(made.fingerprint(hashes.SHA1())),  # noqa: S303 - RFC 7515, 4.1.7
        public=key.public_key(),
    )


class Identity:
    """Authorization server: takes client assertions, and gives access tokens and webhook tokens.

    Attributes:
        registered: The client's pinned certificates by `x5t`; two during a rotation.
        client_secret: Accepted in place of an assertion, if it is set.
        skew_s: Accepted difference of the client's clock.
        forms: All token requests.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.client_id = "example_supplier"
        self.client_secret: str | None = None
        self.registered: dict[str, Pair] = {}
        self.skew_s = 30.0
        self.audience = ""
        self.forms: list[dict[str, str]] = []
        self._now = now
        self._seen: set[str] = set()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._signing: list[tuple[str, rsa.RSAPrivateKey]] = []

    def register(self) -> Pair:
        """Make a pair and pin its certificate, as Scalepoint's staff do."""
        made = make_pair(self._now())
        self.registered[made.x5t] = made
        return made

    def token(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Answer a token request with status and body."""
        self.forms.append(dict(form))
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        if not (self._knows_secret(form) or self._proves_key(form)):
            return 401, {"error": "invalid_client"}
        if not form.get("scope"):
            return 400, {"error": "invalid_scope"}
        made = f"constructed-token-{len(self.forms)}"
        self._tokens[made] = (form["scope"], self._now().timestamp() + _TOKEN_S)
        return 200, {"access_token": made, "expires_in": _TOKEN_S, "token_type": "Bearer"}

    def allows(self, authorization: str, scope: str) -> bool:
        """Tell whether a request's token is valid for the scope."""
        granted, until = self._tokens.get(authorization.removeprefix("Bearer "), ("", 0.0))
        return scope in granted.split() and until > self._now().timestamp()

    def expire_tokens(self) -> None:
        """Refuse all tokens that were given before."""
        self._tokens.clear()

    def _knows_secret(self, form: Mapping[str, str]) -> bool:
        return self.client_secret is not None and (form.get("client_id"), form.get("client_secret")) == (self.client_id, self.client_secret)

    def _proves_key(self, form: Mapping[str, str]) -> bool:
        assertion = form.get("client_assertion", "")
        try:
            pair = self.registered[jwt.get_unverified_header(assertion)["x5t"]]
            said = jwt.decode(assertion, pair.public, algorithms=["RS256"], options=_UNCHECKED)
        except (jwt.PyJWTError, KeyError):
            return False
        at, known = self._now().timestamp(), {"iss": self.client_id, "sub": self.client_id, "aud": self.audience}
        lives = said.get("nbf", 0) - self.skew_s <= at < said.get("exp", 0) + self.skew_s
        if form.get("client_assertion_type") != JWT_BEARER or {name: said.get(name) for name in known} != known or not lives:
            return False
        fresh = bool(said.get("jti")) and said["jti"] not in self._seen
        self._seen.add(str(said.get("jti")))
        return fresh

    def rotate(self, *, keep: bool = True) -> None:
        """Sign with a new key from now on; `keep` leaves the old ones in the key set."""
        self._signing = [(f"constructed-{len(self._signing) + 1}", rsa.generate_private_key(65537, 2048)), *(self._signing if keep else [])]

    def webhook_token(self, issuer: str, audience: str, **changes: Any) -> str:
        """Make a webhook token, signed with the newest key."""
        if not self._signing:
            self.rotate()
        kid, key = self._signing[0]
        at = int(self._now().timestamp())
        said = {"iss": issuer, "aud": audience, "iat": at, "nbf": at, "exp": at + 300, "scope": "events.push", **changes}
        return jwt.encode(said, key, algorithm="RS256", headers={"kid": kid})

    def key_set(self) -> dict[str, Any]:
        """Return the JWKS."""
        if not self._signing:
            self.rotate()
        public = [(kid, json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))) for kid, key in self._signing]
        return {"keys": [one | {"kid": kid, "use": "sig", "alg": "RS256"} for kid, one in public]}


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def utc_now() -> datetime:
    return datetime.now(UTC)
