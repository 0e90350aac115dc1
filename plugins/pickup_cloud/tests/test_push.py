"""Reading what the hub calls us with. The numbers of the edge cases are those of vendors/pickup_cloud.md, 4."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import gateway_pickup_cloud
import pytest
from gateway_pickup_cloud.events import UNKNOWN
from gateway_pickup_cloud.push import Push, Strange, read_push

from gateway import Envelope, Event
from gateway.plugin.validation import Misread

AT = datetime(2024, 3, 31, 12, tzinfo=UTC)
NUMBER, CODE = "WEB/2024 00042#ä", "customer_00000000000000000000000000000A41"
CHANGED = "2024-03-31T08:15:00.1234567+02:00"
DTO = {
    "ArticleId": "0000017",
    "RequiredQuantity": 2,
    "OrderArticleStateChangedDate": None,
    "DueDate": "2024-04-28T00:00:00",
    "OrderArticleState": "SCHEDULED",
}


def call(target: str, *arguments: Any) -> bytes:
    return json.dumps({"target": target, "arguments": arguments}, ensure_ascii=False).encode()


def order_call(state: str = "READYFORINPUT", changed: str | None = CHANGED, *more: Any) -> bytes:
    return call("OrderStateChanged", NUMBER, CODE, state, changed, *more)


def article_call(**changes: Any) -> bytes:
    return call("OrderArticleStateChanged", NUMBER, CODE, DTO | changes)


def camel(members: dict[str, Any]) -> dict[str, Any]:
    return {name[0].lower() + name[1:]: camel(value) if isinstance(value, dict) else value for name, value in members.items()}


ORDER = {"OrderNumber": NUMBER, "PickupCode": CODE, "OrderState": "READYFORINPUT", "OrderStateChangedDate": CHANGED, "ExtraData": ""}
ARTICLE = {"OrderNumber": NUMBER, "PickupCode": CODE, "ArticleStatusChangedDto": DTO}


@pytest.fixture
def ingest(settings: Callable[..., Any]) -> Callable[..., Event]:
    def call(body: bytes, received_at: datetime = AT, **changes: Any) -> Event:
        envelope = Envelope(source="pharmacy", door="realtime", body=body, received_at=received_at)
        (event,) = gateway_pickup_cloud.ingest(envelope, settings(**changes))
        return event

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        [NUMBER, CODE, "READYFORINPUT", CHANGED, None],
        [NUMBER, CODE, "READYFORINPUT", CHANGED, ""],
        [NUMBER, CODE, "READYFORINPUT", CHANGED, {"reserved": [1, {"x": None}]}],
        [NUMBER, CODE, "READYFORINPUT", CHANGED],
        [NUMBER, CODE, "READYFORINPUT", CHANGED, None, "one more"],
        [NUMBER, None, "READYFORINPUT", CHANGED, None],
        [ORDER],
        [camel(ORDER)],
        [{name.upper(): value for name, value in ORDER.items()}],
    ],
)
def test_an_orders_notification_is_read_in_every_layout(arguments: list[Any]) -> None:
    wanted = Push(order_number=NUMBER, state="READYFORINPUT", changed=CHANGED)
    assert read_push(call("OrderStateChanged", *arguments)) == wanted


@pytest.mark.parametrize(
    "arguments",
    [
        [NUMBER, CODE, DTO],
        [NUMBER, CODE, DTO, ""],
        [NUMBER, CODE, DTO | {"ExtraData": None}],
        [NUMBER, CODE, camel(DTO) | {"extraData": {"a": 1}}, None],
        [ARTICLE],
        [camel(ARTICLE)],
        [ARTICLE | {"ExtraData": {"articles": []}}],
        [{"orderNumber": NUMBER, "pickupCode": CODE} | DTO],
    ],
)
@pytest.mark.parametrize("target", ["OrderArticleStateChanged", "OrderArticleWithPackStateChanged"])
def test_an_articles_notification_is_read_in_every_layout(target: str, arguments: list[Any]) -> None:
    push = read_push(call(target, *arguments))
    assert isinstance(push, Push)
    assert push.article is not None
    assert (push.order_number, push.state, push.changed) == (NUMBER, "SCHEDULED", None)
    assert (push.article.article_id, push.article.required_quantity, push.article.due_date) == ("0000017", "2", "2024-04-28T00:00:00")


@pytest.mark.parametrize(
    "body",
    [
        call("OrderStateChanged"),
        call("OrderStateChanged", NUMBER),
        call("OrderStateChanged", NUMBER, CODE),
        call("OrderStateChanged", NUMBER, CODE, None, CHANGED),
        call("OrderStateChanged", NUMBER, CODE, "PICKEDUP", "yesterday"),
        call("OrderStateChanged", NUMBER, CODE, "PICKEDUP", "9999-12-31T23:59:59-10:00"),
        call("OrderStateChanged", "", CODE, "PICKEDUP", CHANGED),
        call("OrderStateChanged", "9" * 201, CODE, "PICKEDUP", CHANGED),
        call("OrderStateChanged", "a\nb", CODE, "PICKEDUP", CHANGED),
        call("OrderStateChanged", "a\0b", CODE, "PICKEDUP", CHANGED),
        call("OrderStateChanged", {"orderNumber": "1", "OrderNumber": "2", "orderState": "PICKEDUP"}),
        call("OrderArticleStateChanged", NUMBER, CODE, None),
        call("OrderArticleStateChanged", NUMBER, CODE, {"ArticleId": "1"}),
        call("OrderArticleStateChanged", None, CODE, DTO),
        call("OrderArticleStateChanged", DTO),
        call("OrderArticleStateChanged", NUMBER, CODE, DTO | {"RequiredQuantity": "many"}),
        b'{"target": "OrderStateChanged", "arguments": {}}',
        b'{"target": "OrderStateChanged"',
        b'{"target": "OrderStateChanged", "arguments": ["\\ud800", "", "PICKEDUP", null]}',
        b'{"target": "OrderStateChanged", "arguments": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"[]",
    ],
)
def test_what_lacks_what_belongs_to_it_is_a_dead_letter(connector: Callable[..., Any], settings: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(Misread):
        connector(settings()).read(Envelope(source="pharmacy", door="realtime", body=body, received_at=AT))


def as_the_core_writes(*arguments: Any) -> bytes:
    return b'{"target":"OrderStateChanged","arguments":' + json.dumps(arguments, ensure_ascii=False, separators=(",", ":")).encode() + b"}"


@pytest.mark.parametrize(
    "arguments",
    [
        [NUMBER, CODE, "READYFORINPUT", CHANGED, None],
        [NUMBER, None, "READYFORINPUT", None, ""],
        [NUMBER, "", "READYFORINPUT"],
        ["9" * 500, CODE, "x" * 500, "9" * 500],
        [NUMBER, CODE, "READYFORINPUT", CHANGED, {"a": 1}],
        [NUMBER, 12.50, "READYFORINPUT", CHANGED],
        [NUMBER, CODE, "READYFORINPUT", CHANGED, None, "one more"],
        ['a \\ and a " and a tab\t', CODE, "READYFORINPUT", CHANGED],
        ["9" * 500, CODE, "READYFORINPUT", CHANGED, "x" * 100_000],
        [ORDER],
    ],
)
def test_a_call_as_the_core_writes_it_is_read_as_any_other(ingest: Callable[..., Event], arguments: list[Any]) -> None:
    assert read_push(as_the_core_writes(*arguments)) == read_push(call("OrderStateChanged", *arguments))


@pytest.mark.parametrize(
    "body",
    [
        as_the_core_writes(),
        as_the_core_writes(NUMBER, CODE),
        as_the_core_writes(NUMBER, CODE, None, CHANGED),
        as_the_core_writes(7, CODE, "READYFORINPUT", CHANGED)[:-1],
        as_the_core_writes("9" * 501, CODE, "READYFORINPUT", CHANGED),
        as_the_core_writes("a\0b", CODE, "READYFORINPUT", CHANGED),
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED).replace(b"READY", b"RE\x00ADY"),
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED).replace(b"READY", b"RE\xffADY"),
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED).replace(b"READY", b"\\ud800"),
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED)[:-1] + b',"target":"OrderStateChanged"}',
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED)[:-1] + b"}}",
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED)[:-1] + b"]}",
        as_the_core_writes(NUMBER, CODE, "READYFORINPUT", CHANGED, None)[:-2] + b",]}",
    ],
)
def test_what_the_core_writes_is_read_as_strictly_as_any_other(
    connector: Callable[..., Any], settings: Callable[..., Any], body: bytes
) -> None:
    with pytest.raises(Misread):
        connector(settings()).read(Envelope(source="pharmacy", door="realtime", body=body, received_at=AT))


@pytest.mark.parametrize(
    ("number", "state", "changed", "key"),
    [
        ("g1-7", "READYFORINPUT", "2024-03-31T08:15:00+02:00", "order-49e851976ee2983f932495fdb827f58f"),
        (NUMBER, "PICKEDUP", CHANGED, "order-7085107590abc27f12c1ccb63e30a5d4"),
        ("g1-7", "PICKEDUP", "0001-12-31T08:15:00.000001", "order-c4b7c79836493ad4b9fec00c8468d82e"),
        ("g1-7", "PICKEDUP", "2024-03-31T08:15:00.5", "order-77f9ed081960e2ef642d7a9eb062b7df"),
        (NUMBER, "SCHEDULED", None, "order-04dfceef9f98d1fe4f138c5f92541fc7"),
    ],
)
def test_an_orders_key_is_the_same_in_every_version(
    ingest: Callable[..., Event], number: str, state: str, changed: str | None, key: str
) -> None:
    """What is stored under another key than before would be stored once more."""
    assert ingest(as_the_core_writes(number, CODE, state, changed, None)).key == key


def test_case_14_the_event_keeps_the_call_as_it_came_and_wants_its_order(ingest: Callable[..., Event]) -> None:
    event = ingest(order_call())
    assert (event.order_ref, event.document, event.fetch, event.ignored) == (NUMBER, order_call(), True, None)
    assert event.occurred_at == datetime(2024, 3, 31, 6, 15, 0, 123456, UTC)


def test_case_7_the_same_said_twice_is_one_event_in_whatever_layout(ingest: Callable[..., Event]) -> None:
    later = datetime(2024, 3, 31, 13, tzinfo=UTC)
    first = ingest(order_call())
    assert {ingest(body, later).key for body in (order_call(), call("OrderStateChanged", camel(ORDER)))} == {first.key}
    assert ingest(order_call(changed="2024-03-31T06:15:00.1234567Z"), later).key == first.key


def test_case_7_whatever_is_different_is_another_event(ingest: Callable[..., Event]) -> None:
    bodies = [
        order_call(),
        order_call("PICKEDUP"),
        order_call(changed="2024-03-31T08:15:01+02:00"),
        call("OrderStateChanged", "other", CODE, "READYFORINPUT", CHANGED),
        article_call(OrderArticleState="READYFORINPUT", OrderArticleStateChangedDate=CHANGED),
        article_call(OrderArticleState="READYFORINPUT", OrderArticleStateChangedDate=CHANGED, DueDate=None),
        article_call(OrderArticleState="READYFORINPUT", OrderArticleStateChangedDate=CHANGED, ArticleId="0000018"),
        call("OrderArticleStateChanged", NUMBER + "0", CODE, DTO | {"ArticleId": "000017", "OrderArticleStateChangedDate": CHANGED}),
        call("OrderArticleStateChanged", NUMBER, CODE, DTO | {"ArticleId": "0000017", "OrderArticleStateChangedDate": CHANGED}),
    ]
    assert len({ingest(body).key for body in bodies}) == len(bodies)


def test_case_7_without_a_date_nothing_tells_a_repeat_from_the_next_time(ingest: Callable[..., Event]) -> None:
    scheduled = order_call("SCHEDULED", None)
    assert ingest(scheduled).key == ingest(scheduled).key
    assert ingest(scheduled).key != ingest(scheduled, datetime(2024, 4, 28, 12, tzinfo=UTC)).key
    assert ingest(scheduled).occurred_at is None


@pytest.mark.parametrize("state", ["RETURNED", "CANCELLED", "", "2", "READY FOR INPUT"])
def test_a_state_that_nobody_knows_is_kept_and_flagged(ingest: Callable[..., Event], state: str) -> None:
    event = ingest(order_call(state))
    assert (event.order_ref, event.document, event.fetch, event.flagged) == (NUMBER, order_call(state), False, True)
    assert event.ignored == UNKNOWN


def test_a_states_letter_case_does_not_count(ingest: Callable[..., Event]) -> None:
    assert ingest(order_call("ReadyForInput")).key == ingest(order_call()).key


@pytest.mark.parametrize(
    "body",
    [
        call("OrderRenamed", NUMBER, "new"),
        call("orderstatechanged", NUMBER, CODE, "PICKEDUP", CHANGED),  # names are matched exactly on the wire
        call("OrderArticleWithPackStateChanged", NUMBER, CODE, {"PackId": "1", "PackState": "IN"}),
        call("OrderArticleWithPackStateChanged"),
    ],
)
def test_a_notification_that_nobody_can_read_is_kept_and_flagged(ingest: Callable[..., Event], body: bytes) -> None:
    assert isinstance(read_push(body), Strange)
    event = ingest(body)
    assert (event.document, event.fetch, event.flagged, event.ignored is not None) == (body, False, True, True)


def test_dates_without_an_offset_are_the_pharmacys(ingest: Callable[..., Event]) -> None:
    body = order_call(changed="2024-07-01T08:00:00")
    assert ingest(body).occurred_at == datetime(2024, 7, 1, 6, tzinfo=UTC)
    assert ingest(body, time_zone="UTC").occurred_at == datetime(2024, 7, 1, 8, tzinfo=UTC)


def test_nets_first_year_is_no_date(ingest: Callable[..., Event]) -> None:
    assert ingest(order_call("SCHEDULED", "0001-01-01T00:00:00")).occurred_at is None
