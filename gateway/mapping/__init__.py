"""Mappings: JSONata texts by which operators translate a vendor's document into canonical fields. `docs/mappings.md` says how to write one.

`engine` evaluates JSONata, bounded and exact; `fields` reads the result as an order; this module has the setting that holds the text.
"""

from __future__ import annotations

from collections import abc
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.api.errors import MappingError
from gateway.api.order import Order
from gateway.api.secrets import FileBacked, read_text, stamp_of
from gateway.api.strict_json import number_text, read_json
from gateway.mapping.engine import EvaluationError, ExpressionError, compiled
from gateway.mapping.fields import missing_fields, to_order


class Mapping(FileBacked):
    """Setting `mapping = "scalepoint.jsonata"`: a file beside the configuration, read again when it changes.

    Evaluation is pure, for a connector's `normalize`. It takes the calling thread about 0.1 ms a line of the order, 5 ms for 50 lines,
    and 0.5 s at most. The text is compiled once, when it is read.
    """

    __slots__ = ()

    @classmethod
    def from_reference(cls, value: object, base: Path) -> Mapping:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError('must be the path of a JSONata file, as in "vendor.jsonata"')
        path = base / value
        stamp = stamp_of(path)
        made = cls(read_text(path), origin=f"file {value}", path=path, stamp=stamp)
        if (problem := made.why_unusable(made.reveal())) is not None:
            raise ValueError(problem)
        return made

    def why_unusable(self, text: str) -> str | None:
        try:
            compiled(text)
        except ExpressionError as error:
            where = self._path or self.origin
            return "; ".join(f"{where}:{line}:{column}: {problem}" for line, column, problem in error.problems)
        return None

    def evaluate(self, document: Any) -> Any:
        """Evaluate the text over a document; the result is plain JSON, its numbers whole or exact texts.

        Args:
            document: Its bytes, or the result of `gateway.read_json`.
        Raises:
            MappingError: The document cannot be read, or the text cannot be evaluated over it.
        """
        try:
            plain = read_json(document) if isinstance(document, bytes) else _exact(document)
        except (ValueError, RecursionError) as error:
            raise MappingError([f"the document cannot be read: {error}"]) from None
        try:
            return compiled(self._text).evaluate(plain)
        except (ExpressionError, EvaluationError) as error:
            raise MappingError([f"{self._name}: {error}"]) from None

    def order(self, document: Any, *, currency: str | None = None, zone: tzinfo | None = None) -> Order:
        """Make the canonical order of a document; the core fills in `order_ref` and `revision`.

        Args:
            document: As for `evaluate`.
            currency: The currency if the mapping gives none.
            zone: Time zone of instants without an offset; default UTC.
        Raises:
            MappingError: With every problem, by path.
        """
        return to_order(self.evaluate(document), currency=currency, zone=zone)

    def problems(self, document: Any, *, zone: tzinfo | None = None) -> list[str]:
        """Return why the text makes no complete order of a document, one line each; empty if it does."""
        try:
            return missing_fields(self.order(document, zone=zone))
        except MappingError as error:
            return list(error.problems)

    @property
    def _name(self) -> str:
        return self.origin.removeprefix("file ")

    def __repr__(self) -> str:
        return f"<mapping from {self.origin}>"


def _exact(value: Any) -> Any:
    """Convert a decoded document to the form of `read_json`. Raises ValueError for a float."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, Decimal)):
        return number_text(str(value))
    if isinstance(value, abc.Mapping):
        return {str(key): _exact(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(one) for one in value]
    raise ValueError(f"it holds a {type(value).__name__}; read it with gateway.read_json")


__all__ = ["Mapping", "missing_fields"]
