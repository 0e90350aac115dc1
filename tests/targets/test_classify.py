"""What an ERP's answer means: the table of CONTRACT section 5, status by status."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.answer import Answer, date_of
from gateway.targets.classify import classify, classify_unkeyed

NOW = datetime(2024, 3, 31, 12, tzinfo=UTC)


def said(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


TABLE = {
    "delivered": (200, 201, 202, 204, 299),
    "duplicate": (409,),
    "throttled": (429,),
    "retry": (408, 425, 500, 501, 502, 503, 504, 599, 999),
    "paused": (100, 199, 300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405),
    "refused": (400, 402, 406, 410, 411, 412, 413, 415, 418, 422, 423, 424, 426, 428, 431, 451),
}


@pytest.mark.parametrize(("status", "meaning"), [(status, meaning) for meaning, statuses in TABLE.items() for status in statuses])
def test_every_status_has_one_meaning(status: int, meaning: str) -> None:
    outcome = classify(said(status), NOW)
    assert (outcome.meaning, outcome.http_status) == (meaning, status)
    assert str(status) in outcome.reason or meaning in ("delivered", "duplicate")


@given(st.integers(100, 999), st.binary(max_size=50), st.text(max_size=20))
def test_no_answer_breaks_it(status: int, body: bytes, wait: str) -> None:
    outcome = classify(said(status, body, retry_after=wait), NOW)
    assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 86400


@pytest.mark.parametrize(
    ("status", "waits"), [(429, 7), (503, 7), (500, None), (502, None), (408, None), (422, None), (401, None), (200, None)]
)
def test_retry_after_is_honoured_where_the_contract_says(status: int, waits: float | None) -> None:
    assert classify(said(status, retry_after="7"), NOW).retry_after_s == waits


@pytest.mark.parametrize(
    ("status", "maybe"),
    [(408, True), (500, True), (502, True), (503, True), (504, True), (425, False), (429, False), (422, False), (401, False)],
)
def test_after_which_answers_the_order_may_be_there(status: int, maybe: bool) -> None:
    assert classify(said(status), NOW).maybe_delivered == maybe


@pytest.mark.parametrize(
    ("status", "unwell"),
    [(500, True), (503, True), (408, True), (425, False), (429, False), (401, False), (422, False), (409, False), (200, False)],
)
def test_which_answers_speak_of_the_target_as_a_whole(status: int, unwell: bool) -> None:
    assert classify(said(status), NOW).unwell == unwell


@pytest.mark.parametrize(("status", "advice"), [(401, "credentials"), (403, "may do"), (404, "url"), (302, "redirects are not followed")])
def test_a_hold_says_what_to_check(status: int, advice: str) -> None:
    assert advice in classify(said(status), NOW).reason


def test_the_answers_own_words_are_bounded_and_kept_apart() -> None:
    outcome = classify(said(422, b"Jane Doe has no credit \xff" + b"x" * 100_000), NOW)
    assert outcome.detail is not None
    assert outcome.detail.startswith("Jane Doe has no credit \ufffd")
    assert len(outcome.detail) == 2000
    assert "Jane" not in outcome.reason


UNREADABLE = [
    "Tue, 01 Dec 2026 09:02:00 +99999999999999",
    "Tue, 01 Dec 2026 09:02:00 -99999999999999",
    "Tue, 01 Dec 99999 09:02:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Tue, 32 Dec 2026 25:61:61 GMT",
    "1e9",
    "-5",
    "\u0661\u0662",
    "soon",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_header_that_cannot_be_read_says_nothing(text: str) -> None:
    """A 200 is delivered whatever its headers are (case 32)."""
    for status, meaning in ((200, "delivered"), (400, "refused"), (429, "throttled"), (503, "retry")):
        answer = said(status, retry_after=text, date=text)
        assert (classify(answer, NOW).meaning, classify(answer, NOW).retry_after_s) == (meaning, None)
    unkeyed = classify_unkeyed(said(429, x_ratelimit_reset=text), NOW, creates=True, can_look=True)
    assert unkeyed is not None
    assert unkeyed.retry_after_s is None
    assert date_of({"date": text}) is None


@pytest.mark.parametrize("reset", ["60", str(int(NOW.timestamp()) + 60), str(int(NOW.timestamp() + 60) * 1000)])
def test_a_rate_that_begins_anew_is_told_in_seconds_or_as_an_instant(reset: str) -> None:
    outcome = classify_unkeyed(said(429, x_ratelimit_reset=reset), NOW, creates=True, can_look=True)
    assert outcome is not None
    assert outcome.retry_after_s == 60


def test_an_empty_answer_has_no_words() -> None:
    assert classify(said(204), NOW).detail is None
