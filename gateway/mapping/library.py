"""Names of jsonata-python. Its import changes the whole process; this module, which alone imports it, undoes that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _recursion_limit_kept() -> Iterator[None]:
    """Restore the recursion limit: the library sets 10,000, with which deeply nested JSON overflows the C stack."""
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

# It prints a value that is no function, such as a person's name, to the journal.
_module.print = lambda *values: None

NULL = Utils.NULL_VALUE
Symbol = Parser.Symbol

__all__ = ["NULL", "JException", "Jsonata", "Symbol"]
