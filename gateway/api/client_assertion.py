"""Signed client assertions: `private_key_jwt` of RFC 7521 and RFC 7523, with RS256. Pure: the time is an argument."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.api.secrets import Secret

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MIN_BITS = 2048


class Signer:
    """Private key, and the certificate by which the token endpoint knows it.

    Args:
        private_key: PEM, RSA of 2048 bits or more, without a passphrase.
        certificate: PEM; None sends no `x5t`.
    Raises:
        ValueError: One of the two cannot be used, or they are no pair.
    """

    def __init__(self, private_key: str, certificate: str | None) -> None:
        self._key = _read_key(private_key)
        self._certificate = None if certificate is None else _read_certificate(certificate)
        if self._certificate is not None and self._certificate.public_key() != self._key.public_key():
            raise ValueError("is not the certificate of private_key; put the two of one pair there")

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the certificate in hex, as certificate stores show it; `x5t` has it in base64."""
        return "" if self._certificate is None else self._certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - RFC 7515 4.1.7

    @property
    def ends_at(self) -> datetime | None:
        """Instant at which the certificate expires, UTC."""
        return None if self._certificate is None else self._certificate.not_valid_after_utc

    def sign(self, *, client_id: str, audience: str, jti: str, now: datetime, lifetime_s: float, with_certificate: bool = False) -> str:
        """Make an assertion for one token request.

        Args:
            jti: A new one each time; the token endpoint refuses one that it has seen.
            with_certificate: Send the certificate itself, in `x5c`.
        """
        issued = int(now.timestamp())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": jti,
            "iat": issued,
            "nbf": issued,
            "exp": issued + round(lifetime_s),
        }
        headers: dict[str, object] = {}
        if self._certificate is not None:
            headers["x5t"] = _url64(self._certificate.fingerprint(hashes.SHA1()))  # noqa: S303 - a name, RFC 7515 4.1.7
            if with_certificate:
                headers["x5c"] = [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()]
        return jwt.encode(claims, self._key, algorithm="RS256", headers=headers)


@lru_cache(maxsize=16)
def signer(private_key: str, certificate: str | None) -> Signer:
    """Return the signer of these texts, cached: reading a key takes milliseconds. Raises ValueError."""
    return Signer(private_key, certificate)


def problems(private_key: Secret, certificate: Secret | None) -> Iterable[tuple[str, str]]:
    """Yield each problem of the two as a setting's name and a text, for `gateway check`."""
    readable = True
    for name, secret, read in (("private_key", private_key, _read_key), ("certificate", certificate, _read_certificate)):
        if secret is not None:
            try:
                read(secret.reveal())
            except ValueError as error:
                readable = False
                yield name, f"{error} ({secret.origin})"
    if readable and certificate is not None:
        try:
            signer(private_key.reveal(), certificate.reveal())
        except ValueError as error:
            yield "certificate", f"{error} ({certificate.origin})"


def ends_of(pem: str) -> list[datetime]:
    """Return the instants, UTC, at which the certificates of a PEM text expire; empty without a certificate."""
    if "-----BEGIN CERTIFICATE-----" not in pem:
        return []
    try:
        return sorted({found.not_valid_after_utc for found in x509.load_pem_x509_certificates(pem.encode())})
    except Exception:  # the user of the certificate reports it
        return []


def _read_key(text: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError as error:
        raise ValueError("is encrypted with a passphrase; write it out without one: openssl pkey -in KEY -out PLAIN-KEY") from error
    except Exception as error:  # cryptography raises many kinds, and their texts can quote the key
        instead = "a certificate" if "BEGIN CERTIFICATE" in text else "a public key" if "PUBLIC KEY" in text else "no PEM private key"
        raise ValueError(f"is {instead}; it begins with -----BEGIN PRIVATE KEY-----") from error
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("is no RSA key, and RS256 needs one; make it with: openssl req -x509 -newkey rsa:2048 ...")
    if key.key_size < _MIN_BITS:
        raise ValueError(f"has {key.key_size} bits, which is too few; make one of {_MIN_BITS} bits")
    return key


def _read_certificate(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except Exception as error:
        instead = "a private key" if "PRIVATE KEY" in text else "no PEM certificate"
        raise ValueError(f"is {instead}; it begins with -----BEGIN CERTIFICATE-----") from error


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def causes(signer: Signer, *, audience: str, lifetime_s: float, now: datetime, their_now: datetime | None) -> str:
    """Say why a token endpoint may answer `invalid_client` to an assertion, the likeliest cause first (vendors/scalepoint.md 4, case 7)."""
    ahead_s = None if their_now is None else round((now - their_now).total_seconds())
    if ahead_s is None:
        clock = "this machine's clock is wrong (the answer has no date to compare with)"
    elif abs(ahead_s) < lifetime_s / 4:
        clock = f"this machine's clock is wrong (unlikely: it differs by {abs(ahead_s)} s from the endpoint's)"
    else:
        side = "ahead of" if ahead_s > 0 else "behind"
        clock = f"this machine's clock is wrong: it is {abs(ahead_s)} s {side} the endpoint's, and an assertion lives {lifetime_s:g} s"
    registered = f"the certificate {signer.thumbprint or 'of private_key'} is not registered there"
    if signer.ends_at is not None and signer.ends_at < now:
        registered += f", or refused since it expired on {signer.ends_at.astimezone(UTC):%Y-%m-%d}"
    return f"check three things: {clock}; the endpoint expects another `aud` (the gateway sends {audience}); {registered}"
