"""What a notification and an order become. The numbers of the edge cases are those of vendors/pickup_cloud.md, 4."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import gateway_pickup_cloud
import msgspec
import pytest
from gateway_pickup_cloud.constructed import CUSTOMER, SELF_REGISTERED, article, response

from gateway import Address, Customer, Event, Ignore, Order, PermanentError
from gateway.testing import check_connector, load_samples

SAMPLES = Path(__file__).parent.parent / "samples"
CREATED = datetime(2024, 3, 30, 23, 59, 59, 999999, UTC)
DUE, NEXT, AFTER = "2024-04-01T00:00:00", "2024-04-29T00:00:00", "2024-05-27T00:00:00"
A, B = article(0)["scanCode"], article(1)["scanCode"]


def shown(*articles: dict[str, Any], state: str = "READYFORINPUT", **fields: Any) -> bytes:
    return json.dumps(response("N-1", state=state, created=CREATED, articles=articles, **fields), ensure_ascii=False).encode()


def told(state: str, at: str | None = None) -> bytes:
    return json.dumps({"target": "OrderStateChanged", "arguments": ["N-1", "customer_1", state, at, ""]}).encode()


def told_of(code: str, state: str, due: str | None = None, at: str | None = None, quantity: int = 1) -> bytes:
    dto = {"ArticleId": code, "RequiredQuantity": quantity, "OrderArticleState": state, "OrderArticleStateChangedDate": at, "DueDate": due}
    return json.dumps({"target": "OrderArticleStateChanged", "arguments": ["N-1", "customer_1", dto]}).encode()


@pytest.fixture
def make(settings: Callable[..., Any], connector: Callable[..., Any]) -> Callable[..., Order]:
    """`make(told("PICKEDUP"), shown(), previous)`; a notification of None is an answer by itself, as the resync has it."""

    def call(push: bytes | None, document: bytes, previous: Order | None = None, **changes: Any) -> Order:
        event = Event(key="k", order_ref="N-1", document=push)
        order: Order = connector(settings(**changes)).normalize(event, document, previous)
        return order

    return call


def lines(order: Order) -> list[tuple[int, str | None, str | None, str | None]]:
    """Number, code, due day, status."""
    return [(x.line_number, x.scan_code or x.article_number, f"{x.due_at:%m-%d}" if x.due_at else None, x.status) for x in order.lines]


def test_every_sample_passes_the_conformance_suite(settings: Callable[..., Any]) -> None:
    samples = load_samples(SAMPLES)
    assert len(samples) == 5
    assert all(sample.order for sample in samples)
    assert check_connector(gateway_pickup_cloud, settings(), samples) == []


# --- the order


def test_an_order_has_lines_without_prices(make: Callable[..., Order]) -> None:
    order = make(told("READYFORINPUT", "2024-03-31T08:15:00.1234567+02:00"), shown(article(0, 2), article(2, 1, interval=28)))
    assert (order.order_number, order.status, order.currency, order.total, order.flags) == ("N-1", "ready_for_input", None, None, ())
    assert order.ordered_at == CREATED
    first, second = order.lines
    assert (first.scan_code, first.name, first.quantity, first.unit_price, first.status) == (
        A,
        "Augentropfen 10 ml",
        Decimal(2),
        None,
        None,
    )
    assert (first.interval_days, second.interval_days) == (None, 28)


@pytest.mark.parametrize("fields", [{}, {"customerDetails": CUSTOMER}, {"customerDetails": None}])
def test_nothing_personal_leaves_by_default(make: Callable[..., Order], fields: dict[str, Any]) -> None:
    order = make(told("READYFORINPUT"), shown(article(0), cancellationReason="reason of a person", **fields))
    written = msgspec.json.encode(order).decode()
    for secret in ("customer_", "pickup_0", "1-0-1", "Kühl lagern", "reason of", "Łucja", "Dresden", "lucja@"):
        assert secret not in written
    assert (order.customer, order.notes, order.references) == (Customer(), None, {})


def test_what_is_personal_is_forwarded_where_the_settings_say_so(make: Callable[..., Order]) -> None:
    body = shown(article(0), customerDetails=CUSTOMER, cancellationReason="verreist")
    order = make(told("READYFORINPUT"), body, forward_personal_data=True)
    assert order.notes == "Kühl lagern"
    assert set(order.references) == {"pickup_code", "storage_code"}
    assert (order.extra["dosage_information"], order.extra["cancellation_reason"]) == ("1-0-1", "verreist")
    assert order.customer.address == Address(
        street="Straße des 17. Juni 135, Hinterhof", postal_code="01067", city="Dresden", country="Deutschland"
    )


def test_case_15_a_note_that_begins_with_a_dollar_sign_is_a_note(make: Callable[..., Order]) -> None:
    order = make(told("READYFORINPUT"), shown(relatedNotes="$pickup-005-010"), forward_personal_data=True)
    assert order.notes == "$pickup-005-010"


@pytest.mark.parametrize(
    ("details", "customer"),
    [
        (None, Customer()),
        (dict.fromkeys(CUSTOMER, ""), Customer()),
        (dict.fromkeys(CUSTOMER), Customer()),
        ({}, Customer()),
        (SELF_REGISTERED, Customer(email="juergen@example.org")),
    ],
)
def test_case_16_a_customer_who_registers_himself_is_not_there_yet(
    make: Callable[..., Order], details: dict[str, Any] | None, customer: Customer
) -> None:
    assert make(told("READYFORINPUT"), shown(customerDetails=details), forward_personal_data=True).customer == customer


def test_case_17_texts_stay_as_they_are(make: Callable[..., Order]) -> None:
    order = make(told("READYFORINPUT"), shown(article(1), customerDetails=CUSTOMER), forward_personal_data=True)
    assert order.customer.name == "Łucja Müller-Öztürk \u202bלוצ׳יה\u202c"
    assert order.customer.phone == "+49 0351 000 00 00"
    assert (order.lines[0].name, order.lines[0].scan_code) == ("Kühl-Gel 50 g", "00012345")


def test_pascal_case_is_read_like_camel_case(make: Callable[..., Order]) -> None:
    camel = json.loads(shown(article(0), state="PICKEDUP"))
    pascal = {name[0].upper() + name[1:]: value for name, value in camel.items()}
    pascal["Articles"] = [{name[0].upper() + name[1:]: value for name, value in article(0).items()}]
    assert make(told("PICKEDUP"), json.dumps(pascal).encode()) == make(told("PICKEDUP"), shown(article(0), state="PICKEDUP"))


@pytest.mark.parametrize(
    "document",
    [
        b"<html>",
        b"[]",
        b"{}",
        shown()[:-1],
        shown(creationDate="soon"),
        shown({"scanCode": "1", "quantityOrdered": True}),
        shown({"scanCode": "1", "quantityOrdered": "a few"}),
        shown({"scanCode": "1", "interval": 10**30}),
        shown({"scanCode": "1", "interval": 0}),
        shown(relatedNotes="a\0b"),
        b"\xff\xfe",
    ],
)
def test_an_answer_that_is_no_order_is_a_dead_letter(make: Callable[..., Order], document: bytes) -> None:
    with pytest.raises(PermanentError):
        make(told("PICKEDUP"), document)


# --- how it stands


def test_an_articles_state_leaves_the_order_as_it_is_shown(make: Callable[..., Order]) -> None:
    order = make(told_of(A, "PICKEDUP"), shown(article(0), article(1), state="READYFORPICKUP"))
    assert (order.status, lines(order)) == ("ready_for_pickup", [(1, A, None, "picked_up"), (2, B, None, None)])


@pytest.mark.parametrize(("state", "flags"), [("", ()), (None, ()), ("RETURNED", ("unknown_state",))])
def test_an_order_whose_state_is_not_known_is_placed(make: Callable[..., Order], state: str | None, flags: tuple[str, ...]) -> None:
    order = make(told_of(A, "READYFORPICKUP"), shown(article(0), state=state))  # type: ignore[arg-type]
    assert (order.status, order.flags) == ("placed", flags)
    assert make(told("SCHEDULED"), shown(article(0), state=state), order).status == "scheduled"  # type: ignore[arg-type]


def test_case_5_a_late_notification_says_nothing(make: Callable[..., Order]) -> None:
    order = make(told("PICKEDUP", "2024-03-31T10:05:00Z"), shown(article(0), state="PICKEDUP"))
    with pytest.raises(Ignore, match="older than the change to picked_up"):
        make(told("READYFORPICKUP", "2024-03-31T09:58:00Z"), shown(article(0), state="PICKEDUP"), order)


def test_case_8_an_order_that_is_picked_up_may_have_an_article_left(make: Callable[..., Order]) -> None:
    document = shown(article(0), article(1), state="PICKEDUP")
    first = make(told_of(A, "READYFORPICKUP"), document)
    order = make(told("CANCELED", "2024-03-31T10:05:00Z"), document, first)
    assert (order.status, lines(order)) == ("cancelled", [(1, A, None, "ready_for_pickup"), (2, B, None, None)])


def test_an_answer_by_itself_is_what_the_resync_found(make: Callable[..., Order]) -> None:
    before = make(told("READYFORINPUT", "2024-03-31T08:00:00Z"), shown(article(0)))
    picked_up = shown(article(0), state="PICKEDUP", lastUpdateDate="2024-03-31T10:00:00.0000001+00:00", pickedUpDate="2024-03-31T09:59:00Z")
    order = make(None, picked_up, before)
    assert (order.status, order.extra["state_changed_at"]) == ("picked_up", "2024-03-31T10:00:00Z")
    with pytest.raises(Ignore, match="picked_up already"):
        make(None, picked_up, order)


def test_an_answer_may_show_the_states_of_its_articles(make: Callable[..., Order]) -> None:
    """Under the names of the notification; the vendor says that they are to be had, and not how they are called."""
    state = {"orderArticleState": "READYFORPICKUP", "orderArticleStateChangedDate": "2024-03-31T09:00:00Z", "dueDate": DUE}
    before = make(told("READYFORINPUT"), shown(article(0), article(1)))
    order = make(None, shown(article(0) | state, article(1)), before)
    assert (order.status, lines(order)) == ("ready_for_input", [(1, A, "03-31", "ready_for_pickup"), (2, B, None, None)])


def test_an_order_first_heard_of_through_an_article_stands_as_it_is_shown(make: Callable[..., Order]) -> None:
    document = shown(article(0), state="PICKEDUP", lastUpdateDate="2024-03-31T10:00:00Z")
    order = make(told_of(A, "PICKEDUP"), document)
    with pytest.raises(Ignore, match="older than the change to picked_up"):
        make(told("CANCELED", "2024-03-31T09:59:00Z"), document, order)


@pytest.mark.parametrize(
    "dates", [{"pickedUpDate": "2024-03-31T10:00:00Z"}, {"lastUpdateDate": "2024-03-31T10:00:00Z", "pickedUpDate": "2024-02-01T00:00:00Z"}]
)
def test_an_answer_dates_its_state_by_whatever_date_is_the_last(make: Callable[..., Order], dates: dict[str, Any]) -> None:
    """The first pick-up of a recurrent order may be what `pickedUpDate` stays at."""
    order = make(None, shown(article(0), state="PICKEDUP", **dates))
    assert order.extra["state_changed_at"] == "2024-03-31T10:00:00Z"


# --- lines


def test_case_6_the_lines_of_a_recurrent_order_are_what_its_articles_are_told_of(make: Callable[..., Order]) -> None:
    """Its answer lists none (seed 001)."""
    order = make(told("SCHEDULED"), shown(state="SCHEDULED"))
    assert (order.status, order.lines) == ("scheduled", ())
    for push in (
        told_of(A, "SCHEDULED", DUE, quantity=2),
        told_of(B, "SCHEDULED", DUE),
        told_of(A, "PICKEDUP", DUE, "2024-04-01T09:00:00Z", 2),
    ):
        order = make(push, shown(state="SCHEDULED"), order)
    assert lines(order) == [(1, A, "03-31", "picked_up"), (2, B, "03-31", "scheduled")]
    assert [line.quantity for line in order.lines] == [2, 1]
    order = make(told_of(A, "SCHEDULED", NEXT, quantity=2), shown(state="SCHEDULED"), order)
    assert lines(order)[2:] == [(3, A, "04-28", "scheduled")]
    assert order.extra["articles"][2]["due_date"] == NEXT
    order = make(told_of(A, "PICKEDUP", NEXT, "2024-04-29T09:00:00Z", 2), shown(state="SCHEDULED"), order)
    assert lines(order) == [(2, B, "03-31", "scheduled"), (3, A, "04-28", "picked_up")]
    order = make(told_of(A, "SCHEDULED", AFTER, quantity=2), shown(state="SCHEDULED"), order)
    assert lines(order)[2:] == [(4, A, "05-26", "scheduled")]


def test_case_6_another_due_date_of_a_listed_article_is_a_line_like_it(make: Callable[..., Order]) -> None:
    document = shown(article(0, 3, interval=28), article(1), state="SCHEDULED")
    order = make(told_of(A, "SCHEDULED", DUE), document)
    assert lines(order) == [(1, A, "03-31", "scheduled"), (2, B, None, None)]
    order = make(told_of(A, "SCHEDULED", NEXT), document, order)
    assert lines(order) == [(1, A, "03-31", "scheduled"), (2, B, None, None), (3, A, "04-28", "scheduled")]
    assert (order.lines[2].quantity, order.lines[2].interval_days, order.lines[2].name) == (3, 28, "Augentropfen 10 ml")
    changed = shown(article(0, 4), article(1), state="SCHEDULED")
    order = make(told_of(A, "READYFORINPUT", NEXT), changed, order)
    assert [(line.quantity, line.interval_days) for line in order.lines] == [(4, 28), (1, None), (4, 28)]


def test_lines_that_an_answer_leaves_out_stay(make: Callable[..., Order]) -> None:
    order = make(told("READYFORINPUT"), shown(article(0, 2), article(1)))
    order = make(told("READYFORPICKUP"), shown(), order)
    assert lines(order) == [(1, A, None, None), (2, B, None, None)]


def test_lines_that_an_answer_shows_later_keep_their_numbers(make: Callable[..., Order]) -> None:
    order = make(told_of(B, "READYFORINPUT"), shown())
    order = make(told("READYFORPICKUP"), shown(article(0, 2), article(1, 5)), order)
    assert lines(order) == [(1, B, None, "ready_for_input"), (2, A, None, None)]
    assert [line.quantity for line in order.lines] == [5, 2]


def test_case_11_an_article_on_two_lines_is_no_lines_own(make: Callable[..., Order]) -> None:
    document = shown(article(0, 2), article(0, 1))
    order = make(told_of(A, "READYFORPICKUP", quantity=2), document)
    assert (lines(order), order.flags) == ([(1, A, None, None), (2, A, None, None)], ("unmatched_article",))
    assert [(one["article_id"], one["status"], one["line_number"]) for one in order.extra["articles"]] == [(A, "ready_for_pickup", None)]
    for answer in (document, shown()):
        later = make(told_of(A, "PICKEDUP", quantity=2), answer, order)
        assert (later.extra["articles"][0]["status"], later.extra["articles"][0]["line_number"]) == ("picked_up", None)


def test_case_11_a_substitute_is_no_lines_own_either(make: Callable[..., Order]) -> None:
    order = make(told_of("0099", "READYFORPICKUP"), shown(article(0), article(1)))
    assert (lines(order), order.flags) == ([(1, A, None, None), (2, B, None, None)], ("unmatched_article",))
    assert order.extra["articles"][0]["line_number"] is None
