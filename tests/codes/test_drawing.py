"""The printed codes, read back from every form by a decoder that shares no code with what drew them."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.api.commands import Codes
from gateway.api.errors import Rejected
from gateway.codes import NAMES, drawing
from gateway.codes.label import DEFAULT, Stock, label
from gateway.codes.printable import MOST
from tests.codes.reading import Seen, decoded, quiet, seen, texts

# The vendor's samples, seed 001.
SAMPLE = Codes(number="34682734827", pickup="customer_F49F00733BE344C993ADBB2A1D48C766", storage="pickup_A5E0EA30B0FB4501816A76DDB2B233D4")
PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "
STOCKS = [DEFAULT, Stock(dpi=300), Stock(width_mm=100, height_mm=50), Stock(width_mm=40, height_mm=60), Stock(width_mm=25, height_mm=25)]


def drawn(name: str, code: str = "", number: str = "A-1", stock: Stock = DEFAULT) -> Seen:
    made = drawing(Codes(number=number, pickup=code, storage=code) if code else SAMPLE, name, stock)
    assert made
    return seen(made[0], name)


@pytest.mark.parametrize("name", NAMES)
def test_the_vendors_codes_are_read_back(name: str) -> None:
    assert texts(drawn(name), name) == [SAMPLE.pickup if name.startswith("pickup") else SAMPLE.storage]


@pytest.mark.parametrize("stock", STOCKS)
@pytest.mark.parametrize("name", NAMES[2:])
def test_labels_of_any_size_are_read_back(name: str, stock: Stock) -> None:
    picture = drawn(name, stock=stock)
    assert texts(picture, name) == [SAMPLE.storage]
    assert quiet(picture, name)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(code=st.text(PRINTABLE, min_size=1, max_size=MOST), number=st.text(max_size=60))
@example(code="0", number="")
@example(code=" a ", number="two  spaces")
@example(code="~" * MOST, number="9" * 60)
@example(code="Aa0-" * (MOST // 4), number="9" * 60)
@example(code="SD0000-REF-C0-I0", number="what ppf.datamatrix once drew wrongly")
def test_every_printable_code_is_read_back(name: str, code: str, number: str) -> None:
    picture = drawn(name, code, number)
    assert texts(picture, name) == [code]
    assert quiet(picture, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_whose_quiet_zone_is_touched_is_caught(name: str) -> None:
    picture = drawn(name)
    assert quiet(picture, name)
    corner = decoded(picture, name)[0].position.bottom_left
    picture.fill(corner.x, corner.y + 3, 30, 1, 0)
    assert not quiet(picture, name)


def test_a_symbol_up_to_the_edge_is_caught() -> None:
    whole = drawn("storage-label.png")
    found = decoded(whole, "storage-label.png")[0].position
    left, top = found.top_left.x, found.top_left.y
    width, height = found.bottom_right.x - left + 1, found.bottom_right.y - top + 1
    rows = [whole.pixels[y * whole.width + left : y * whole.width + left + width] for y in range(top, top + height)]
    assert not quiet(Seen(bytearray(b"".join(rows)), width, height, 0, 0), "storage-label.png")


@pytest.mark.parametrize(("modules", "read"), [(1, True), (20, True), (240, False)])
def test_flipped_modules_are_corrected_until_there_are_too_many(modules: int, read: bool) -> None:
    """The mutant of every test above: the decoder reads what is drawn, and nothing that only looks like it."""
    laid = label(str(SAMPLE.storage), SAMPLE.number)
    picture = drawn("storage-label.png")
    side = laid.module
    x, y = min(mark[0] for mark in laid.marks) + 2 * side, min(mark[1] for mark in laid.marks) + 2 * side
    for at in range(modules):
        left, top = x + at % 20 * side, y + at // 20 * side
        picture.fill(left, top, side, side, 255 - picture.pixels[top * picture.width + left])
    assert texts(picture, "storage-label.png") == [SAMPLE.storage] * read


@pytest.mark.parametrize("stock", STOCKS)
@pytest.mark.parametrize("name", NAMES)
def test_drawings_have_their_size_on_paper(name: str, stock: Stock) -> None:
    picture = drawn(name, stock=stock)
    expected = (37, 37) if name.startswith("pickup") else (stock.width_mm, stock.height_mm)
    assert (picture.width_mm, picture.height_mm) == pytest.approx(expected, abs=0.06)  # half a dot


@pytest.mark.parametrize("stock", STOCKS)
def test_modules_are_whole_dots_of_the_printer(stock: Stock) -> None:
    laid = label(str(SAMPLE.storage), SAMPLE.number, stock)
    assert all(value % laid.module == 0 for *_, width, height in laid.marks for value in (width, height))
    assert 0.25 <= laid.module / laid.dots_per_mm <= 0.625


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("code", "reason"),
    [("x" * (MOST + 1), "513 characters"), ("straße", "other than printable ASCII"), ("a\tb", "other than"), ("a\x7f", "other than")],
)
def test_a_code_that_cannot_be_drawn_is_refused_without_being_named(name: str, code: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason) as refused:
        drawing(Codes(number="1", pickup=code, storage=code), name)
    assert code not in str(refused.value)


def test_a_code_too_long_for_a_small_label_is_refused() -> None:
    with pytest.raises(Rejected, match=r"92 modules of at least 0\.25 mm"):
        label("~" * MOST, "1", Stock(width_mm=25, height_mm=15))


def test_what_is_not_there_is_none() -> None:
    assert all(drawing(Codes(number="1"), name) is None for name in NAMES)
    assert drawing(SAMPLE, "pickup-code.pdf") is None
    assert drawing(SAMPLE, "../storage-label.svg") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_has_its_content_type_and_is_always_the_same(name: str) -> None:
    made = drawing(SAMPLE, name)
    assert made == drawing(SAMPLE, name)
    assert made is not None
    assert made[1] == {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}[name.rsplit(".", 1)[1]]


@pytest.mark.parametrize("wrong", [{"width_mm": 19}, {"height_mm": 300}, {"dpi": 200}, {"height_mm": "nan"}, {"color": "red"}])
def test_a_stock_that_no_printer_has_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Stock)
