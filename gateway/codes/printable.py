"""Which codes are drawn."""

from __future__ import annotations

from gateway.api.errors import Rejected

MOST = 512  # characters; the vendor's samples have 39 and 41


def printable(code: str) -> str:
    """`code` as it is, if every scanner reads the same from it.

    Printable ASCII only: for anything else symbols need an ECI, which scanners that type like a keyboard ignore, and control
    characters become keystrokes.

    Raises:
        Rejected: Too long, or other characters; the reason does not contain the code.
    """
    if len(code) > MOST:
        raise Rejected(f"the code has {len(code)} characters, and {MOST} is the most that is drawn")
    if not code.isascii() or not code.isprintable():
        raise Rejected("the code has characters other than printable ASCII, which scanners read differently")
    return code
