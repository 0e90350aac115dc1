"""The state machine by itself. The numbers of the edge cases are those of vendors/pickup_cloud.md, 4."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from gateway_pickup_cloud.state import RANK, Change, Standing, advance, is_open, recall, remember
from hypothesis import given
from hypothesis import strategies as st

from gateway import Order, Status

AT = datetime(2024, 3, 31, 10, tzinfo=UTC)
DUE, NEXT, AFTER = (datetime(2024, 4, 1, tzinfo=UTC) + timedelta(days=28 * n) for n in range(3))


def said(status: Status, minutes: int | None = None, **article: Any) -> Change:
    return Change(status=status, changed_at=None if minutes is None else AT + timedelta(minutes=minutes), **article)


def of(status: Status, minutes: int | None = None, due: datetime | None = DUE, article: str = "A") -> Change:
    return said(status, minutes, article_id=article, due_at=due)


def after(*changes: Change, shown: Status | None = None) -> Standing:
    standing = Standing()
    for change in changes:
        standing, _, _ = advance(standing, [change], shown=shown)
    return standing


def why_not(standing: Standing, change: Change, shown: Status | None = None) -> str | None:
    _, news, against = advance(standing, [change], shown=shown)
    assert len(news) + len(against) == 1
    return against[0] if against else None


def articles(standing: Standing) -> list[tuple[str, datetime | None, str]]:
    return [(one.article_id, one.due_at, one.status) for one in standing.articles]


def test_case_2_a_newer_date_counts_and_an_older_one_does_not() -> None:
    standing = after(said("ready_for_pickup", 5))
    assert why_not(standing, said("picked_up", 6)) is None
    assert why_not(standing, said("ready_for_input", 6)) is None
    assert why_not(standing, said("picked_up", 4)) == "it is older than the change to ready_for_pickup"


@pytest.mark.parametrize("dates", [(None, None), (5, None), (None, 5), (5, 5)])
def test_case_2_by_rank_where_dates_do_not_tell(dates: tuple[int | None, int | None]) -> None:
    before, now = dates
    order: list[Status] = ["scheduled", "ready_for_input", "ready_for_pickup", "picked_up", "cancelled"]
    for a in order:
        for b in order:
            counts = why_not(after(said(a, before)), said(b, now)) is None
            assert counts == (RANK[b] > RANK[a])


def test_case_5_a_late_state_does_not_regress() -> None:
    standing = after(said("picked_up", 5), said("ready_for_pickup", -2))
    assert (standing.status, standing.changed_at) == ("picked_up", AT + timedelta(minutes=5))


@pytest.mark.parametrize("changes", list(permutations([said("ready_for_input", 1), said("ready_for_pickup", 2), said("picked_up", 3)])))
def test_case_5_the_newest_is_left_in_whatever_order_they_come(changes: tuple[Change, ...]) -> None:
    assert after(*changes).status == "picked_up"
    assert after(*(of(c.status, i) for i, c in enumerate(changes))).articles[0].status == changes[-1].status


def test_case_7_a_state_that_it_has_already_is_nothing_new() -> None:
    for minutes in (5, 6, None):
        assert why_not(after(said("picked_up", 5)), said("picked_up", minutes)) == "it is picked_up already"
    assert why_not(after(of("scheduled")), of("scheduled")) == "it is scheduled already"


def test_case_6_another_due_date_is_another_occurrence_and_the_order_stays_as_it_is() -> None:
    standing = after(said("picked_up", 5), of("picked_up", 5), of("scheduled", due=NEXT))
    assert standing.status == "picked_up"
    assert articles(standing) == [("A", DUE, "picked_up"), ("A", NEXT, "scheduled")]
    assert standing.recurrent


def test_case_6_an_order_that_was_picked_up_opens_again_where_the_vendor_shows_it_so() -> None:
    standing = after(said("scheduled"), said("picked_up", 5))
    assert why_not(standing, said("scheduled"), shown="scheduled") is None
    assert why_not(standing, said("ready_for_input"), shown="ready_for_pickup") is None
    assert why_not(standing, said("ready_for_input", 28 * 1440), shown=None) is None
    assert why_not(standing, said("scheduled"), shown="picked_up") == "scheduled comes before picked_up"
    assert why_not(standing, said("scheduled"), shown=None) == "scheduled comes before picked_up"
    assert why_not(after(said("cancelled", 5)), said("scheduled"), shown="scheduled") == "scheduled comes before cancelled"


def test_case_6_of_what_is_over_only_the_last_of_each_article_stays() -> None:
    changes = [
        of("picked_up", 1),
        of("scheduled", due=NEXT),
        of("picked_up", 2, NEXT),
        of("scheduled", due=AFTER),
        of("cancelled", 3, None, "B"),
    ]
    assert articles(after(*changes[:2])) == [("A", DUE, "picked_up"), ("A", NEXT, "scheduled")]
    standing = after(*changes)
    assert articles(standing) == [("A", NEXT, "picked_up"), ("A", AFTER, "scheduled"), ("B", None, "cancelled")]
    assert why_not(standing, of("ready_for_pickup", 0)) == "a later due date of the article is over already"
    assert why_not(standing, of("picked_up", 9)) == "a later due date of the article is over already"
    assert why_not(standing, of("picked_up", 9, AFTER)) is None
    assert why_not(standing, of("scheduled", due=None)) is None


def test_case_6_a_daily_order_of_a_year_stays_small() -> None:
    days = [DUE + timedelta(days=n) for n in range(365)]
    standing = after(*(of(status, n, due=day) for n, day in enumerate(days) for status in ("scheduled", "picked_up")))
    assert articles(standing) == [("A", days[-1], "picked_up")]


def test_case_6_an_interval_that_was_missed_stays_open_beside_the_next() -> None:
    standing = after(of("ready_for_pickup", 1), of("picked_up", 2, NEXT))
    assert articles(standing) == [("A", DUE, "ready_for_pickup"), ("A", NEXT, "picked_up")]


def test_case_8_orders_and_articles_are_not_derived_from_one_another() -> None:
    standing = after(said("ready_for_input", 1), of("picked_up", 2), of("ready_for_pickup", 2, article="B"))
    assert standing.status == "ready_for_input"
    standing = advance(standing, [said("cancelled", 3)], shown=None)[0]
    assert [status for _, _, status in articles(standing)] == ["picked_up", "ready_for_pickup"]


def test_what_is_not_said_again_is_still_known() -> None:
    standing = after(said("scheduled", article_id="A", quantity=Decimal(2)), of("ready_for_input", 1, None))
    assert [(one.status, one.quantity) for one in standing.articles] == [("ready_for_input", 2)]


def test_a_standing_survives_the_message_it_is_written_into() -> None:
    standing = after(said("picked_up", 5), of("picked_up", 5), of("scheduled", due=NEXT), of("ready_for_input", 1, None, "B"))
    assert recall(Order(status="picked_up", extra=remember(standing))) == standing
    assert recall(Order(status="placed")) == Standing(status="placed")
    assert recall(Order(status="placed", extra={"articles": "of another version"})) == Standing(status="placed")
    assert recall(None) == Standing()


@pytest.mark.parametrize(
    ("changes", "is_it"),
    [
        ([said("ready_for_input", 1)], True),
        ([said("ready_for_pickup", 1)], True),
        ([said("picked_up", 1)], False),
        ([said("cancelled", 1)], False),
        ([said("scheduled"), said("picked_up", 1)], True),
        ([said("scheduled"), said("cancelled", 1)], False),
        ([said("picked_up", 1), of("scheduled")], True),
        ([said("picked_up", 1), of("ready_for_input", 1), of("ready_for_input", 1, NEXT)], True),
        ([said("picked_up", 1), of("ready_for_pickup", 1)], False),
    ],
)
def test_one_time_orders_end_with_the_pick_up_and_recurrent_ones_when_cancelled(changes: list[Change], is_it: bool) -> None:
    standing = after(*changes)
    assert is_open(Order(status=standing.status or "placed", extra=remember(standing))) is is_it


STATUSES = st.sampled_from([status for status in RANK if status != "placed"])
CHANGES = st.builds(
    said, STATUSES, st.none() | st.integers(0, 50), article_id=st.none() | st.sampled_from("AB"), due_at=st.sampled_from([None, DUE, NEXT])
)


@given(st.lists(CHANGES, max_size=12), st.none() | STATUSES)
def test_whatever_comes_a_date_never_goes_back_and_a_repeat_says_nothing(changes: list[Change], shown: Status | None) -> None:
    standing = Standing()
    for change in changes:
        before = standing
        standing, news, against = advance(before, [change], shown=shown)
        if not news:
            assert against
            assert standing.articles == before.articles
        if change.article_id is None and news and before.changed_at and change.changed_at:
            assert change.changed_at >= before.changed_at
        if news and standing.occurrence(change) is not None:
            assert advance(standing, [change], shown=shown)[1] == []
        assert recall(Order(status=standing.status or "placed", extra=remember(standing))).articles == standing.articles
