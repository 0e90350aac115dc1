"""The order number on the label: the same in all forms, complete, and never over the edge or into the symbol."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from gateway.api.commands import Codes
from gateway.codes import drawing
from gateway.codes.label import CELL, DEFAULT, MARGIN_MM, QUIET, Label, Stock, label, shown
from tests.codes.reading import SVG, Seen, pdf_text, seen

CODE = "pickup_A5E0EA30B0FB4501816A76DDB2B233D4"
SHOWN = {
    "34682734827": "34682734827",
    "WEB/2024 00042#ä": "WEB/2024 00042#ä",
    "WEB/2024 00042#a\u0308": "WEB/2024 00042#ä",
    "\u05d0\u05d1-17": r"\u05d0\u05d1-17",
    "12\u202e34": r"12\u202e34",
    "12\u00a034\u00ad\t": r"12\u00a034\u00ad\u0009",
    "\U0001f48a1": r"\U0001f48a1",
    "<&'\")(\\": "<&'\")(\\",
}
STOCKS = st.builds(
    Stock, width_mm=st.floats(20, 210, allow_nan=False), height_mm=st.floats(20, 210, allow_nan=False), dpi=st.sampled_from([203, 300])
)


def file(number: str, form: str, stock: Stock = DEFAULT) -> bytes:
    made = drawing(Codes(number=number, storage=CODE), f"storage-label.{form}", stock)
    assert made
    return made[0]


def read_dots(picture: Seen, laid: Label) -> str:
    """Each cell of the PNG is the character whose dots differ least from it."""
    font = ImageFont.load_default_imagefont()
    glyphs = {}
    for character in map(chr, [*range(32, 127), *range(161, 256)]):
        image = Image.new("L", CELL, 255)
        ImageDraw.Draw(image).text((0, 0), character.encode("latin-1"), font=font, fill=0)
        glyphs[character] = image.tobytes()
    said = []
    for x, y, line in laid.lines:
        for at in range(len(line)):
            cell = bytes(
                picture.pixels[(y + row * laid.scale) * picture.width + x + (at * CELL[0] + column) * laid.scale]
                for row in range(CELL[1])
                for column in range(CELL[0])
            )
            said.append(min(glyphs, key=lambda c: sum(a != b for a, b in zip(glyphs[c], cell, strict=True))))
    return "".join(said)


@pytest.mark.parametrize(("number", "expected"), SHOWN.items())
def test_every_form_shows_the_same_number(number: str, expected: str) -> None:
    svg = ElementTree.fromstring(file(number, "svg"))
    assert "".join(text.text or "" for text in svg.iter(f"{SVG}text")) == expected
    assert pdf_text(file(number, "pdf")).replace("\r\n", "") == expected
    assert read_dots(seen(file(number, "png"), "png"), label(CODE, number)) == expected


def test_another_number_is_told_from_the_one_on_the_label() -> None:
    """The mutant: what reads the dots says what is there, not what was asked for."""
    assert read_dots(seen(file("34682734828", "png"), "png"), label(CODE, "34682734827")) == "34682734828"


@settings(max_examples=150, deadline=None)
@given(number=st.text(max_size=1200), stock=STOCKS)
@example(number="7" * 60, stock=DEFAULT)
@example(number="x" * 1200, stock=DEFAULT)
@example(number="x" * 1200, stock=Stock(width_mm=20, height_mm=20))
def test_no_number_leaves_its_place(number: str, stock: Stock) -> None:
    laid = label(CODE, number, stock)
    margin = round(MARGIN_MM * laid.dots_per_mm)
    right = max(x + w for x, _, w, _ in laid.marks) + QUIET * laid.module
    bottom = max(y + h for _, y, _, h in laid.marks) + QUIET * laid.module
    for x, y, line in laid.lines:
        assert x + len(line) * CELL[0] * laid.scale <= laid.width - margin
        assert margin <= y <= laid.height - margin - CELL[1] * laid.scale
        assert x >= right or y >= bottom
    said = "".join(line for *_, line in laid.lines)
    if said != shown(number):
        assert said.endswith("...")
        assert shown(number).startswith(said[:-3])


@pytest.mark.parametrize("form", ["png", "pdf"])
@pytest.mark.parametrize("number", ["7" * 60, "x" * 1200, "WEB/2024 00042#ä"])
def test_nothing_is_drawn_in_the_margin(form: str, number: str) -> None:
    picture = seen(file(number, form), form)
    edge = math.floor(picture.width / picture.width_mm * MARGIN_MM) - 1
    assert not picture.ink(0, 0, picture.width, edge)
    assert not picture.ink(0, 0, edge, picture.height)
    assert not picture.ink(picture.width - edge, 0, picture.width, picture.height)
    assert not picture.ink(0, picture.height - edge, picture.width, picture.height)


def test_lines_of_the_svg_are_given_their_length() -> None:
    laid = label(CODE, "7" * 60)
    lines = list(ElementTree.fromstring(file("7" * 60, "svg")).iter(f"{SVG}text"))
    assert [int(line.attrib["textLength"]) for line in lines] == [len(text) * CELL[0] * laid.scale for *_, text in laid.lines]


@pytest.mark.parametrize(("number", "lines"), [("34682734827", 1), ("WEB/2024 00042#ä", 1), ("7" * 32, 2), ("", 0)])
def test_numbers_shrink_before_they_wrap(number: str, lines: int) -> None:
    laid = label(CODE, number)
    assert len(laid.lines) == lines
    assert not number or laid.scale * CELL[0] / laid.dots_per_mm >= 1.5
