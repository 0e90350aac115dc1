"""Suggestions for unknown words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error text: the most similar known word, or else all of them."""
    return likely(word, known) or (f"; there is {', '.join(sorted(known))}" if known else "; there is none")


def likely(word: str, known: Iterable[str]) -> str:
    """Return the end of an error text: the most similar known word, or else nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
