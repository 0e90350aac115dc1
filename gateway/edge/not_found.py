"""What to say of a path that leads nowhere: only a path that is nearly one of ours is repeated, since anything may stand in others."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_LONGEST = 100
_ALIKE = 0.8


class KnownPaths:
    """The addresses of the vendors' side, such as `/in/claims`."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._plain = {_plain(address): address for address in known}

    def describe(self, path: str) -> dict[str, str]:
        """What the log says of a path: what it is, as far as that is safe, and what was meant; `among` counts them apart."""
        meant = self._plain.get(_plain(path[:_LONGEST]))
        if meant is None and path.count("/") == 2 and len(path) <= _LONGEST:
            meant = next(iter(difflib.get_close_matches(path, self._known, n=1, cutoff=_ALIKE)), None)
        if meant is not None:
            return {"path": path[:_LONGEST], "meant": meant, "among": meant}
        return {"path": "/in/..." if path.lower().startswith("/in/") else "another", "among": ""}


def _plain(path: str) -> str:
    return "/".join(filter(None, path.casefold().split("/")))
