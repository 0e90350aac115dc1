"""Pickup code as a QR code, for a telephone or for paper."""

from __future__ import annotations

import io

import segno

from gateway.codes.printable import printable

QUIET = 4  # modules of white around it, ISO/IEC 18004
DOTS = 8  # pixels of a module in a PNG: 1 mm, as in the SVG
DOTS_PER_MM = 8


def qr(code: str, form: str) -> bytes:
    """Draw a QR code as svg or png, with modules of 1 mm and a quiet zone: 37 mm for the vendor's codes of 41 characters.

    A seventh of the symbol may be unreadable (level M), more if a higher level needs no bigger symbol. Raises Rejected as `printable`.
    """
    symbol = segno.make_qr(printable(code), error="m", boost_error=True)
    out = io.BytesIO()
    if form == "svg":
        symbol.save(out, kind="svg", border=QUIET, unit="mm", dark="#000", light="#fff")
    else:
        symbol.save(out, kind="png", border=QUIET, scale=DOTS, dpi=round(DOTS_PER_MM * 25.4))
    return out.getvalue()
