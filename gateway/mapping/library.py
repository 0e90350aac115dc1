"""jsonata-python's names, imported here alone: importing it changes the whole process, and that is undone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _recursion_limit_kept() -> Iterator[None]:
    """It sets 10,000, which JSON nested by somebody else elsewhere would overflow the C stack with."""
    before = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


with _recursion_limit_kept():
    from jsonata import jsonata as _module
    from jsonata.jexception import JException
    from jsonata.jsonata import Jsonata
    from jsonata.parser import Parser
    from jsonata.utils import Utils

# It prints what it was to call and could not: a field of the document, a person's name maybe, into the journal.
_module.print = lambda *said: None

NULL = Utils.NULL_VALUE
Symbol = Parser.Symbol

__all__ = ["NULL", "JException", "Jsonata", "Symbol"]
