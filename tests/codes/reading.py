"""Reads drawings as a scanner sees them, by decoders and renderers that share no code with what drew them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import pypdfium2
import zxingcpp
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"
KINDS = {"pickup-code": zxingcpp.BarcodeFormat.QRCode, "storage-label": zxingcpp.BarcodeFormat.DataMatrix}


@dataclass
class Seen:
    """A picture in grey, 0 black, and its size on paper."""

    pixels: bytearray
    width: int
    height: int
    width_mm: float
    height_mm: float

    def fill(self, x: int, y: int, width: int, height: int, value: int) -> None:
        for row in range(y, y + height):
            self.pixels[row * self.width + x : row * self.width + x + width] = bytes([value]) * width

    def ink(self, left: int, top: int, right: int, bottom: int) -> bool:
        """Whether there is anything dark in the rectangle; what is outside of the picture counts as dark, as a table under the label."""
        if left < 0 or top < 0 or right > self.width or bottom > self.height:
            return True
        return any(min(self.pixels[y * self.width + left : y * self.width + right], default=255) < 128 for y in range(top, bottom))


def seen(drawn: bytes, name: str) -> Seen:
    return {"svg": from_svg, "png": from_png, "pdf": from_pdf}[name.rsplit(".")[-1]](drawn)


def from_png(drawn: bytes) -> Seen:
    image = Image.open(io.BytesIO(drawn))
    dpi = image.info["dpi"]
    return Seen(bytearray(image.convert("L").tobytes()), *image.size, image.width / dpi[0] * 25.4, image.height / dpi[1] * 25.4)


def from_pdf(drawn: bytes) -> Seen:
    with pypdfium2.PdfDocument(drawn) as document:
        assert len(document) == 1
        page = document[0]
        width, height = page.get_size()
        bitmap = page.render(scale=300 / 72, grayscale=True)
        rows = [bytes(bitmap.buffer[y * bitmap.stride : y * bitmap.stride + bitmap.width]) for y in range(bitmap.height)]
        return Seen(bytearray(b"".join(rows)), bitmap.width, bitmap.height, width / 72 * 25.4, height / 72 * 25.4)


def pdf_text(drawn: bytes) -> str:
    with pypdfium2.PdfDocument(drawn) as document:
        return str(document[0].get_textpage().get_text_bounded())


def from_svg(drawn: bytes) -> Seen:
    """The two kinds of path that there are: rectangles, and strokes one unit high. Text is left out; anything else fails."""
    root = ElementTree.fromstring(drawn)
    mm = [float(re.fullmatch(r"([\d.]+)mm", root.attrib[side])[1]) for side in ("width", "height")]  # type: ignore[index]
    *_, width, height = map(int, root.attrib["viewBox"].split())
    scale = 4 if "class" in root.attrib else 1  # segno's unit is a module
    made = Seen(bytearray(b"\xff" * (width * height * scale * scale)), width * scale, height * scale, *mm)
    for path in root.iter(f"{SVG}path"):
        steps = re.findall(r"([MmhHvz])(-?[\d.]+)?(?:[ ,]?(-?[\d.]+))?", path.attrib["d"])
        assert "".join("".join(step) for step in steps) == path.attrib["d"].replace(" ", ""), "a path of another kind"
        white = path.attrib.get("fill") == "#fff"
        x = y = 0.0
        for command, first, second in steps:
            if command in "Mm":
                x, y = (x * (command == "m") + float(first), y * (command == "m") + float(second))
            elif command == "h" and path.attrib.get("stroke"):
                made.fill(round(x * scale), round((y - 0.5) * scale), round(float(first) * scale), scale, 0)
                x += float(first)
            elif command == "h" and float(first) > 0:
                across = round(float(first))
            elif command == "v" and not white:
                made.fill(round(x), round(y), across, round(float(first)), 0)
    return made


def decoded(picture: Seen, name: str) -> list[zxingcpp.Barcode]:
    view = memoryview(bytes(picture.pixels)).cast("B", (picture.height, picture.width))
    return list(zxingcpp.read_barcodes(view, formats=KINDS[name.split(".")[0]], text_mode=zxingcpp.TextMode.Plain, try_invert=False))  # type: ignore[arg-type]


def texts(picture: Seen, name: str) -> list[str]:
    return [found.text for found in decoded(picture, name)]


def quiet(picture: Seen, name: str) -> bool:
    """Whether the white around the symbol is as wide as its standard asks for: 4 modules for QR, one for DataMatrix."""
    all_found = decoded(picture, name)
    if len(all_found) != 1:  # touched so that it cannot be read
        return False
    found = all_found[0]
    corners = [found.position.top_left, found.position.top_right, found.position.bottom_right, found.position.bottom_left]
    left, right = min(c.x for c in corners), max(c.x for c in corners)
    top, bottom = min(c.y for c in corners), max(c.y for c in corners)
    row = picture.pixels[(top + 2) * picture.width + left : (top + 2) * picture.width + right]
    corner = next(at for at, value in enumerate(row[2:], 2) if value >= 128)  # the dark run that both begin with
    wide, spare = (round(corner / 7 * 4), 2) if name.startswith("pickup") else (corner, 1)  # decoders place corners to a pixel or two
    outer = (left - wide + spare, top - wide + spare, right + wide - spare, bottom + wide - spare)
    strips = (
        (outer[0], outer[1], outer[2], top - spare),
        (outer[0], bottom + spare, outer[2], outer[3]),
        (outer[0], outer[1], left - spare, outer[3]),
        (right + spare, outer[1], outer[2], outer[3]),
    )
    return not any(picture.ink(*strip) for strip in strips)
