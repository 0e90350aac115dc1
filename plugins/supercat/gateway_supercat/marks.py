"""Marks of received orders (seed, Marking Orders Received): a POST of order numbers to the list's own URL.

    ["6385-033124-042", ...]  ->  {"status": "success", "error": null, "data": {"6385-033124-042": {"success": true}, ...}}

"There will be an entry for each order number"; an order whose entry is missing or without success is not marked,
and the next poll returns it again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway import AuthError, PermanentError, Receipt, Stage, TransientError, VendorClient
from gateway_supercat.answer import call, results
from gateway_supercat.settings import Settings


def stages(settings: Settings) -> Collection[Stage]:
    """Return the stage after which orders are marked."""
    return [] if settings.mark == "off" else [settings.mark]


async def mark(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    """Mark orders, and return the ids of the receipts that SuperCat confirmed. Records with the same number have one entry.

    Raises:
        TransientError, AuthError: No order was marked. If an earlier batch was, the rest is only retried.
    """
    by_number: dict[str, list[int]] = {}
    for receipt in receipts:
        by_number.setdefault(receipt.reference, []).append(receipt.id)
    numbers = list(by_number)
    confirmed: list[int] = []
    for begin in range(0, len(numbers), settings.mark_batch):
        try:
            marked = await _send(numbers[begin : begin + settings.mark_batch], client, settings)
        except (TransientError, PermanentError, AuthError) as error:
            if confirmed:
                break
            if isinstance(error, PermanentError):  # a wrong path or a page is no fault of these orders
                raise TransientError(str(error)) from error
            raise
        confirmed += [id for number in marked for id in by_number[number]]
    return confirmed


async def _send(numbers: Sequence[str], client: VendorClient, settings: Settings) -> Sequence[str]:
    answer = await call(client, "POST", settings.mark_at(), settings, json=numbers)
    said = results(answer.body)
    return [number for number in numbers if isinstance(said.get(number), dict) and said[number].get("success") is True]
