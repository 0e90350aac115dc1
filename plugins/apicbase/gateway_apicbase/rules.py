"""What can be wrong with a readable order, and who hears of it (vendors/apicbase.md section 3, "answer policy").

By webhook an order can still be refused: the customer reads the reason, and the order stays in the cart. In the list it is
`ORDERED` already, which "can't be reverted" (vendor's "Receive Orders" page, 2.2): there a person has to tell the customer.
"""

from __future__ import annotations

from gateway import TextList
from gateway_apicbase.settings import Rule, Settings
from gateway_apicbase.wire import PurchaseOrder

_SHOWN = 5


def broken(order: PurchaseOrder, settings: Settings) -> dict[Rule, str]:
    """The rules that an order breaks, each with a sentence for the customer."""
    found: dict[Rule, str] = {}
    number = order.customer_number
    if _is_unknown(number, settings.known_customers):
        found["unknown_customer"] = (
            f"The supplier does not know the customer number {number}." if number else "The order has no customer number."
        )
    if not order.lines:
        found["empty_order"] = "The order has no articles."
    articles = [p.article_number for p in order.lines]
    strange = list(dict.fromkeys(a or "(none)" for a in articles if _is_unknown(a, settings.known_articles)))
    if strange:
        found["unknown_article"] = f"The supplier does not know these article numbers: {_listed(strange)}."
    none_of = [f"{n} ({p.article_number or p.name or 'no name'})" for n, p in enumerate(order.lines, 1) if p.quantity <= 0]
    if none_of:
        found["zero_quantity"] = f"These lines order nothing: {_listed(none_of)}."
    return found


def refusal(order: PurchaseOrder, settings: Settings) -> str | None:
    """Why this order is not wanted here, in one text; None where it is."""
    if not settings.refuse:
        return None
    reasons = [text for rule, text in broken(order, settings).items() if rule in settings.refuse]
    return " ".join(reasons) or None


def _is_unknown(word: str | None, known: TextList | None) -> bool:
    """A list that is empty just now, because its file is being rewritten, knows nothing and accuses nobody."""
    words = known.words if known else frozenset[str]()
    return bool(words) and word not in words


def _listed(words: list[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
