"""Description of unknown paths for the log: a path is repeated only if it resembles a known one, since any text may stand in others."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_LONGEST = 100
_ALIKE = 0.8


class KnownPaths:
    """Paths of the vendors' side, such as `/in/claims`."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._plain = {_plain(path): path for path in known}

    def describe(self, path: str) -> dict[str, str]:
        """Return log fields for an unknown path: as much of it as is safe, the path that was meant, and `among` to count by."""
        meant = self._plain.get(_plain(path[:_LONGEST]))
        if meant is None and path.count("/") == 2 and len(path) <= _LONGEST:
            meant = next(iter(difflib.get_close_matches(path, self._known, n=1, cutoff=_ALIKE)), None)
        if meant is not None:
            return {"path": path[:_LONGEST], "meant": meant, "among": meant}
        return {"path": "/in/..." if path.lower().startswith("/in/") else "another", "among": ""}


def _plain(path: str) -> str:
    return "/".join(filter(None, path.casefold().split("/")))
