"""What a clerk is told about two versions of an order."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from gateway import Address, Customer, Line, Order
from gateway.engine.difference import differences, is_likely_new


def line(n: int, article: str | None, quantity: str = "1", **more: object) -> Line:
    return Line(line_number=n, article_number=article, quantity=Decimal(quantity), **more)  # type: ignore[arg-type]


BEFORE = Order(order_number="N-1", customer=Customer(number="7", name="Canary"), lines=(line(1, "A"), line(2, "B", "2"), line(3, "A", "3")))


def test_the_same_order_has_no_difference() -> None:
    assert differences(BEFORE, BEFORE) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(BEFORE, total=Decimal("1.50")), ["total: none -> 1.50"]),
        (replace(BEFORE, customer=Customer(number="8")), ["customer: 7 -> 8"]),
        (replace(BEFORE, customer=Customer(number="7", name="Someone else")), ["customer: other details"]),
        (replace(BEFORE, notes="ring twice"), ["notes: changed"]),
        (replace(BEFORE, ship_to=Address(city="Gent")), ["ship_to: changed"]),
        (replace(BEFORE, lines=BEFORE.lines[:2]), ["- line 3: A, quantity 3, price none"]),
        (replace(BEFORE, lines=(*BEFORE.lines, line(4, "C"))), ["+ line 4: C, quantity 1, price none"]),
        (
            replace(BEFORE, lines=(line(1, "B", "2"), line(2, "A", "1"), line(3, "A", "5", notes="x"))),
            ["  line 3: A, quantity 3 -> 5, notes changed"],
        ),
        (
            replace(BEFORE, lines=(*BEFORE.lines[:2], line(3, None, "3"))),
            ["+ line 3: without a number (3), quantity 3, price none", "- line 3: A, quantity 3, price none"],
        ),
    ],
)
def test_each_difference_is_one_text(after: Order, said: list[str]) -> None:
    assert differences(BEFORE, after) == said


def test_a_text_line_is_no_article_in_common() -> None:
    before = replace(BEFORE, lines=(*BEFORE.lines, line(4, None, notes="10% off")))
    assert is_likely_new(before, replace(before, lines=(line(1, "X"), line(4, None, notes="10% off"))))


def test_people_and_free_texts_are_not_repeated() -> None:
    after = replace(BEFORE, notes="canary-note", customer=Customer(number="7", name="canary-name"), ship_to=Address(street="canary-street"))
    assert "canary" not in " ".join(differences(BEFORE, after)).lower()


@pytest.mark.parametrize(
    ("after", "likely"),
    [
        (replace(BEFORE, lines=(line(1, "X"), line(2, "Y"))), True),
        (replace(BEFORE, lines=(line(1, "X"), line(2, "B"))), False),
        (replace(BEFORE, customer=Customer(number="8")), True),
        (replace(BEFORE, lines=()), False),
        (replace(BEFORE, lines=(line(1, "X"), line(2, None))), True),
        (replace(BEFORE, lines=(line(1, None),)), False),
    ],
)
def test_another_order_under_an_old_name_is_recognised(after: Order, likely: bool) -> None:
    assert is_likely_new(BEFORE, after) is likely


def test_a_new_field_of_a_line_is_compared_and_a_new_text_is_not_repeated() -> None:
    fields = [("tax_rate", Decimal | None, None), ("engraving", str | None, None)]
    later = msgspec.defstruct("Line", fields, bases=(Line,), frozen=True, kw_only=True)
    (old, new) = (
        replace(BEFORE, lines=(later(line_number=1, article_number="A", **more),)) for more in ({}, {"tax_rate": 6, "engraving": "canary"})
    )
    assert differences(old, new) == ["  line 1: A, tax_rate none -> 6, engraving changed"]
