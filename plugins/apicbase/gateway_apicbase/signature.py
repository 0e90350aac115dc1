"""The webhook's signature: hex HMAC-SHA256 of the payload (vendors/apicbase.md sections 1 and 2, from the vendor's
"Receive Orders" page, 2.1).

The vendor says to verify "using the raw request data content or to ensure the content has the ASCII encoding", and its
sample signs `json.dumps(request.data)`. So the raw bytes are tried first and, where the operator allows it, Python's ASCII
form of the same data second. No timestamp or nonce is signed: a captured request passes for ever, and is a repeat.

Anyone can send a body with 64 hex digits. So the second form is made byte by byte (`escaped`), without a parser, of a body within
bounds; only a body whose second form has the right signature is parsed, to see that it is that form.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST = 512 * 1024
_LONGEST_ESCAPED = 2 * _LONGEST
_SLICE = 32 * 1024

_SPACE = b" \t\r\n"
_MARK = b"\x01"  # stands for a quotation mark around a text; raw, it is in no JSON
_ESCAPED_MARK = b"\\u0001"
_high_bits = bytes(0x80 if byte == 0x31 else 0 for byte in range(256))
_without_high_bit = bytes(0x22 if byte & 0x7F == 1 else byte & 0x7F for byte in range(256))
_breaks_to_spaces = bytes.maketrans(b"\t\r\n", b"   ")  # inside a text they are no JSON
_unescape = json.JSONDecoder(strict=False).decode


def is_genuine(body: bytes, given: str | None, secrets: Sequence[str], *, ascii_fallback: bool) -> bool:
    """Return True if `given` is the signature of `body` under one of the secrets.

    Case does not matter; a prefix, a missing or a doubled header (None) does. Text of another form is refused before the
    body is read.
    """
    signature = (given or "").lower()
    if not _HEX_SHA256.fullmatch(signature):
        return False
    if _matches(body, signature, secrets):
        return True
    plain = escaped(body) if ascii_fallback and len(body) <= _LONGEST else None
    return plain is not None and _matches(plain, signature, secrets) and ascii_form(body) == plain


def _matches(message: bytes, signature: str, secrets: Sequence[str]) -> bool:
    """Looks at every secret, so that the time taken does not say which one it was."""
    found = False
    for secret in secrets:
        made = _keyed(secret).copy()
        made.update(message)
        found |= hmac.compare_digest(made.hexdigest(), signature)
    return found


@lru_cache(maxsize=8)
def _keyed(secret: str) -> hmac.HMAC:
    """Begun once for each secret: `hmac.digest` lets the interpreter lock go over every message, this does so over long ones only."""
    return hmac.new(secret.encode(), digestmod="sha256")


def escaped(body: bytes) -> bytes | None:
    """Write JSON as `json.dumps` does: ASCII, one space after `,` and `:`, no other. None where it is none, or grows too long.

    Numbers stay as they stand. What is no JSON may get a form, too: it is for comparing signatures, nothing else. Every step
    goes over many bytes at once: some 10 ms for a MiB, whatever is in it, where `json.loads` and `json.dumps` take 80 to 120.
    """
    if _MARK in body or _ESCAPED_MARK in body:
        return None
    if b"\\" not in body and body.isascii() and b"\x7f" not in body:
        return _spaced(body, b'"')
    marked = body.replace(b"\\\\", b"\xff").replace(b'\\"', b"\xfe").replace(b'"', _MARK).translate(_breaks_to_spaces)
    try:
        text = _unescape('"' + marked.replace(b"\xfe", b'\\"').replace(b"\xff", b"\\\\").decode() + '"')
    except ValueError:
        return None
    plain = json.dumps(text)[1:-1].encode("ascii").replace(_ESCAPED_MARK, _MARK)
    return _spaced(plain, _MARK) if len(plain) <= _LONGEST_ESCAPED else None


def _spaced(plain: bytes, mark: bytes) -> bytes:
    """Python's spaces between the texts of a JSON document in ASCII, which begin and end with `mark`.

    Bytes inside a text get the high bit for as long as the others are changed. It goes by slices, which the processor's cache holds.
    """
    quotes = bytes(0x31 if byte == mark[0] else 0x30 for byte in range(256))
    made, is_open = [], False
    for start in range(0, len(plain), _SLICE):
        part = plain[start : start + _SLICE]
        size = len(part)
        inside = int(part.translate(quotes), 2)  # one bit for each byte, set at the marks
        step = 1
        while step < size:  # afterwards it is set from each opening one to the byte before its closing one
            inside ^= inside >> step
            step *= 2
        if is_open:
            inside ^= (1 << size) - 1
        is_open = inside & 1 == 1
        high_bits = f"{inside:0{size}b}".encode("ascii").translate(_high_bits)
        apart = (int.from_bytes(part, "big") | int.from_bytes(high_bits, "big")).to_bytes(size, "big")
        made.append(apart.translate(None, _SPACE).replace(b",", b", ").replace(b":", b": ").translate(_without_high_bit))
    return b"".join(made)


def ascii_form(body: bytes) -> bytes | None:
    """Return `json.dumps(json.loads(body))`, or None if that fails.

    A key that stands twice is such a case: `json.dumps` writes none, and which of the two was signed would be a guess.
    """
    try:
        return json.dumps(json.loads(body, object_pairs_hook=unique)).encode("ascii")
    except (ValueError, RecursionError):
        return None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object. Raises ValueError for a repeated key."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return made
