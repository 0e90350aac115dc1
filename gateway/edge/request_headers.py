"""Headers of a command: idempotency key, content type, `Prefer: wait`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

LONGEST_KEY = 200
LONGEST_WAIT_S = 60

_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?\s*\Z", re.IGNORECASE)


class Headers(Protocol):
    """Headers of a request, each as often as it came."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Return every value of a name."""


def idempotency_key(headers: Headers) -> str:
    """Return the Idempotency-Key. Raises ValueError with a text for the caller."""
    given = headers.getall("Idempotency-Key", [])
    if len(given) != 1:
        raise ValueError(f"one header Idempotency-Key is needed; there are {len(given)}")
    key = given[0]
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise ValueError(f"the Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters")
    return key


def accepts_as_json(headers: Headers) -> bool:
    """Return True if the headers declare JSON in UTF-8, or nothing."""
    if any(coding.strip().lower() not in ("", "identity") for coding in headers.getall("Content-Encoding", [])):
        return False
    types = headers.getall("Content-Type", [])
    if not types:
        return True
    kind, *parameters = (part.strip().lower() for part in types[0].split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")]
    json = kind in ("application/json", "text/json") or (kind.startswith("application/") and kind.endswith("+json"))
    return len(types) == 1 and json and all(charset in ("utf-8", "utf8") for charset in charsets)


def wanted_wait_s(headers: Headers) -> int | None:
    """Return the seconds that the caller would wait for the vendor (RFC 7240), at most a minute; None if it does not say."""
    for preference in _preferences(headers):
        if found := _WAIT.match(preference):
            return min(int(found[1]), LONGEST_WAIT_S)
    return None


def _preferences(headers: Headers) -> Iterator[str]:
    """Yield each preference without its parameters, in order: the first of a name counts, as the RFC says."""
    for line in headers.getall("Prefer", []):
        for preference in line.split(","):
            yield preference.partition(";")[0].strip()
