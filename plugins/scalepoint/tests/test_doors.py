"""Events through both doors into a real store, orders fetched, messages out. Numbers: vendors/scalepoint.md, 4."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from gateway_scalepoint.constructed import CATALOGUE, foreign
from gateway_scalepoint.simulator import Placed, ScalepointSimulator

from gateway import Secret
from gateway.testing import ManualClock

RETRY_S = (5, 15, 60, 300, 900)


def ref(one: Placed) -> str:
    return str(one.event["orderToken"]).lower()


async def test_an_event_becomes_the_order_that_its_token_names(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new(lines=[(0, 2)])
    status, answer = await made.webhook(one.event)
    assert (status, answer["status"]) == (200, "stored")
    (message,) = await made.sent()
    order = message["order"]
    assert (message["kind"], order["order_ref"], order["order_number"]) == ("order.placed", ref(one), one.order["externalId"])
    assert (order["total"], order["lines"][0]["line_total"], order["currency"]) == ("9999.90", "9999.90", "DKK")
    assert order["references"] == {"order_token": one.event["orderToken"], "case_number": one.event["case"]["number"]}
    assert message["occurred_at"] == "2024-03-31T12:00:00Z"


async def test_case_1_a_duplicate_webhook_is_one_row(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new()
    first = await made.webhook(one.event)
    assert await made.webhook(one.event) == first
    assert len(await made.sent()) == 1
    assert await made.webhook(one.event) == first
    assert await made.sent() == []
    assert len(simulator.asked) == len(await made.inbox()) == 1


async def test_case_1_another_correlation_id_is_the_same_order_fetched_again_and_compared(
    bench: Any, simulator: ScalepointSimulator
) -> None:
    made, one = await bench(), simulator.new()
    await made.webhook(one.event)
    assert len(await made.sent()) == 1
    assert (await made.webhook(simulator.again(one)))[0] == 200
    assert await made.sent() == []
    assert len(simulator.asked) == 2
    assert [(row["status"], row["outcome"]) for row in await made.inbox()] == [("done", "prepared"), ("done", "ignored")]


async def test_case_1_and_4_an_order_that_has_changed_since_waits_for_a_person(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new(lines=[(0, 1)])
    await made.webhook(one.event)
    await made.sent()
    simulator.change(one, lines=[(0, 3)])
    event = simulator.again(one)
    await made.webhook(event)
    assert await made.sent() == []
    (row,) = [row for row in await made.inbox() if row["status"] == "held"]
    (shown,) = await made.reader.show(row["key"])
    assert "line 1: 00417-1, quantity 1 -> 3" in shown["tried"][-1]["detail"]
    await made.store.release([row["key"].removeprefix("claims/")], "test")
    (message,) = await made.sent()
    assert (message["kind"], message["order"]["revision"], message["order"]["total"]) == ("order.revised", 2, "14999.85")
    # The changed order's event once more, through whichever door: nothing new.
    await made.webhook(event)
    simulator.publish(event)
    await made.poller.round()
    assert await made.sent() == []
    assert sum(path.startswith("/api/Orders") for path in simulator.asked) == 2
    assert len(await made.inbox()) == 2


async def test_case_4_what_was_fetched_is_stored_as_it_came_beside_its_event(bench: Any, simulator: ScalepointSimulator) -> None:
    """An order that changes between event and fetch is what it is when we fetch it, and what that was can be seen."""
    made, one = await bench(), simulator.new(lines=[(0, 1)])
    await made.webhook(one.event)
    simulator.change(one, lines=[(0, 2)])
    (message,) = await made.sent()
    assert message["order"]["lines"][0]["quantity"] == "2"
    row = await stored(made)
    assert row["document"] == msgspec.json.encode(one.event)
    assert row["fetched"] == one.body()
    assert b'"unitPrice":4999.95' in row["fetched"]


async def stored(made: Any) -> Any:
    """The one row of the inbox, bodies included."""

    def read(db: Any) -> Any:
        found = db.execute("SELECT document, fetched FROM inbox")
        return [dict(zip(("document", "fetched"), row, strict=True)) for row in found.fetchall()]

    (row,) = await made.store._run(read)
    return row


@pytest.mark.parametrize("absent", ["404", "empty"])
async def test_case_2_an_order_that_is_not_there_yet_is_asked_for_on_the_schedule(
    bench: Any, simulator: ScalepointSimulator, clock: ManualClock, absent: Any
) -> None:
    made, one = await bench(), simulator.new(late=6, absent=absent)
    await made.webhook(one.event)
    for tries, wait_s in enumerate([*RETRY_S, 900], start=1):
        assert await made.sent() == []
        assert len(simulator.asked) == tries
        clock.advance(wait_s - 0.1)
        assert await made.sent() == []
        assert len(simulator.asked) == tries
        clock.advance(0.2)
    assert [message["order"]["order_ref"] for message in await made.sent()] == [ref(one)]
    assert len(simulator.asked) == 7


async def test_case_2_after_a_day_it_is_held_and_a_release_asks_again(
    bench: Any, simulator: ScalepointSimulator, clock: ManualClock
) -> None:
    made, one = await bench(), simulator.new(late=1000)
    await made.webhook(one.event)
    for _ in range(110):
        assert await made.sent() == []
        clock.advance(900)
    (row,) = await made.inbox()
    assert (row["status"], row["outcome"]) == ("held", "given_up")
    assert "does not have the order yet (404)" in row["reason"]
    one.late = 0
    await made.store.release([row["key"].removeprefix("claims/")], "test")
    assert len(await made.sent()) == 1


async def test_the_schedule_and_its_end_are_settings(bench: Any, simulator: ScalepointSimulator, clock: ManualClock) -> None:
    made, one = await bench(fetch_retry_s=(1.0,), fetch_give_up_s=3.0), simulator.new(late=1000)
    await made.webhook(one.event)
    for _ in range(5):
        await made.sent()
        clock.advance(1)
    assert [row["status"] for row in await made.inbox()] == ["held"]


@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b'[{"externalId"', b"", b"[]"])
async def test_an_answer_that_is_no_order_yet_is_tried_again(
    bench: Any, simulator: ScalepointSimulator, clock: ManualClock, body: bytes
) -> None:
    made, one = await bench(), simulator.new()
    simulator.answer_next(200, body)
    await made.webhook(one.event)
    assert await made.sent() == []
    clock.advance(6)
    assert len(await made.sent()) == 1


@pytest.mark.parametrize(("status", "then"), [(500, "ready"), (503, "ready"), (429, "ready"), (403, "ready"), (400, "dead"), (302, "dead")])
async def test_other_answers_of_the_order_api(bench: Any, simulator: ScalepointSimulator, status: int, then: str) -> None:
    made, one = await bench(), simulator.new()
    simulator.answer_next(status)
    await made.webhook(one.event)
    assert await made.sent() == []
    assert [row["status"] for row in await made.inbox()] == [then]


async def test_case_3_more_than_one_order_for_a_token_waits_and_a_release_asks_again(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new(shape="two")
    await made.webhook(one.event)
    assert await made.sent() == []
    (row,) = await made.inbox()
    assert (row["status"], row["reason"][:35]) == ("held", "there are 2 orders for one token; a")
    one.shape = "wrapper"
    await made.store.release([row["key"].removeprefix("claims/")], "test")
    assert len(await made.sent()) == 1


@pytest.mark.parametrize("shape", ["list", "object", "wrapper"])
async def test_case_3_each_shape_makes_the_same_order(bench: Any, simulator: ScalepointSimulator, shape: Any) -> None:
    made, one = await bench(), simulator.new(shape=shape, lines=[(1, 1)])
    await made.webhook(one.event)
    (message,) = await made.sent()
    assert [line["article_number"] for line in message["order"]["lines"]] == [CATALOGUE[1][0]]


async def test_case_5_foreign_events_are_stored_ignored_and_answered_200(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    event = foreign("C0DE", simulator.now())
    first = await made.webhook(event)
    assert first[0] == 200
    assert await made.webhook(event) == first
    assert (await made.webhook(event | {"eventType": "case_settled"}))[0] == 200
    assert await made.sent() == []
    assert [(row["status"], row["outcome"]) for row in await made.inbox()] == [("done", "ignored")] * 2
    assert simulator.asked == []


async def test_case_6_two_orders_of_one_claim_are_two_orders(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    one, other = simulator.new(claim=7), simulator.new(claim=7)
    await made.webhook(one.event)
    await made.webhook(other.event)
    messages = await made.sent()
    assert [message["order"]["order_ref"] for message in messages] == [ref(one), ref(other)]
    assert len({message["order"]["references"]["case_number"] for message in messages}) == 1
    assert {message["kind"] for message in messages} == {"order.placed"}


async def test_the_token_goes_back_exactly_as_it_came(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new()
    await made.webhook(one.event)
    await made.webhook(simulator.again(one))
    await made.sent()
    token = one.event["orderToken"]
    assert token != token.lower()
    assert simulator.asked == [f"/api/Orders?ExternalId={token}", f"/api/Orders?ExternalId={token.lower()}"]


async def test_a_token_cannot_reach_another_address(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new()
    odd = "a/../b?x=1&y=2#z+ %2f{orderToken}æ"
    simulator.placed[odd.lower()] = one
    await made.webhook(one.event | {"orderToken": odd})
    assert len(await made.sent()) == 1
    assert len(simulator.asked) == 1


async def test_case_10_an_order_event_of_a_new_kind_and_the_first_one_make_one_order_in_any_order(
    bench: Any, simulator: ScalepointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    made = await bench(order_events=("order_created", "order_status"))
    for status_first in (True, False):
        one = simulator.new()
        events = [one.event | {"eventType": "order_status", "correlationId": "S"}, one.event]
        for event in events if status_first else events[::-1]:
            await made.webhook(event)
        assert [message["order"]["order_ref"] for message in await made.sent()] == [ref(one)]
    assert "event.flagged" not in caplog.messages


async def test_case_10_an_event_that_nobody_has_described_is_kept_under_its_order_and_told_once(
    bench: Any, simulator: ScalepointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    made, one = await bench(), simulator.new()
    early = one.event | {"eventType": "order_status"}
    for event in (early, early, one.event):
        assert (await made.webhook(event))[0] == 200
    assert [message["order"]["order_ref"] for message in await made.sent()] == [ref(one)]
    rows = {row["key"].split("/")[1]: row for row in await made.inbox()}
    assert (rows["orderstatus"]["status"], rows["orderstatus"]["outcome"]) == ("done", "flagged")
    assert rows["orderstatus"]["key"].split("/")[2] == ref(one)
    assert caplog.messages.count("event.flagged") == 1


async def test_case_15_a_body_over_the_limit_is_refused_before_it_is_read(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(), simulator.new()
    padded = one.event | {"x": "x" * 262144}
    assert (await made.webhook(padded))[0] == 413
    assert (await made.webhook(one.event | {"x": "x" * 200_000}))[0] == 200
    assert len(await made.inbox()) == 1


async def test_case_16_a_wrong_proof_is_a_401_without_detail_and_a_rise_is_logged(
    bench: Any, simulator: ScalepointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    made, one = await bench(), simulator.new()
    for _ in range(3):
        assert await made.webhook(one.event, "Bearer wrong") == (401, {"status": "unauthorized"})
    assert await made.inbox() == []
    assert caplog.messages.count("webhook.refused") == 1
    assert made.metrics.received.labels("claims", "webhook", "refused")._value.get() == 3


async def test_an_unreadable_webhook_is_kept_and_answered_200(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    status, answer = await made.webhook(b'{"eventType": "order_created"}')
    assert (status, answer["status"]) == (200, "unreadable")
    (row,) = await made.inbox()
    assert (row["status"], row["reason"]) == ("dead", "an order event without an orderToken")


async def test_without_a_mapping_the_first_order_is_the_sample_that_one_is_written_from(bench: Any, simulator: ScalepointSimulator) -> None:
    made, one = await bench(mapping=None), simulator.new()
    await made.webhook(one.event)
    assert await made.sent() == []
    (row,) = await made.inbox()
    assert row["status"] == "held"
    assert "there is no mapping" in row["reason"]
    assert (await stored(made))["fetched"] == one.body()


async def test_nothing_of_a_claim_or_a_person_is_in_the_log(
    bench: Any, simulator: ScalepointSimulator, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="gateway")
    made = await bench()
    orders = [simulator.new(), simulator.new(late=1), simulator.new(shape="two"), simulator.new(lines=[])]
    for one in orders:
        await made.webhook(one.event)
        simulator.publish(one.event | {"correlationId": "other"})
    await made.webhook(b'{"eventType": "order_created", "case": {"number": "CH99000001"}}')
    await made.webhook(foreign("C0DE", simulator.now()))
    await made.poller.round()
    for _ in range(3):
        await made.sent()
        clock.advance(100)
    said = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("gateway"))
    reasons = "\n".join(str(row["reason"]) for row in await made.inbox())
    for private in ("CH99", "Sørensen", "Nørrebrogade", "København", "c.0A1B", "constructed-secret"):
        assert private not in said
        assert private not in reasons


# --- signing in


async def test_case_7_invalid_client_is_explained_and_not_repeated(bench: Any, simulator: ScalepointSimulator, clock: ManualClock) -> None:
    made = await bench()
    simulator.identity.registered.clear()
    orders = [simulator.new() for _ in range(5)]
    for one in orders:
        await made.webhook(one.event)
    assert await made.sent() == []
    assert len(simulator.identity.forms) == 1
    reasons = {row["reason"] for row in await made.inbox()}
    (reason,) = reasons
    for words in (
        "invalid_client",
        "this machine's clock is wrong (unlikely: it differs by 0 s",
        "the endpoint expects another `aud`",
        "is not registered there",
    ):
        assert words in reason
    assert (await made.poller.round()) >= 900
    assert [row["status"] for row in await made.inbox()] == ["ready"] * 5


async def test_case_7_a_clock_that_is_wrong_is_told_by_how_much(bench: Any, simulator: ScalepointSimulator, clock: ManualClock) -> None:
    made, one = await bench(), simulator.new()
    clock.jump(600)
    simulator.now = ManualClock().now
    await made.webhook(one.event)
    await made.sent()
    (row,) = await made.inbox()
    assert "this machine's clock is wrong: it is 600 s ahead of the endpoint's, and an assertion lives 60 s" in row["reason"]


async def test_case_7_no_jti_is_used_twice(bench: Any, simulator: ScalepointSimulator) -> None:
    made = await bench()
    for _ in range(4):
        await made.webhook(simulator.new().event)
        simulator.identity.expire_tokens()
        assert len(await made.sent()) == 1
    assert len({form["client_assertion"] for form in simulator.identity.forms}) == len(simulator.identity.forms) == 4


async def test_case_8_a_new_pair_is_used_once_its_files_have_changed(bench: Any, simulator: ScalepointSimulator, pairs: Any) -> None:
    """First registered, then used: both certificates are good meanwhile."""
    made = await bench()
    settings = made.source.connector.settings
    await made.webhook(simulator.new().event)
    assert len(await made.sent()) == 1
    new = pairs("two")
    simulator.identity.registered[new.x5t] = new
    settings.private_key._text, settings.certificate._text = new.key, new.certificate
    made.source.client.reset()
    await made.webhook(simulator.new().event)
    assert len(await made.sent()) == 1
    del simulator.identity.registered[pairs("one").x5t]
    simulator.identity.expire_tokens()
    await made.webhook(simulator.new().event)
    assert len(await made.sent()) == 1


async def test_case_9_a_token_that_ran_out_is_renewed_early_or_after_one_401(
    bench: Any, simulator: ScalepointSimulator, clock: ManualClock
) -> None:
    made = await bench()
    for seconds, tokens in ((0, 1), (3500, 1), (41, 2)):
        clock.advance(seconds)
        await made.webhook(simulator.new().event)
        assert len(await made.sent()) == 1
        assert len(simulator.identity.forms) == tokens
    simulator.identity.expire_tokens()
    await made.webhook(simulator.new().event)
    assert len(await made.sent()) == 1
    assert len(simulator.identity.forms) == 3


async def test_an_account_with_a_client_secret_signs_in_with_that(bench: Any, simulator: ScalepointSimulator) -> None:
    simulator.identity.client_secret = "constructed-client-secret"
    made = await bench(client_auth="client_secret", client_secret=Secret("constructed-client-secret", origin="test"), private_key=None)
    await made.webhook(simulator.new().event)
    assert len(await made.sent()) == 1
    assert set(simulator.identity.forms[0]) == {"grant_type", "client_id", "client_secret", "scope"}
