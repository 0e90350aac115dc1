"""What to say of a word that is not known: the known one that is most like it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown word: the known one that is most like it, or all there are."""
    return likely(word, known) or (f"; there is {', '.join(sorted(known))}" if known else "; there is none")


def likely(word: str, known: Iterable[str]) -> str:
    """The same, but nothing where none is like it."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
