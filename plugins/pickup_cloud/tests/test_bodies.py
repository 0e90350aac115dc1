"""Bodies of commands: the vendor's fields and rules (seed 001), and the vendor's own example requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_pickup_cloud.bodies import NewRecurrentOrder, local_day
from gateway_pickup_cloud.constructed import CUSTOMER, SELF_REGISTERED, article

from gateway.plugin.connector import Connector

SEED = Path(__file__).parents[4] / "shared" / "seeds" / "001_91f8ceee032b3ee1.txt"
EXAMPLES = (Path(__file__).parent / "vendor_examples.txt").read_text("utf-8")
NOON = datetime(2024, 3, 31, 12, 0, tzinfo=UTC)
ONCE = {"orderNumber": "A-1", "articles": [article(0, 2)]}
AGAIN = {
    "orderNumber": "R-1",
    "articles": [article(2, 1, interval=28)],
    "startDate": "2024-03-31T00:00:00",
    "endDate": "2024-12-31T00:00:00",
}


@pytest.fixture
def problems(settings: Any, connector: Any) -> Callable[..., list[tuple[str, str]]]:
    """`problems("create_order", body)`: path and text, as the door would find them one after the other."""

    def find(command: str, body: dict[str, Any], now: datetime = NOON, **changes: Any) -> list[tuple[str, str]]:
        made: Connector = connector(settings(**{"on_behalf_of_path": "api/x"} | changes))
        described = made.commands()[command]
        try:
            decoded = msgspec.json.decode(json.dumps(body), type=described.body)
        except msgspec.ValidationError as error:
            said, _, path = str(error).partition(" - at `")
            return [(path.rstrip("`") or "$", said)]
        assert described.check is not None
        return list(described.check(decoded, made.settings, now))

    return find


def with_article(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return body | {"articles": [{k: v for k, v in (body["articles"][0] | changes).items() if v is not ...}]}


@pytest.mark.parametrize(
    "body",
    [
        ONCE,
        ONCE | {"relatedNotes": None, "dosageInformation": None, "customerDetails": None},
        ONCE | {"relatedNotes": "", "dosageInformation": "", "customerDetails": {}},
        ONCE | {"customerSelfRegistration": True, "customerDetails": dict.fromkeys(CUSTOMER, "")},
        ONCE | {"customerSelfRegistration": True, "customerDetails": dict.fromkeys(CUSTOMER)},
        ONCE | {"customerSelfRegistration": True, "customerDetails": SELF_REGISTERED, "sendCustomerPickupMail": True},
        ONCE | {"customerDetails": CUSTOMER, "relatedNotes": "$fail"},
        ONCE | {"orderNumber": "WEB/2024 00042#ä?%", "articles": [article(0), article(0)]},
        ONCE | {"orderNumber": "9" * 200},
        with_article(ONCE, name=None, quantityOrdered=2**31 - 1),
        with_article(ONCE, name=...),
    ],
)
def test_what_the_pages_allow_is_allowed(problems: Any, body: dict[str, Any]) -> None:
    assert problems("create_order", body) == []
    assert problems("create_order_on_behalf_of", body | {"origin": "o", "originOrderNumber": "n"}) == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (with_article(ONCE, quantityOrdered=0), "$.articles[0].quantityOrdered"),
        (with_article(ONCE, quantityOrdered=-1), "$.articles[0].quantityOrdered"),
        (with_article(ONCE, quantityOrdered=2**31), "$.articles[0].quantityOrdered"),
        (with_article(ONCE, quantityOrdered=1.5), "$.articles[0].quantityOrdered"),
        (with_article(ONCE, quantityOrdered="1"), "$.articles[0].quantityOrdered"),
        (with_article(ONCE, quantityOrdered=...), "$.articles[0]"),
        (with_article(ONCE, scanCode=""), "$.articles[0].scanCode"),
        (with_article(ONCE, scanCode=5948912001188), "$.articles[0].scanCode"),
        (with_article(ONCE, interval=3), "$.articles[0]"),
        (with_article(ONCE, name="a\0b"), "$.articles[0].name"),
        (ONCE | {"articles": []}, "$.articles"),
        (ONCE | {"articles": None}, "$.articles"),
        (ONCE | {"orderNumber": ""}, "$.orderNumber"),
        (ONCE | {"orderNumber": " "}, "$.orderNumber"),
        (ONCE | {"orderNumber": "."}, "$.orderNumber"),
        (ONCE | {"orderNumber": ".."}, "$.orderNumber"),
        (ONCE | {"orderNumber": "a\nb"}, "$.orderNumber"),
        (ONCE | {"orderNumber": "a\0"}, "$.orderNumber"),
        (ONCE | {"orderNumber": "9" * 201}, "$.orderNumber"),
        (ONCE | {"orderNumber": 42}, "$.orderNumber"),
        (ONCE | {"ordernumber": "A-1"}, "$"),
        (ONCE | {"startDate": "2024-04-01T00:00:00"}, "$"),
        (ONCE | {"sendCustomerPickupMail": "yes"}, "$.sendCustomerPickupMail"),
        (ONCE | {"customerDetails": {"fullname": "x"}}, "$.customerDetails"),
        (ONCE | {"relatedNotes": "x" * 10_001}, "$.relatedNotes"),
        (ONCE | {"origin": "shop"}, "$"),
    ],
)
def test_what_cannot_be_an_order_is_named_by_its_path(problems: Any, body: dict[str, Any], path: str) -> None:
    assert [where for where, _ in problems("create_order", body)] == [path]


@pytest.mark.parametrize("missing", ["origin", "originOrderNumber", "orderNumber", "articles"])
def test_an_order_for_others_names_them(problems: Any, missing: str) -> None:
    body = ONCE | {"origin": "o", "originOrderNumber": "n"}
    del body[missing]
    assert problems("create_order_on_behalf_of", body) == [("$", f"Object missing required field `{missing}`")]


@pytest.mark.parametrize("interval", [1, 28, 99])
def test_an_interval_is_1_to_99_days(problems: Any, interval: int) -> None:
    assert problems("create_recurrent_order", with_article(AGAIN, interval=interval)) == []


@pytest.mark.parametrize("interval", [0, -1, 100, 1.5, "28", None, ...])
def test_any_other_interval_is_refused(problems: Any, interval: Any) -> None:
    (problem,) = problems("create_recurrent_order", with_article(AGAIN, interval=interval))
    assert problem[0].startswith("$.articles[0]")


@pytest.mark.parametrize(
    ("now", "zone", "start", "end", "wrong"),
    [
        ("2024-03-31T12:00:00Z", "Europe/Berlin", "2024-03-31T00:00:00", "2024-04-01T00:00:00", []),
        ("2024-03-31T12:00:00Z", "Europe/Berlin", "2024-03-30T23:59:59", "2024-04-01T00:00:00", ["$.startDate"]),
        ("2024-03-31T12:00:00Z", "Europe/Berlin", "2024-03-31T00:00:00", "2024-03-31T23:59:59", ["$.endDate"]),
        ("2024-03-31T12:00:00Z", "Europe/Berlin", "2024-03-30T00:00:00", "2024-03-31T00:00:00", ["$.startDate", "$.endDate"]),
        ("2024-03-31T12:00:00Z", "Europe/Berlin", "2024-05-02T00:00:00", "2024-05-01T00:00:00", ["$.endDate"]),
        # A quarter to midnight in UTC is the next day in Berlin, and still the same in New York.
        ("2024-03-31T23:45:00Z", "Europe/Berlin", "2024-03-31T00:00:00", "2024-04-02T00:00:00", ["$.startDate"]),
        ("2024-03-31T23:45:00Z", "Europe/Berlin", "2024-04-01T00:00:00", "2024-04-01T00:00:00", ["$.endDate"]),
        ("2024-03-31T23:45:00Z", "UTC", "2024-03-31T00:00:00", "2024-04-01T00:00:00", []),
        ("2024-04-01T03:45:00Z", "America/New_York", "2024-03-31T00:00:00", "2024-04-01T00:00:00", []),
        ("2024-04-01T03:45:00Z", "Europe/Berlin", "2024-03-31T00:00:00", "2024-04-02T00:00:00", ["$.startDate"]),
    ],
)
def test_today_is_the_pharmacys(problems: Any, now: str, zone: str, start: str, end: str, wrong: list[str]) -> None:
    body = AGAIN | {"startDate": start, "endDate": end}
    found = problems("create_recurrent_order", body, datetime.fromisoformat(now), time_zone=zone)
    assert [path for path, _ in found] == wrong
    assert all(zone in text or "before startDate" in text for _, text in found)


@pytest.mark.parametrize(
    "text", ["2024-04-01T00:00:00Z", "2024-04-01T00:00:00+02:00", "2024-04-01T00:00:00.0000000+0200", "2024-04-01T00:00:00z"]
)
def test_a_date_with_an_offset_is_refused_in_so_many_words(problems: Any, text: str) -> None:
    (problem,) = problems("create_recurrent_order", AGAIN | {"endDate": text})
    assert problem[0] == "$.endDate"
    assert "without Z or an offset" in problem[1]
    assert "Europe/Berlin" in problem[1]


@pytest.mark.parametrize("text", ["2024-04-01", "01.04.2024", "soon", "2024-02-30T00:00:00", "2024-04-01T25:00:00", "٢٠٢٤-04-01T00:00:00"])
def test_what_is_no_local_date_is_refused(problems: Any, text: str) -> None:
    assert [path for path, _ in problems("create_recurrent_order", AGAIN | {"endDate": text})] == ["$.endDate"]


def test_dates_are_sent_as_they_came() -> None:
    text = "2024-03-31T02:30:00.1234567"  # a time that the clocks in Berlin skip that night
    body = msgspec.convert(AGAIN | {"startDate": text}, NewRecurrentOrder)
    assert json.loads(msgspec.json.encode(body))["startDate"] == text
    assert not isinstance(local_day(text), str)


# --- the vendor's own examples


def test_the_vendors_example_is_right_on_its_day_and_past_on_any_later_one(problems: Any, example: str) -> None:
    body = json.loads(example)
    assert problems("create_recurrent_order", body, datetime.fromisoformat(f"{body['startDate'][:10]}T12:00:00Z")) == []
    assert [path for path, _ in problems("create_recurrent_order", body)] == ["$.startDate", "$.endDate"]


def test_the_examples_are_the_vendors_word_for_word(example: str) -> None:
    assert example in (EXAMPLES if not SEED.exists() else SEED.read_text("utf-8"))
