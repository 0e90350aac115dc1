"""Layout of a storage label in whole dots of the label printer; SVG, PNG and PDF are drawn from it.

A module that is not a whole number of dots is printed unevenly, and then labels do not scan.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct
from pystrich.datamatrix import DataMatrixData, DataMatrixEncoder

from gateway.api.errors import Rejected
from gateway.codes.printable import printable

QUIET = 2  # modules of white around the symbol; ISO/IEC 16022 asks for one
MODULE_MM = (0.25, 0.625)  # below this range hand-held scanners struggle, above it the symbol takes the text's room
MARGIN_MM = 1.0  # printers do not reach it
CELL = (6, 11)  # a character, in dots of the bitmap font; Courier's is as wide: 0.6 of its size
PITCH = 12
WIDEST_MM = 3.0
# Preferred forms of a number, best first: the most lines, and the least width of a character in mm.
LINES = ((1, 1.5), (2, 1.5), (10_000, 0.7))
MOST = 1000  # characters of an order number; the rest is ignored


class Stock(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size of the printer's labels, and resolution of its head: 203 dpi is 8 dots per mm."""

    width_mm: Annotated[float, Meta(ge=20, le=210)] = 57.0
    height_mm: Annotated[float, Meta(ge=10, le=210)] = 32.0
    dpi: Literal[203, 300] = 203

    @property
    def dots_per_mm(self) -> float:
        return 8.0 if self.dpi == 203 else self.dpi / 25.4


DEFAULT = Stock()


class Label(Struct, frozen=True, kw_only=True):
    """Layout of a label, in dots from its upper left corner.

    Attributes:
        marks: Black rectangles: x, y, width, height.
        module: Side of one module of the symbol.
        lines: x, upper edge and text of each line.
        scale: A character is `CELL` times this.
    """

    width: int
    height: int
    dots_per_mm: float
    marks: tuple[tuple[int, int, int, int], ...]
    module: int
    lines: tuple[tuple[int, int, str], ...]
    scale: int


def label(code: str, number: str, stock: Stock = DEFAULT) -> Label:
    """Lay out the DataMatrix of `code` with the order number beside it, or below it on a label that is higher than wide.

    Raises:
        Rejected: As `printable`, or the symbol does not fit on the label with modules of at least 0.25 mm.
    """
    symbol = DataMatrixEncoder(DataMatrixData(printable(code), encoding="ascii"), quiet_zone=0).get_rect_marks()
    per_mm = stock.dots_per_mm
    width, height, margin = round(stock.width_mm * per_mm), round(stock.height_mm * per_mm), round(MARGIN_MM * per_mm)
    beside = width >= height
    room = min(height, width * 6 // 10) if beside else min(width, height * 6 // 10)
    modules = int(symbol.width) + 2 * QUIET
    module = min((room - 2 * margin) // modules, math.floor(MODULE_MM[1] * per_mm))
    if module < math.ceil(MODULE_MM[0] * per_mm):
        raise Rejected(f"the code needs {modules} modules of at least {MODULE_MM[0]} mm, too many for a label of this size")
    side = module * modules
    left, top = (margin, (height - side) // 2) if beside else ((width - side) // 2, margin)
    marks = tuple(
        (left + (QUIET + int(x)) * module, top + (QUIET + int(y)) * module, int(w) * module, int(h) * module) for x, y, w, h in symbol.marks
    )
    x, y = (left + side + margin, margin) if beside else (margin, top + side)
    scale, lines = fitted(shown(number), width - margin - x, height - margin - y, per_mm)
    y += (height - margin - y - PITCH * scale * len(lines)) // 2
    return Label(
        width=width,
        height=height,
        dots_per_mm=per_mm,
        marks=marks,
        module=module,
        lines=tuple((x, y + PITCH * scale * at, line) for at, line in enumerate(lines)),
        scale=scale,
    )


def shown(number: str) -> str:
    r"""Return an order number for a label: Latin-1 as it is, other characters and odd spaces as \u05d0, in the order in which it is stored.

    So labels differ without a font for every script, and no right-to-left character turns the others around.
    """
    composed = unicodedata.normalize("NFC", number[:MOST])
    return "".join(c if c.isprintable() and ord(c) < 256 else escaped(c) for c in composed)


def escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def fitted(text: str, width: int, height: int, per_mm: float) -> tuple[int, list[str]]:
    """Return the scale and the lines that fit into `width` times `height` dots; at the smallest scale the text is cut with three dots."""
    if not text:
        return 1, []
    scale = 1
    for scale, most in scales(per_mm):
        columns, rows = width // (CELL[0] * scale), min(most, height // (PITCH * scale))
        if 0 < len(text) <= columns * rows:
            return scale, broken(text, columns)
    columns, rows = width // (CELL[0] * scale), height // (PITCH * scale)
    return scale, broken(text[: max(columns * rows - 3, 0)] + "...", columns) if columns * rows > 3 else []


def scales(per_mm: float) -> Iterator[tuple[int, int]]:
    """Yield each scale with the number of lines it may take, the best first."""
    for most, least_mm in LINES:
        for scale in range(int(WIDEST_MM * per_mm / CELL[0]), math.ceil(least_mm * per_mm / CELL[0]) - 1, -1):
            yield scale, most


def broken(text: str, columns: int) -> list[str]:
    """Break a text without words into lines of about the same length."""
    count = math.ceil(len(text) / columns)
    length = math.ceil(len(text) / count)
    return [text[at : at + length] for at in range(0, len(text), length)]
