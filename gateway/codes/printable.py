"""Check of a code before it is drawn."""

from __future__ import annotations

from gateway.api.errors import Rejected

MOST = 512  # characters; the vendor's samples have 39 and 41


def printable(code: str) -> str:
    """Return `code` if every scanner reads it the same.

    Only printable ASCII: other characters need an ECI, which scanners that act as a keyboard ignore, and control characters become
    keystrokes.

    Raises:
        Rejected: The code is too long or has other characters; the reason does not contain it.
    """
    if len(code) > MOST:
        raise Rejected(f"the code has {len(code)} characters, more than {MOST}")
    if not code.isascii() or not code.isprintable():
        raise Rejected("the code has characters other than printable ASCII, which scanners read differently")
    return code
