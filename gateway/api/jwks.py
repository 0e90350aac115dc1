"""A JSON Web Key Set (RFC 7517): the public keys that somebody else signs tokens with. Pure, bounded, asymmetric keys only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from gateway.api.strict_json import read_json

MAX_BYTES = 256 * 1024
MAX_KEYS = 50
_BITS = range(2048, 8193)

# What a key may be used for: never HS256, whose "secret" would be the public key, and never `none`.
_ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
}


class PublicKey(Struct, frozen=True, kw_only=True):
    """One key.

    Attributes:
        algorithms: What tokens may say in `alg` to be checked with it.
        key: cryptography's own.
    """

    algorithms: tuple[str, ...]
    key: Any


def read_keys(body: bytes) -> dict[str, PublicKey]:
    """The usable keys by `kid`; one without is named by its place.

    Keys for encryption, symmetric keys, and kinds that nobody here knows are left out.

    Raises:
        ValueError: It is no key set, or no usable key is in it.
    """
    said = read_json(body, max_bytes=MAX_BYTES)
    entries = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no JSON Web Key Set")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it holds more than {MAX_KEYS} keys")
    found: dict[str, PublicKey] = {}
    for n, entry in enumerate(entries):
        made = _read_key(entry) if isinstance(entry, dict) else None
        if made is not None:
            kid = entry.get("kid")
            found[kid if isinstance(kid, str) and kid else f"#{n}"] = made
    if not found:
        raise ValueError("it holds no key that tokens can be checked with")
    return found


def _read_key(entry: Mapping[str, Any]) -> PublicKey | None:
    kind = entry.get("kty")
    algorithms = _ALGORITHMS.get(str(kind if kind == "RSA" else entry.get("crv")))
    said = entry.get("alg")
    if kind not in ("RSA", "EC", "OKP") or algorithms is None or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    if said is not None:
        algorithms = tuple(one for one in algorithms if one == said)
    if not algorithms:
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithms[0]).key
    except Exception:  # what a malformed key makes the library raise is of many kinds
        return None
    if isinstance(key, RSAPublicKey) and key.key_size not in _BITS:
        return None
    return PublicKey(algorithms=algorithms, key=key)
