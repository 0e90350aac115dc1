"""Configuration of request bodies: `[targets.NAME.body]`, `.tables` and `.lookups.X`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from gateway.api.secrets import FileBacked, read_text, stamp_of
from gateway.mapping.engine import ExpressionError
from gateway.targets.expressions import Jsonata, compiled
from gateway.targets.request_settings import RequestTable, Table
from gateway.targets.schema import why_no_schema

_MOST_CODES = 100_000


class BodyFile(FileBacked):
    """File beside the configuration, re-read when it changes; `judge` returns why a new text may not be used."""

    __slots__ = ("judge", "path")
    example = '"erp.jsonata"'

    @classmethod
    def from_reference(cls, value: object, base: Path) -> BodyFile:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"must be the path of a file, as in {cls.example}")
        path = base / value
        stamp = stamp_of(path)
        made = cls(read_text(path), origin=f"file {value}", path=path, stamp=stamp)
        made.path = path
        made.judge = None
        if (problem := made.why_unusable(made.reveal())) is not None:
            raise ValueError(problem)
        return made

    judge: Callable[[str], str | None] | None
    path: Path

    def why_unusable(self, text: str) -> str | None:
        return self.broken(text) or (self.judge(text) if self.judge else None)

    def broken(self, text: str) -> str | None:
        """Return what is wrong with the text by itself, or None."""
        return None

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self.origin.removeprefix("file ")

    def __repr__(self) -> str:
        return f"<{self.origin}>"


class BodyMapping(BodyFile):
    """Mapping in JSONata that makes the body: `mapping = "erp.jsonata"`."""

    __slots__ = ()

    def broken(self, text: str) -> str | None:
        try:
            compiled(text)
        except ExpressionError as error:
            return "; ".join(f"{self.path}:{line}:{column}: {said}" for line, column, said in error.problems)
        return None


class BodySchema(BodyFile):
    """JSON Schema that the body must fit: `schema = "erp.schema.json"`."""

    __slots__ = ()
    example = '"erp.schema.json"'

    def broken(self, text: str) -> str | None:
        problem = why_no_schema(text)
        return f"{self.path}: {problem}" if problem else None


class CodeTable(FileBacked):
    """Table of our codes and the ERP's: `{ EA = "C62" }`, or `{ file = "units.csv" }` with `ours,theirs` in each line."""

    __slots__ = ("_codes", "_of")

    @classmethod
    def from_reference(cls, value: object, base: Path) -> CodeTable:
        if not isinstance(value, Mapping) or not value:
            raise ValueError('must be a table of codes, as in { EA = "C62" }, or { file = "units.csv" }')
        if set(value) == {"file"} and isinstance(value["file"], str) and value["file"] and "\0" not in value["file"]:
            path = base / value["file"]
            stamp = stamp_of(path)
            made = cls(read_text(path), origin=f"file {value['file']}", path=path, stamp=stamp)
            if (problem := made.why_unusable(made.reveal())) is not None:
                raise ValueError(problem)
            return made
        if not all(isinstance(one, (str, int)) and not isinstance(one, bool) for one in value.values()):
            raise ValueError('gives each code a text or a whole number, as in { EA = "C62" }')
        made = cls("", origin="inline")
        made._codes, made._of = dict(value), made._text
        return made

    def why_unusable(self, text: str) -> str | None:
        try:
            _read_codes(text)
        except ValueError as error:
            return f"{self.origin}: {error}"
        return None

    @property
    def codes(self) -> Mapping[str, Any]:
        """Current table."""
        if getattr(self, "_of", None) is not self._text:
            self._codes, self._of = _read_codes(self._text), self._text
        return self._codes

    def __repr__(self) -> str:
        return f"<codes from {self.origin}>"


def _read_codes(text: str) -> dict[str, str]:
    """Parse a CSV file with commas or, as many spreadsheets write it, semicolons. Raises ValueError."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    codes: dict[str, str] = {}
    mark = ";" if first.count(";") > first.count(",") else ","
    try:
        for n, row in enumerate(csv.reader(io.StringIO(text), delimiter=mark, strict=True), 1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if len(cells) < 2 or not cells[0] or not cells[1]:
                raise ValueError(f"line {n} must hold our code and the ERP's, as in EA{mark}C62")
            if cells[0] in codes:
                raise ValueError(f"line {n} has {cells[0]} again; keep one of them")
            codes[cells[0]] = cells[1]
    except csv.Error as error:
        raise ValueError(f"is no CSV file: {error}") from None
    if not codes or len(codes) > _MOST_CODES:
        raise ValueError(f"must hold between 1 and {_MOST_CODES} codes")
    return codes


class BodySettings(Table, frozen=True, kw_only=True):
    """Body of the request that makes the order; without it, the body is the canonical message.

    Attributes:
        decimal: Form of exact numbers: JSON numbers, texts, or `{"__class__": "Decimal", "decimal": ".."}`.
        omit_null: Leave out keys that are null.
        examples: Files with canonical orders. The mapping must make a body of each: whole, with one line, with two; without
            optional fields it must make one, or refuse and name what is missing.
    """

    mapping: BodyMapping
    schema: BodySchema | None = None
    decimal: Literal["number", "string", "tagged"] = "number"
    omit_null: bool = False
    examples: tuple[Path, ...] = ()


class LookupSettings(RequestTable, frozen=True, kw_only=True):
    """Look-up of codes in the ERP, one request for all codes of an order.

    Attributes:
        codes: JSONata over the context: the code, or the list of codes, that the order needs.
        rows: JSONata over the answer (`status`, `headers`, `body`, `text`): the list of rows found.
        code: Key of a row that holds its code.
        one: True for one code an order: `lookup.NAME` is its row. Else `lookup.NAME` is an object of rows by code.
        batch: Limit of codes in one request.
    """

    codes: Jsonata
    rows: Jsonata = Jsonata("body")
    code: str = "code"
    one: bool = False
    batch: Annotated[int, Meta(ge=1, le=10_000)] = 200
    cache_ttl_s: Annotated[float, Meta(ge=0, le=86400)] = 300.0
    negative_ttl_s: Annotated[float, Meta(ge=0, le=3600)] = 15.0
    on_missing: Literal["refuse", "hold"] = "refuse"

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if self.method not in ("GET", "POST"):
            yield "method", "must be GET or POST; a look-up changes nothing"
