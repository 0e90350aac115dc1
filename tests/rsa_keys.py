"""RSA keys and certificates made for a test."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import Struct

PKCS8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


class Pair(Struct, frozen=True):
    """A private key and its self-signed certificate, as PEM."""

    key: str
    certificate: str

    @property
    def public(self) -> rsa.RSAPublicKey:
        found = x509.load_pem_x509_certificate(self.certificate.encode()).public_key()
        assert isinstance(found, rsa.RSAPublicKey)
        return found


@lru_cache
def pair(name: str = "one", *, bits: int = 2048, until: datetime = datetime(2034, 1, 1, tzinfo=UTC)) -> Pair:
    """The same pair for the same name."""
    key = rsa.generate_private_key(65537, bits)
    return Pair(written(key), certificate(key, name, until))


def written(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(*PKCS8, hidden).decode()


def certificate(key: rsa.RSAPrivateKey, name: str, until: datetime) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"constructed {name}")])
    building = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    building = building.serial_number(7).not_valid_before(until - timedelta(days=3650)).not_valid_after(until)
    return building.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def jwk(name: str = "one", **more: object) -> dict[str, object]:
    """The public half as a JWK, its `kid` the name."""
    numbers = pair(name).public.public_numbers()
    return {"kty": "RSA", "use": "sig", "kid": name, "n": _number(numbers.n), "e": _number(numbers.e), **more}


def jwks(*names: str) -> bytes:
    """A key set with these pairs."""
    return json.dumps({"keys": [jwk(name) for name in names]}).encode()


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
