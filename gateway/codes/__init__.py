"""Printed codes of an order. Pure, without a line in the log: a code opens a pickup machine."""

from __future__ import annotations

from gateway.api.commands import Codes
from gateway.codes.draw import as_pdf, as_png, as_svg
from gateway.codes.label import DEFAULT, Stock, label
from gateway.codes.qr import qr

MEDIA = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}
NAMES = ("pickup-code.svg", "pickup-code.png", "storage-label.svg", "storage-label.png", "storage-label.pdf")


def drawing(codes: Codes, name: str, stock: Stock = DEFAULT) -> tuple[bytes, str] | None:
    """Draw one of `NAMES` and return the file with its content type; None if there is no such name, or the order has no such code.

    Raises:
        Rejected: The code cannot be drawn; the reason does not contain it.
    """
    if name not in NAMES:
        return None
    what, form = name.split(".")
    if what == "pickup-code":
        return (qr(codes.pickup, form), MEDIA[form]) if codes.pickup else None
    if not codes.storage:
        return None
    draw = {"svg": as_svg, "png": as_png, "pdf": as_pdf}[form]
    return draw(label(codes.storage, codes.number, stock)), MEDIA[form]
