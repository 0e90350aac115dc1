"""Versions of an order, told by the `uuid` and the number's dash suffix. The core keeps their sequence, by `id`.

"The first resubmitted order number receives a '-1' suffix"; "users delete the items from a submitted order then add items and
re-submit it as a new order"; "it's good practice for order entry people to review any orders with a dash suffix" (seed, Inbound
order processing). So the setting `on_revision` decides what to do with a version, and the core shows the difference.
"""

from __future__ import annotations

import re

from msgspec import Struct

from gateway import Hold, Order
from gateway_supercat.record import Record
from gateway_supercat.settings import Settings


class Number(Struct, frozen=True, kw_only=True):
    """Order number, split into base and version.

    Attributes:
        version: The suffix after the base; None for an original. A base has dashes itself: `6385-031318-392`.
        is_usual: The base matches `base_pattern`.
    """

    base: str
    version: str | None
    is_usual: bool


def split_number(number: str, settings: Settings) -> Number:
    """Split an order number. The suffix is a version only if the text before it is a base."""
    suffix = re.search(settings.suffix_pattern, number, re.ASCII)
    if suffix is not None and re.search(settings.base_pattern, number[: suffix.start()], re.ASCII):
        return Number(base=number[: suffix.start()], version=suffix[1], is_usual=True)
    return Number(base=number, version=None, is_usual=bool(re.search(settings.base_pattern, number, re.ASCII)))


def flags(number: Number, previous: Order | None) -> list[str]:
    """Return the flags `unusual_order_number` and `other_base_number`: uuid and number contradict each other."""
    found = []
    if not number.is_usual:
        found.append("unusual_order_number")
    if previous is not None and previous.references.get("supercat_base", number.base) != number.base:
        found.append("other_base_number")
    return found


def hold_back(record: Record, number: Number, order: Order, previous: Order | None) -> None:
    """Raise Hold for a version of an unknown order: an operator must find its original."""
    if previous is None and number.version is not None:
        said = f"{record.number} is version {number.version} of {number.base}, and no earlier one with its uuid is known here"
        reason = f"{said}. Look up {number.base} in the ERP, then release or drop it"
        raise Hold(reason, order=_flagged(order, "base_unknown"), revision=True)


def _flagged(order: Order, flag: str) -> Order:
    return Order(**{name: getattr(order, name) for name in order.__struct_fields__} | {"flags": (*order.flags, flag)})
