"""Rules for readable orders, and who is told of a breach (vendors/apicbase.md section 3, "answer policy").

By webhook an order can still be refused: the customer reads the reason, and the order stays in the cart. In the list it is
`ORDERED` already, which "can't be reverted" (vendor's "Receive Orders" page, 2.2): there a person has to tell the customer.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from gateway import TextList
from gateway_apicbase.settings import Rule, Settings
from gateway_apicbase.wire import PurchaseOrder

_SHOWN = 5


class Why(Struct, frozen=True, kw_only=True):
    """Reason why an order breaks a rule: `said` to the customer, with values of the order, and `kept` in the store, without."""

    said: str
    kept: str


def broken(order: PurchaseOrder, settings: Settings) -> dict[Rule, Why]:
    """Return the rules that an order breaks."""
    found: dict[Rule, Why] = {}
    number = order.customer_number
    if _is_unknown(number, settings.known_customers):
        said = f"The supplier does not know the customer number {number}." if number else "The order has no customer number."
        found["unknown_customer"] = Why(said=said, kept="supplier_customer_number is not among known_customers")
    if not order.lines:
        found["empty_order"] = Why(said="The order has no articles.", kept="packages is empty")
    strange = {n: p.article_number or "(none)" for n, p in enumerate(order.lines) if _is_unknown(p.article_number, settings.known_articles)}
    if strange:
        said = f"The supplier does not know these article numbers: {_listed(list(dict.fromkeys(strange.values())))}."
        found["unknown_article"] = Why(said=said, kept=f"{_paths(strange)}: supplier_article_number is not among known_articles")
    none_of = {n: f"{n + 1} ({p.article_number or p.name or 'no name'})" for n, p in enumerate(order.lines) if p.quantity <= 0}
    if none_of:
        said = f"These lines order nothing: {_listed(list(none_of.values()))}."
        found["zero_quantity"] = Why(said=said, kept=f"{_paths(none_of)}: quantity_ordered is not above zero")
    return found


def refusal(order: PurchaseOrder, settings: Settings) -> Why | None:
    """Return the reason for refusing the order, or None."""
    if not settings.refuse:
        return None
    reasons = [why for rule, why in broken(order, settings).items() if rule in settings.refuse]
    return Why(said=" ".join(why.said for why in reasons), kept="; ".join(why.kept for why in reasons)) if reasons else None


def _paths(lines: Collection[int]) -> str:
    return _listed([f"packages[{n}]" for n in lines])


def _is_unknown(word: str | None, known: TextList | None) -> bool:
    """Return True if the list lacks the word; a list that is empty, because its file is being rewritten, lacks nothing."""
    words = known.words if known else frozenset[str]()
    return bool(words) and word not in words


def _listed(words: list[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
