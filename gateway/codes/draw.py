"""Label as SVG, PNG and PDF, each with its size in mm, whole dots and the same text, and without a date: same label, same bytes."""

from __future__ import annotations

import io
from xml.sax.saxutils import escape

import pydyf
from PIL import Image, ImageDraw, ImageFont

from gateway.codes.label import CELL, Label

BASELINE = 9  # from a character's upper edge, in dots of the bitmap font
SIZE = 10  # of Courier, whose characters are 0.6 of it wide
POINTS_PER_MM = 72 / 25.4
FONT = ImageFont.load_default_imagefont()  # courB08, Latin-1, part of Pillow


def as_svg(label: Label) -> bytes:
    """Draw an SVG, sized in mm. It has each line's length, so that any font in place of Courier fits."""
    dots = "".join(f"M{x} {y}h{w}v{h}h-{w}z" for x, y, w, h in label.marks)
    texts = "".join(
        f'<text x="{x}" y="{y + BASELINE * label.scale}" textLength="{len(line) * CELL[0] * label.scale}" '
        f'lengthAdjust="spacingAndGlyphs" xml:space="preserve">{escape(line)}</text>'
        for x, y, line in label.lines
    )
    size = f'width="{label.width / label.dots_per_mm:.3f}mm" height="{label.height / label.dots_per_mm:.3f}mm"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {label.width} {label.height}">'
        f'<path fill="#fff" d="M0 0h{label.width}v{label.height}h-{label.width}z"/>'
        f'<path shape-rendering="crispEdges" d="{dots}"/>'
        f'<g font-family="Courier New,Courier,monospace" font-weight="bold" font-size="{SIZE * label.scale}">{texts}</g></svg>'
    ).encode()


def as_png(label: Label) -> bytes:
    """Draw a PNG with one bit per dot of the printer. The text is a bitmap font in whole multiples, like the printer's own."""
    image = Image.new("1", (label.width, label.height), 1)
    draw = ImageDraw.Draw(image)
    for x, y, w, h in label.marks:
        draw.rectangle((x, y, x + w - 1, y + h - 1), fill=0)
    for x, y, line in label.lines:
        text = Image.new("1", (CELL[0] * len(line), CELL[1]), 1)
        ImageDraw.Draw(text).text((0, 0), line.encode("latin-1"), font=FONT, fill=0)
        image.paste(text.resize((text.width * label.scale, text.height * label.scale), Image.Resampling.NEAREST), (x, y))
    out = io.BytesIO()
    image.save(out, "PNG", dpi=(label.dots_per_mm * 25.4, label.dots_per_mm * 25.4), optimize=True)
    return out.getvalue()


def as_pdf(label: Label) -> bytes:
    """Draw a PDF page of the label's size: the symbol as rectangles, the text in Courier-Bold, which every PDF reader has."""
    point = POINTS_PER_MM / label.dots_per_mm
    drawn = pydyf.Stream(compress=True)
    drawn.set_matrix(point, 0, 0, -point, 0, label.height * point)
    for x, y, w, h in label.marks:
        drawn.rectangle(x, y, w, h)
    drawn.fill()
    for x, y, line in label.lines:
        drawn.begin_text()
        drawn.set_font_size("C", SIZE * label.scale)
        drawn.set_text_matrix(1, 0, 0, -1, x, y + BASELINE * label.scale)
        drawn.show_text_string(line.encode("cp1252"))
        drawn.end_text()
    font = {"Type": "/Font", "Subtype": "/Type1", "BaseFont": "/Courier-Bold", "Encoding": "/WinAnsiEncoding"}
    pdf = pydyf.PDF()
    pdf.add_object(drawn)
    page = {
        "Type": "/Page",
        "Parent": pdf.pages.reference,
        "MediaBox": pydyf.Array([0, 0, label.width * point, label.height * point]),
        "Contents": drawn.reference,
        "Resources": pydyf.Dictionary({"Font": pydyf.Dictionary({"C": pydyf.Dictionary(font)})}),
    }
    pdf.add_page(pydyf.Dictionary(page))
    out = io.BytesIO()
    pdf.write(out)
    return out.getvalue()
