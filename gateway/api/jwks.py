"""Public keys of a JSON Web Key Set (RFC 7517). Pure, bounded, asymmetric keys only."""

from __future__ import annotations

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from gateway.api.strict_json import read_json

MAX_BYTES = 256 * 1024
MAX_KEYS = 50
_BITS = range(2048, 8193)

# Never HS256, whose "secret" would be the public key, and never `none`.
_ALGORITHMS = {
    "RS256": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),  # an RSA key serves them all
    **{name: (name,) for name in ("ES256", "ES384", "ES512", "EdDSA")},
}


class PublicKey(Struct, frozen=True, kw_only=True):
    """Public key that checks the signatures of tokens.

    Attributes:
        algorithms: The values of a token's `alg` that it serves.
        key: An object of the library cryptography.
    """

    algorithms: tuple[str, ...]
    key: Any


def read_keys(body: bytes) -> dict[str, PublicKey]:
    """Return the usable keys by `kid`; a key without one is named by its place, as in `#0`.

    Keys for encryption, private and symmetric keys, and keys of an unknown type are skipped.

    Raises:
        ValueError: The body is no key set, is too large, or has no usable key.
    """
    document = read_json(body, max_bytes=MAX_BYTES)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is not a JSON Web Key Set")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    found: dict[str, PublicKey] = {}
    for n, entry in enumerate(entries):
        key = _read_key(entry) if isinstance(entry, dict) else None
        if key is not None:
            kid = entry.get("kid")
            found[kid if isinstance(kid, str) and kid else f"#{n}"] = key
    if not found:
        raise ValueError("it has no key that can check tokens")
    return found


def _read_key(entry: dict[str, Any]) -> PublicKey | None:
    if entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        # Without `alg`, the library names the algorithm of the type and the curve; with it, it takes any curve.
        found = jwt.PyJWK({name: value for name, value in entry.items() if name != "alg"})
    except Exception:  # malformed keys make the library raise errors of many kinds
        return None
    alg, served = entry.get("alg"), _ALGORITHMS.get(found.algorithm_name, ())
    algorithms = served if alg is None else tuple(one for one in served if one == alg)
    if not algorithms or (isinstance(found.key, RSAPublicKey) and found.key.key_size not in _BITS):
        return None
    return PublicKey(algorithms=algorithms, key=found.key)
