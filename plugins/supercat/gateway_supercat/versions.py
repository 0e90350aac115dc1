"""Versions of one order: told by the `uuid` and by the dash suffix together. That no older one overtakes is the core's to see, by `id`.

"The first resubmitted order number receives a '-1' suffix"; "users delete the items from a submitted order then add items and
re-submit it as a new order"; "it's good practice for order entry people to review any orders with a dash suffix" (seed, Inbound
order processing). So what to do with a version is `on_revision`'s to say, and what differs the core's to show.
"""

from __future__ import annotations

import re

from msgspec import Struct

from gateway import Hold, Order
from gateway_supercat.record import Record
from gateway_supercat.settings import Settings


class Number(Struct, frozen=True, kw_only=True):
    """An order number taken apart.

    Attributes:
        version: What stands behind the base; None for an original. A base has dashes of its own: `6385-031318-392`.
        is_usual: The base is of the form that the settings know.
    """

    base: str
    version: str | None
    is_usual: bool


def taken_apart(number: str, settings: Settings) -> Number:
    """Base and version: a version only where what stands in front of it is a base."""
    suffix = re.search(settings.suffix_pattern, number, re.ASCII)
    if suffix is not None and re.search(settings.base_pattern, number[: suffix.start()], re.ASCII):
        return Number(base=number[: suffix.start()], version=suffix[1], is_usual=True)
    return Number(base=number, version=None, is_usual=bool(re.search(settings.base_pattern, number, re.ASCII)))


def flags(number: Number, previous: Order | None) -> list[str]:
    """`unusual_order_number`, `other_base_number`: uuid and number do not say the same."""
    found = []
    if not number.is_usual:
        found.append("unusual_order_number")
    if previous is not None and previous.references.get("supercat_base", number.base) != number.base:
        found.append("other_base_number")
    return found


def hold_back(record: Record, number: Number, order: Order, previous: Order | None) -> None:
    """Raise Hold for what only a person can place: a version of something unknown."""
    if previous is None and number.version is not None:
        said = f"{record.number} is version {number.version} of {number.base}, and no earlier one with its uuid is known here"
        reason = f"{said}. Look up {number.base} in the ERP, then release or drop it"
        raise Hold(reason, order=_flagged(order, "base_unknown"), revision=True)


def _flagged(order: Order, flag: str) -> Order:
    return Order(**{name: getattr(order, name) for name in order.__struct_fields__} | {"flags": (*order.flags, flag)})
