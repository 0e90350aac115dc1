"""What is pure: reading, keys, shapes, the canonical order. The numbers of the edge cases are those of vendors/scalepoint.md, 4."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import gateway_scalepoint
import msgspec
import pytest
from gateway_scalepoint import constructed, orders
from gateway_scalepoint.events import instant

from gateway import Envelope, Event, Hold, Mapping, MappingError, Order, PermanentError
from gateway.api.order import encode
from gateway.plugin.connector import Connector
from gateway.plugin.validation import Misread
from gateway.testing import check_connector, load_samples

SAMPLES = Path(__file__).parent.parent / "samples"
AT = datetime(2024, 3, 31, 12, tzinfo=UTC)
TOKEN = "0A1B2C3D-2222-4222-8222-00000000BEEF"
FIRST, AGAIN, FOREIGN = (next(s for s in load_samples(SAMPLES) if s.name.startswith(n)).body for n in ("01", "02", "03"))
FETCHED = (SAMPLES / "01_order_created.fetched.json").read_bytes()


def envelope(body: bytes, *proofs: str) -> Envelope:
    headers = [(b"Authorization", proof.encode()) for proof in proofs or ("Bearer constructed-secret-do-not-use",)]
    return Envelope(source="claims", body=body, headers=headers, received_at=AT)


def told(**fields: Any) -> bytes:
    return json.dumps(constructed.event(TOKEN, claim=1, correlation="C0DE", at=AT) | fields).encode()


@pytest.fixture
def ingest(settings: Callable[..., Any]) -> Callable[..., Event]:
    def call(body: bytes, **changes: Any) -> Event:
        (event,) = gateway_scalepoint.ingest(envelope(body), settings(**changes))
        assert isinstance(event, Event)
        return event

    return call


@pytest.fixture
def normalize(settings: Callable[..., Any], connector: Callable[..., Any]) -> Callable[..., Order]:
    def call(document: Any, body: bytes | None = FIRST, previous: Order | None = None, **changes: Any) -> Order:
        made: Connector = connector(settings(**changes))
        event = Event(key="k", order_ref="k", document=body)
        order = made.normalize(event, document if isinstance(document, bytes) else json.dumps(document).encode(), previous)
        return msgspec.structs.replace(order, order_ref="k")

    return call


def test_every_sample_passes_the_conformance_suite(settings: Callable[..., Any]) -> None:
    samples = load_samples(SAMPLES)
    assert len(samples) == 6
    assert check_connector(gateway_scalepoint, settings(), samples, signs_body=False) == []


# --- reading events


def test_seed_event_goes_through(ingest: Callable[..., Event]) -> None:
    """The structure of seed 003, every field with a value of the form given there."""
    body = b"""{ "eventType": "order_created", "payloadVersion": "1.0.0", "correlationId": "84AA-F0",
        "timestamp": "2018-12-27T08:46:36+0200", "case": {"uuid": "91c0-aa", "number": "CH99000001", "externalClaimId": "",
        "token": "c.84AA-F0", "caseType": "contentClaim"}, "orderToken": "BC62-DD" }"""
    event = ingest(body)
    assert (event.key, event.order_ref, event.reference) == ("ordercreated/bc62-dd/84aa-f0", "bc62-dd", "BC62-DD")
    assert (event.document, event.fetch, event.content) == (body, True, None)
    assert event.occurred_at == datetime(2018, 12, 27, 6, 46, 36, tzinfo=UTC)


@pytest.mark.parametrize("name", ["order_created", "ORDER-CREATED", "OrderCreated", "Order Created", "order-Created"])
def test_names_are_compared_without_case_dashes_and_underscores(ingest: Callable[..., Event], name: str) -> None:
    assert ingest(told(eventType=name)).key == ingest(told()).key


def test_case_1_another_spelling_of_the_same_event_has_the_same_key(ingest: Callable[..., Event]) -> None:
    lower = told(orderToken=TOKEN.lower(), correlationId="c0de", payloadVersion="1.1.0", case=None)
    assert ingest(lower).key == ingest(told()).key
    assert ingest(FIRST).order_ref == ingest(AGAIN).order_ref
    assert ingest(FIRST).key != ingest(AGAIN).key


def test_case_5_foreign_events_are_ignored_and_named(ingest: Callable[..., Event]) -> None:
    event = ingest(FOREIGN)
    assert (event.ignored, event.flagged, event.document) == ("events of the type claimupdated are not about orders", False, FOREIGN)
    assert ingest(b" " + FOREIGN).key == event.key
    assert ingest(FOREIGN.replace(b"CaseClosed", b"CaseOpened")).key != event.key


def test_case_6_the_token_names_the_order_and_never_the_case(ingest: Callable[..., Event]) -> None:
    one, other = ingest(told()), ingest(told(orderToken="0A1B2C3D-2222-4222-8222-00000000BEE0"))
    assert one.order_ref != other.order_ref
    assert ingest(told(case={"number": "CH1"})).order_ref == one.order_ref == TOKEN.lower()


def test_case_10_an_event_of_an_unknown_type_that_names_an_order_is_kept_and_flagged(ingest: Callable[..., Event]) -> None:
    event = ingest(told(eventType="order_status"))
    assert (event.flagged, event.order_ref) == (True, TOKEN.lower())
    assert event.key.startswith(f"orderstatus/{TOKEN.lower()}/")
    assert event.ignored == "events of the type orderstatus are not known, and this one names an order"
    known = ingest(told(eventType="order_status"), order_events=("order_created", "order_status"))
    assert (known.ignored, known.fetch, known.key) == (None, True, f"orderstatus/{TOKEN.lower()}/c0de")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2018-12-27T08:46:36+0200", "2018-12-27T06:46:36"),
        ("2024-03-31T03:00:01.1234567+02:00", "2024-03-31T01:00:01.123456"),
        ("2024-03-31T01:00:00.004451447Z", "2024-03-31T01:00:00.004451"),
        ("2024-03-31T01:00:05Z", "2024-03-31T01:00:05"),
        ("2024-03-31T01:00:05.5-0330", "2024-03-31T04:30:05.500000"),
        ("2024-03-31T01:00:05", "2024-03-31T01:00:05"),
    ],
)
def test_case_12_every_style_of_timestamp_is_read(text: str, at: str) -> None:
    assert instant(text, UTC) == datetime.fromisoformat(at).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", [None, "", "yesterday", "27-12-2018", "0001-01-01T00:00:00+14:00"])
def test_case_12_an_unreadable_timestamp_refuses_no_event(ingest: Callable[..., Event], text: Any) -> None:
    assert ingest(told(timestamp=text)).occurred_at is None


def test_a_timestamp_without_an_offset_is_in_the_configured_zone(ingest: Callable[..., Event]) -> None:
    event = ingest(told(timestamp="2024-03-31T10:00:00"), time_zone="Europe/Copenhagen")
    assert event.occurred_at == datetime(2024, 3, 31, 8, tzinfo=UTC)


def test_nulls_empty_texts_and_missing_fields_are_the_same(ingest: Callable[..., Event]) -> None:
    bare = b'{"eventType": "order_created", "orderToken": "T"}'
    nulls = (
        b'{"eventType": "order_created", "orderToken": "T", "correlationId": null, "case": null, "timestamp": "", "payloadVersion": null}'
    )
    assert ingest(bare).key == ingest(nulls).key == "ordercreated/t/-"


def test_a_correlation_id_that_is_a_word_for_none_makes_no_two_events_one(ingest: Callable[..., Event]) -> None:
    keys = {
        ingest(told(correlationId=word, timestamp=at)).key
        for word in ("null", "0", None)
        for at in ("2024-03-31T10:00:00Z", AT.isoformat())
    }
    assert len(keys) == 2, "their timestamps tell them apart"


def test_a_token_that_is_a_word_for_none_is_none(ingest: Callable[..., Event]) -> None:
    with pytest.raises(PermanentError, match="without an orderToken"):
        ingest(told(orderToken="null"))


def test_a_key_that_would_be_too_long_is_shortened_by_its_digest(ingest: Callable[..., Event]) -> None:
    long = ingest(told(correlationId="x" * 500)), ingest(told(correlationId="x" * 501)), ingest(told(correlationId="\u200b"))
    assert len({event.key for event in long}) == 3
    assert all(len(event.key) <= 200 and event.key.isprintable() for event in long)
    odd = ingest(told(eventType="x\u200by" * 200, orderToken=""))
    assert len(odd.key) <= 200
    assert odd.key.isprintable()


UNREADABLE = {
    "nothing": b"",
    "cut off": FIRST.strip()[:-1],
    "no object": b"[]",
    "a page": b"<html>",
    "no type": b'{"orderToken": "T"}',
    "a type of dashes": b'{"eventType": "-", "orderToken": "T"}',
    "no token": b'{"eventType": "order_created"}',
    "an empty token": b'{"eventType": "order_created", "orderToken": " "}',
    "a token of dots": b'{"eventType": "order_created", "orderToken": ".."}',
    "a token of 201 characters": told(orderToken="x" * 201),
    "a token with a line break": told(orderToken="a\nb"),
    "a key twice": b'{"eventType": "order_created", "orderToken": "T", "orderToken": "U"}',
    "invalid UTF-8": FIRST.replace(b"contentClaim", b"\xff\xfe"),
    "nested too deeply": b'{"eventType": "order_created", "orderToken": "T", "x": ' + b"[" * 9000 + b"]" * 9000 + b"}",
    "wrappers in wrappers": b'{"data": [' * 2000 + b"]}" * 2000,
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_genuine_body_that_cannot_be_read_is_kept_and_answered_200(
    connector: Callable[..., Any], settings: Callable[..., Any], body: bytes
) -> None:
    made: Connector = connector(settings())
    assert made.description.unreadable_status == 200
    with pytest.raises(Misread):
        made.admit(envelope(body), AT)


def test_case_11_the_wrapper_of_long_polling_is_understood_at_the_webhook(ingest: Callable[..., Event]) -> None:
    element = b'{"id": "_1", "type": "order_created", "timestamp": "x", "attributes": ' + FIRST.strip() + b"}"
    assert ingest(element) == ingest(FIRST.strip())
    untyped = told().replace(b'"eventType": "order_created", ', b"")
    assert ingest(b'{"type": "order_created", "attributes": ' + untyped + b"}").key == ingest(told()).key


@pytest.mark.parametrize(
    "poison", [b"NaN", b'"\\ud83d"', b"[" * 5000 + b"]" * 5000, b'{"eventType": ""}'], ids=["NaN", "surrogate", "deep", "odd"]
)
def test_one_bad_event_of_several_in_a_body_costs_no_other(
    connector: Callable[..., Any], settings: Callable[..., Any], poison: bytes
) -> None:
    two = (told(), told(orderToken="00000000-0000-4000-8000-000000000002"))
    body = b'{"data": [' + b", ".join([two[0], poison, two[1]]) + b"]}"
    first, bad, second = connector(settings()).admit(envelope(body), AT)
    assert (first.key, second.key) == tuple(connector(settings()).admit(envelope(one), AT)[0].key for one in two)
    assert bad.document == poison


def test_case_16_a_missing_wrong_or_doubled_proof_is_refused(connector: Callable[..., Any], settings: Callable[..., Any]) -> None:
    made: Connector = connector(settings())
    good = "Bearer constructed-secret-do-not-use"
    for proofs in (("",), ("Bearer",), (good + "x",), (good, good), ("Basic " + good,)):
        with pytest.raises(Exception, match="not verified"):
            made.admit(envelope(FIRST, *proofs), AT)
    with pytest.raises(Exception, match="not verified"):
        connector(settings(webhook_auth=None)).admit(envelope(FIRST), AT)


# --- the shape of an answer


ONE = {"externalId": "T", "lines": [{"sku": "1"}]}


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ([], 0),
        ({}, 0),
        (None, 0),
        ([None], 0),
        ([ONE], 1),
        (ONE, 1),
        ({"data": []}, 0),
        ({"data": None}, 0),
        ({"data": [ONE], "links": {}, "meta": {"count": 1}}, 1),
        ({"Orders": [ONE], "totalCount": 1}, 1),
        ({"order": ONE}, 1),
        ({"@odata.context": "x", "value": [ONE, ONE]}, 2),
        ([ONE, ONE], 2),
        ({"data": [ONE], "externalId": "T"}, 1),
        ({"result": "ok", "lines": []}, 1),
    ],
    ids=str,
)
def test_case_3_a_list_an_object_and_a_wrapper_are_understood(answer: Any, count: int) -> None:
    found = orders.found(json.dumps(answer).encode())
    assert len(found) == count
    assert not found or count != 1 or found[0] in (ONE, answer)


def test_case_3_lines_are_never_taken_for_orders() -> None:
    for key in ("items", "lines", "orderLines"):
        assert orders.found(json.dumps({key: [1, 2]}).encode()) == [{key: ["1", "2"]}]


def test_case_3_the_operator_can_say_where_orders_are() -> None:
    answer = json.dumps({"payload": {"list": [ONE]}, "other": 1}).encode()
    assert orders.found(answer, "payload.list") == [ONE]
    with pytest.raises(ValueError, match="nothing at order_at"):
        orders.found(b"[]", "payload.list")


def test_case_3_more_than_one_order_is_for_a_person(normalize: Callable[..., Order]) -> None:
    with pytest.raises(Hold, match="there are 2 orders for one token") as raised:
        normalize([ONE, ONE])
    assert raised.value.order is None


# --- the canonical order


def test_case_13_money_is_exact_to_the_digit(normalize: Callable[..., Order]) -> None:
    document = FETCHED.replace(b'"total": 4999.95', b'"total": 12345678901234567.8900').replace(b"4999.95", b"0.10")
    order = normalize(document)
    assert (str(order.total), str(order.lines[0].unit_price)) == ("12345678901234567.8900", "0.10")


def test_case_14_letters_blanks_and_blank_countries(normalize: Callable[..., Order]) -> None:
    order = normalize(FETCHED)
    assert order.ship_to is not None
    assert (order.ship_to.name, order.ship_to.city) == ("Åse Sørensen-Ærø", "København N")
    assert (order.ship_to.street2, order.ship_to.country, order.ship_to.postal_code) == (None, None, "0999")
    assert order.references == {"order_token": TOKEN, "case_number": "CH99000042"}


def test_a_filled_claim_id_becomes_a_reference(normalize: Callable[..., Order]) -> None:
    case = {"number": "CH1", "externalClaimId": "K-77", "uuid": None}
    order = normalize(FETCHED, told(case=case))
    assert order.references == {"order_token": TOKEN, "case_number": "CH1", "claim_id": "K-77"}
    assert order.extra == {"case": {"number": "CH1", "externalClaimId": "K-77"}}


def test_what_the_mapping_says_stands_above_what_the_event_says(
    normalize: Callable[..., Order], tmp_path: Path, settings: Callable[..., Any]
) -> None:
    text = """{ "order_number": externalId, "references": {"case_number": "mine"}, "extra": {"x": 1},
                "lines": [lines.{"name": text, "quantity": quantity}] }"""
    (tmp_path / "m.jsonata").write_text(text)
    own = Mapping.from_reference("m.jsonata", tmp_path)
    order = normalize(FETCHED, mapping=own)
    assert order.references == {"case_number": "mine", "order_token": TOKEN}
    assert set(order.extra) == {"case", "x"}
    assert encode(normalize(FETCHED, AGAIN, order, mapping=own)) == encode(order)


@pytest.mark.parametrize(
    ("version", "flagged"), [("1.0.0", False), ("1.9", False), ("", False), (None, False), ("x", False), ("2.0.0", True), ("v3", True)]
)
def test_a_new_major_version_is_flagged(normalize: Callable[..., Order], version: Any, flagged: bool) -> None:
    order = normalize(FETCHED, told(payloadVersion=version))
    assert order.flags == (("new_payload_version",) if flagged else ())
    assert order.extra.get("payload_version") == (version if flagged else None)


def test_another_event_of_an_order_is_no_change_of_it(normalize: Callable[..., Order]) -> None:
    first = normalize(FETCHED, FIRST)
    assert encode(normalize(FETCHED, AGAIN, first)) == encode(first)
    assert normalize(FETCHED, told(payloadVersion="2.0.0"), first) == first
    flagged = normalize(FETCHED, told(payloadVersion="2.0.0"))
    assert normalize(FETCHED, AGAIN, flagged) == flagged
    assert normalize(FETCHED.replace(b"4999.95", b"4899.95"), AGAIN, first).total == Decimal("4899.95")


def test_a_document_that_the_mapping_does_not_fit_is_a_dead_letter(normalize: Callable[..., Order]) -> None:
    with pytest.raises(MappingError, match="there is no externalId"):
        normalize({"id": 1})
    with pytest.raises(MappingError, match=r"lines\[0\].quantity"):
        normalize({"externalId": "T", "lines": [{"text": "x", "quantity": "two"}]})


def test_an_order_without_lines_waits_for_a_person(normalize: Callable[..., Order]) -> None:
    with pytest.raises(Hold, match="leaves out what is needed: lines: missing") as raised:
        normalize({"externalId": "T"})
    assert raised.value.order is not None


def test_without_a_mapping_an_order_is_kept_as_the_sample_to_write_one_from(normalize: Callable[..., Order]) -> None:
    with pytest.raises(Hold, match="there is no mapping") as raised:
        normalize(FETCHED, mapping=None)
    assert raised.value.order is None


def test_a_saved_document_can_be_tried_without_its_event(normalize: Callable[..., Order]) -> None:
    order = normalize(FETCHED, None)
    assert (order.order_number, order.references, order.extra) == (TOKEN, {}, {})


def test_no_reason_holds_a_persons_data(normalize: Callable[..., Order]) -> None:
    reasons = []
    line = {"sku": "1", "text": "x", "quantity": 1}
    for fields in ({"createdAt": "Åse"}, {"total": "Åse"}, {"lines": [line | {"quantity": "Åse"}]}, {"deliverTo": {"name": {"Å": "Åse"}}}):
        with pytest.raises(MappingError) as raised:
            normalize({"externalId": "T", "lines": [line], **fields})
        reasons.append(str(raised.value))
    assert "Åse" not in " ".join(reasons)
