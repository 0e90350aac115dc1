"""The rules for readable orders: flags, refusals by webhook, and orders of the list that wait for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from gateway_apicbase.constructed import line, purchase_order

from gateway import Hold, Order, Rejected

order: Callable[..., dict[str, Any]] = partial(
    purchase_order, "5f0c2b7e9d1a", number="PO-2024-00317", ordered_on=datetime(2024, 3, 31, 1, 58, tzinfo=UTC)
)

REFUSED: Sequence[tuple[dict[str, Any], str]] = [
    ({"customer": "UNKNOWN-9"}, "The supplier does not know the customer number UNKNOWN-9."),
    ({"customer": None}, "The order has no customer number."),
    ({"lines": []}, "The order has no articles."),
    ({"lines": [(1, 1), (2, 1)]}, "The supplier does not know these article numbers: 00-0012."),
    ({"lines": [(0, 1), (1, 0)]}, "These lines order nothing: 2 (7781)."),
]
KEPT = [
    "supplier_customer_number is not among known_customers;",
    "supplier_customer_number is not among known_customers;",
    "packages is empty;",
    "packages[1]: supplier_article_number is not among known_articles;",
    "packages[1]: quantity_ordered is not above zero;",
]
RULES: dict[str, Any] = {"known_customers": ("0010023",), "known_articles": ("000451-2", "7781")}
EVERY_RULE = ("unknown_customer", "unknown_article", "empty_order", "zero_quantity")


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_refusals_are_said_to_the_customer_only_where_configured(
    ingest: Any, normalize: Callable[..., Order], fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Rejected) as refused:
        ingest(order(**fields), refuse=EVERY_RULE, **RULES)
    assert refused.value.reason == reason
    assert ingest(order(**fields), **RULES).key == "5f0c2b7e9d1a"
    assert set(normalize(order(**fields), **RULES).flags) & set(EVERY_RULE)
    assert ingest(order(), refuse=EVERY_RULE, **RULES).key == "5f0c2b7e9d1a"
    assert normalize(order(), refuse=EVERY_RULE, **RULES).flags == ()


def test_all_reasons_are_said_at_once_and_long_lists_are_cut(ingest: Any) -> None:
    with pytest.raises(Rejected, match=r"UNKNOWN-9\. The order has no articles\.$"):
        ingest(order(customer="UNKNOWN-9", lines=[]), refuse=EVERY_RULE, **RULES)
    many = [line(0, 1) | {"supplier_package": {"supplier_article_number": f"N-{n}"}} for n in range(7)]
    with pytest.raises(Rejected, match=r"N-0, N-1, N-2, N-3, N-4 and 2 more\.$"):
        ingest(order(packages=many), refuse=EVERY_RULE, **RULES)


def test_rules_without_their_list_find_nothing(normalize: Callable[..., Order]) -> None:
    """Nothing configured, or a file that is empty just now: nobody is accused."""
    assert normalize(order(customer="UNKNOWN-9")).flags == ()
    assert normalize(order(customer="UNKNOWN-9"), known_customers=()).flags == ()


@pytest.mark.parametrize(("fields", "kept"), [(fields, kept) for (fields, _), kept in zip(REFUSED, KEPT, strict=True)])
def test_an_order_that_came_by_poll_and_would_be_refused_waits_for_a_person(
    normalize: Callable[..., Order], fields: dict[str, Any], kept: str
) -> None:
    with pytest.raises(Hold) as held:
        normalize(order(**fields), refuse=EVERY_RULE, **RULES)
    assert held.value.reason.startswith(kept)
    assert "tell the customer" in held.value.reason
    for private in ("søren.o'brien@café-zoë.example", "UNKNOWN-9", "7781"):
        assert private not in held.value.reason
    assert held.value.order == normalize(order(**fields), **RULES)
