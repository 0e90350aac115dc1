"""The deliver step against an ERP that is as unkind as real ones: same key, same bytes, nothing overtakes, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import Any

import pytest

from gateway.plugin.incoming import incoming
from gateway.service.operations import Operation
from gateway.testing import ErpSimulator
from tests import acme

FAST = "retry = { base_s = 0.05, cap_s = 0.2 }\nbreaker = { failures = 1000 }\nread_timeout_s = 0.3"


def same_key_same_bytes(erp: ErpSimulator) -> bool:
    bodies: dict[str, set[bytes]] = {}
    for heard in erp.heard:
        bodies.setdefault(heard.key, set()).add(heard.body)
    return all(len(found) == 1 for found in bodies.values())


@pytest.mark.parametrize(
    ("fault", "more"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 502}),
        ("status", {"status": 503}),
        ("status", {"status": 504}),
        ("status", {"status": 408}),
        ("status", {"status": 425}),
        ("status", {"status": 429}),
        ("drop_before", {}),
        ("lose_answer", {}),
        ("reset", {}),
        ("half_answer", {}),
        ("slow", {"delay_s": 0.6}),
    ],
)
async def test_a_passing_failure_is_sent_again_under_the_same_key(start: Any, erp: ErpSimulator, fault: Any, more: dict[str, Any]) -> None:
    running = await start(erp.url, target=FAST)
    erp.arm(fault, times=2, **more)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: done(running, 1))
    await running.until(lambda: heard(erp, 3))  # a slow ERP takes the first ones after we have given them up
    assert list(erp.orders) == ["acme/o1/1"]
    assert same_key_same_bytes(erp)


async def done(running: Any, count: int) -> bool:
    return len(await running.rows("outbox", status="done")) == count


async def heard(erp: ErpSimulator, count: int) -> bool:
    return len(erp.heard) == count


async def dead(running: Any) -> bool:
    return bool(await running.rows("outbox", status="dead"))


async def test_already_there_is_success(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url)
    erp.arm("status", status=409)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: done(running, 1))
    (row,) = await running.rows("outbox")
    assert row["outcome"] == "duplicate"


@pytest.mark.parametrize("status", [400, 410, 415, 417, 422])
async def test_a_refusal_is_a_dead_letter_with_the_erps_words(start: Any, erp: ErpSimulator, status: int) -> None:
    running = await start(erp.url)
    erp.arm("status", status=status, body='{"error": "unknown customer"}')
    await running.deliver(acme.body("o1"))
    await running.until(lambda: dead(running))
    (row,) = await running.rows("outbox")
    assert row["outcome"] == "refused"
    assert str(status) in row["reason"]
    shown = await running.gateway._reader.show("acme/o1/1")
    assert shown[0]["tried"][0]["detail"] == '{"error": "unknown customer"}'


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405])
async def test_a_target_that_is_set_up_wrongly_is_held_and_loses_nothing(start: Any, erp: ErpSimulator, status: int) -> None:
    running = await start(erp.url, target="concurrency = 1")
    erp.arm("status", status=status, headers={"Location": "http://127.0.0.1:1/"})
    await running.deliver(acme.body("o1"))
    await running.until(lambda: is_held(running))
    await running.deliver(acme.body("o2"))
    ready, said = await running.get("/readyz")
    assert ready == 503
    assert str(status) in said["reasons"][0]["reason"]
    assert len(erp.heard) == 1
    running.gateway._runtime.deliver["erp"].release()
    await erp.wait_for(2)
    assert erp.sequence == ["acme/o1/1", "acme/o2/1"]
    assert (await running.get("/readyz"))[0] == 200


async def is_held(running: Any) -> bool:
    _, status = await running.get("/api/status")
    return bool(status["targets"]["erp"]["state"] == "paused")


async def test_a_changed_secret_opens_a_held_target(start: Any, tmp_path: Any) -> None:
    erp = ErpSimulator(token="new")
    await erp.start()
    (tmp_path / "token").write_text("old\n")
    running = await start(erp.url, target='auth = { kind = "bearer", token = { file = "token" } }')
    await running.deliver(acme.body("o1"))
    await running.until(lambda: is_held(running))
    (tmp_path / "token").write_text("new\n")
    await erp.wait_for(1)
    await running.stop()
    await erp.stop()


async def test_a_slower_pace_is_kept(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, target="concurrency = 1")
    erp.arm("status", status=429, headers={"Retry-After": "1"})
    began = time.monotonic()
    await running.deliver(acme.body("o1"))
    await running.deliver(acme.body("o2"))
    await erp.wait_for(2)
    assert time.monotonic() - began >= 1
    assert len(erp.heard) == 3
    rows = await running.rows("outbox")
    assert [row["attempts"] for row in rows] == [1, 1]


async def test_messages_of_one_order_stay_in_order_through_failures(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, target=FAST + "\nconcurrency = 8", source='on_revision = "send"')
    for fault in ("status", "lose_answer", "drop_before") * 4:
        erp.arm(fault)
    for quantity in range(1, 9):
        await running.deliver(acme.body("o1", quantity))
        await running.deliver(acme.body(f"p{quantity}"))
    await erp.wait_for(16)
    assert [key for key in erp.sequence if "/o1/" in key] == [f"acme/o1/{n}" for n in range(1, 9)]
    assert same_key_same_bytes(erp)


async def test_a_dead_order_does_not_stop_others(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, target="concurrency = 1")
    erp.arm("status", status=422, only="acme/o1/1", times=99)
    for n in range(5):
        await running.deliver(acme.body(f"o{n}"))
    await erp.wait_for(4)
    assert "acme/o1/1" not in erp.orders


async def test_no_more_than_the_concurrency_is_in_flight(start: Any, erp: ErpSimulator) -> None:
    flying, most = 0, 0
    original = erp._take

    async def counted(request: Any) -> Any:
        nonlocal flying, most
        flying, most = flying + 1, max(most, flying + 1)
        await asyncio.sleep(0.01)
        try:
            return await original(request)
        finally:
            flying -= 1

    erp._take = counted  # type: ignore[method-assign]
    await erp.stop()
    await erp.start()
    running = await start(erp.url, target="concurrency = 3")
    await asyncio.gather(*(running.deliver(acme.body(f"o{n}")) for n in range(40)))
    await erp.wait_for(40)
    assert most == 3


async def test_a_target_that_is_down_is_noticed_once_and_comes_back(
    start: Any, erp: ErpSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    await erp.stop()
    running = await start(
        erp.url, target="retry = { base_s = 0.02, cap_s = 0.2 }\nbreaker = { failures = 3, cooldown_s = 0.1 }\nconcurrency = 4"
    )
    for n in range(30):
        await running.deliver(acme.body(f"o{n}"))
    await running.until(lambda: is_down(running))
    await asyncio.sleep(0.5)
    tried = sum(row["attempts"] for row in await running.rows("outbox"))
    assert tried < 20, "a target that is down is hammered"
    await erp.start()
    await erp.wait_for(30)
    events = [record.getMessage() for record in caplog.records]
    assert (events.count("target.down"), events.count("target.up")) == (1, 1)
    assert (await running.get("/readyz"))[0] == 200


async def is_down(running: Any) -> bool:
    _, status = await running.get("/api/status")
    return bool(status["targets"]["erp"]["state"] == "down")


async def test_a_target_that_is_down_is_tried_at_once_when_somebody_releases_it(
    start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the breaker's pause nor the order's own is waited for."""
    monkeypatch.setattr("gateway.engine.deliver._RETRY_WITHIN_S", 0.1)
    await erp.stop()
    running = await start(
        erp.url, target="retry = { base_s = 600, cap_s = 900 }\nbreaker = { failures = 1, cooldown_s = 600 }\nconcurrency = 1"
    )
    await running.deliver(acme.body("o1"))
    await running.until(lambda: is_down(running))
    await running.until(lambda: waits(running))
    await erp.start()
    running.gateway._runtime.deliver["erp"].release()
    await erp.wait_for(1)
    assert (await running.get("/readyz"))[0] == 200


async def waits(running: Any) -> bool:
    return bool(await running.rows("outbox", status="ready"))


async def test_a_target_that_can_be_reached_again_is_tried_within_seconds_whatever_the_pause(
    start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is knocked at while nothing can be reached, and asked nothing; one order tries once the port opens."""
    monkeypatch.setattr("gateway.engine.batch_worker.Worker.poll_s", 0.1)
    await erp.stop()
    running = await start(
        erp.url, target="retry = { base_s = 600, cap_s = 900 }\nbreaker = { failures = 3, cooldown_s = 600 }\nconcurrency = 4"
    )
    for n in range(10):
        await running.deliver(acme.body(f"o{n}"))
    await running.until(lambda: is_down(running))
    await erp.start()
    await erp.wait_for(10)
    assert (await running.get("/readyz"))[0] == 200


async def test_a_port_that_opens_and_serves_nothing_is_left_to_the_breaker(
    start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.batch_worker.Worker.poll_s", 0.05)
    await erp.stop()
    running = await start(erp.url, target="retry = { base_s = 600, cap_s = 900 }\nbreaker = { failures = 2, cooldown_s = 600 }")
    for n in range(5):
        await running.deliver(acme.body(f"o{n}"))
    await running.until(lambda: is_down(running))
    erp.arm("drop_before", times=100)
    await erp.start()
    await running.until(lambda: one_more(running))
    tried = sum(row["attempts"] for row in await running.rows("outbox"))
    await asyncio.sleep(0.6)
    assert sum(row["attempts"] for row in await running.rows("outbox")) == tried
    assert await is_down(running)


async def one_more(running: Any) -> bool:
    """One of the orders has been answered by something."""
    return any("broke" in (row["reason"] or "") for row in await running.rows("outbox"))


async def test_a_slow_target_does_not_hold_up_another(start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.service.gateway.DRAIN_S", 0.2)
    slow = ErpSimulator()
    await slow.start()
    slow.arm("slow", delay_s=30, times=99)
    more = f'[targets.slow]\nurl = "{slow.url}"\nconcurrency = 1'
    running = await start(erp.url, more=more)
    for n in range(10):
        await running.deliver(acme.body(f"o{n}"))
    await erp.wait_for(10, timeout_s=20)
    assert slow.orders == {}
    await running.stop()
    await slow.stop()


async def test_what_cannot_be_delivered_for_too_long_waits_for_a_person(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url, target="retry = { base_s = 0.02, cap_s = 0.05, max_age_s = 0.3 }\nbreaker = { failures = 1000 }")
    erp.arm("status", times=10_000)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: dead(running))
    (row,) = await running.rows("outbox")
    assert row["outcome"] == "given_up"
    erp.disarm()
    await running.gateway._store.replay(["acme/o1/1"], "anna")
    await erp.wait_for(1)


async def test_a_shutdown_hands_back_what_is_in_flight(start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.service.gateway.DRAIN_S", 0.2)
    erp.arm("slow", delay_s=30)
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: heard_or_leased(running))
    began = time.monotonic()
    assert await running.stop() == 0
    assert time.monotonic() - began < 10
    again = await start(erp.url)
    await erp.wait_for(1)
    (row,) = await again.rows("outbox")
    assert row["attempts"] == 1
    assert same_key_same_bytes(erp)


async def heard_or_leased(running: Any) -> bool:
    return bool(await running.rows("outbox", status="leased"))


async def test_an_order_that_was_shut_down_in_flight_may_have_been_taken(
    start: Any, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `replace`, the version that may be in the ERP already is followed by a revision, not by another placed order."""
    monkeypatch.setattr("gateway.service.gateway.DRAIN_S", 0.2)
    erp.arm("slow", delay_s=30)
    running = await start(erp.url, source='on_revision = "replace"')
    await running.deliver(acme.body("o1"))
    await running.until(lambda: heard_or_leased(running))
    await running.stop()
    again = await start(erp.url, source='on_revision = "replace"')
    await again.deliver(acme.body("o1", 2))
    await erp.wait_for(2)
    assert [message["kind"] for message in erp.messages()] == ["order.placed", "order.revised"]


async def test_what_was_in_flight_when_a_target_was_held_changes_nothing_about_the_hold(start: Any, erp: ErpSimulator) -> None:
    """A failure opens the breaker, a success closes it: the target is held all the same, and says so until it is released."""
    answers: dict[str, asyncio.Future[int]] = {f"acme/o{n}/1": asyncio.get_running_loop().create_future() for n in (1, 2, 3)}
    asked: list[str] = []
    original = erp._take

    async def told(request: Any) -> Any:
        asked.append(key := request.headers["Idempotency-Key"])
        answer = answers.pop(key, None)
        if answer is not None and (status := await answer) != 200:
            erp.arm("status", status=status, only=key)
        return await original(request)

    erp._take = told  # type: ignore[method-assign]
    await erp.stop()
    await erp.start()
    first, second, third = answers.values()
    running = await start(erp.url, target="concurrency = 3\nretry = { base_s = 0.05, cap_s = 0.1 }\nbreaker = { failures = 1 }")
    for n in (1, 2, 3):
        await running.deliver(acme.body(f"o{n}"))
    await running.until(lambda: heard_by(asked, 3))
    first.set_result(401)
    await running.until(lambda: is_held(running))
    second.set_result(503)
    await running.until(lambda: failed_of(running, "acme/o2/1"))
    assert await is_held(running), "what was in flight failed"
    third.set_result(200)
    await running.until(lambda: done(running, 1))
    assert await is_held(running), "what was in flight was taken"
    ready, said = await running.get("/readyz")
    assert (ready, "401" in said["reasons"][0]["reason"]) == (503, True)
    assert len(asked) == 3
    running.gateway._runtime.deliver["erp"].release()
    await erp.wait_for(3)
    assert (await running.get("/readyz"))[0] == 200


async def heard_by(asked: list[str], count: int) -> bool:
    return len(asked) == count


async def failed_of(running: Any, key: str) -> bool:
    return any(row["outcome"] == "retry" for row in await running.rows("outbox") if row["key"] == key)


# --- what a person holds


async def hold(running: Any, reason: str = "stocktaking") -> None:
    await running.gateway._operations(Operation(action="target-hold", who="anna", name="erp", reason=reason))


async def test_a_hold_of_a_person_outlives_a_reload_and_a_restart_and_says_who_when_and_why(start: Any, erp: ErpSimulator) -> None:
    """Until a person releases it (case 24)."""
    running = await start(erp.url)
    await hold(running)
    _, before = await running.get("/api/status")
    for again in ("reload", "secrets", "restart"):
        if again == "reload":
            assert await running.gateway._reloads.outcome() == ()
        elif again == "secrets":
            running.gateway._runtime.secrets_changed()
        else:
            await running.stop()
            running = await start(erp.url)
        await running.deliver(acme.body(again))
        await running.until(lambda running=running: waits(running))
        _, status = await running.get("/api/status")
        said = status["targets"]["erp"]
        assert (said["state"], said["reason"][:37]) == ("paused", "paused by anna: stocktaking (since 20")
        assert said["since"] == before["targets"]["erp"]["since"]
        ready, answer = await running.get("/readyz")
        assert (ready, answer["reasons"]) == (503, [{"target": "erp", "reason": said["reason"]}])
        assert "paused by anna: stocktaking" in (await running.get("/"))[1]
        assert 'gateway_target_up{target="erp"} 0.0' in (await running.get("/metrics"))[1]
    assert erp.heard == []
    await running.gateway._operations(Operation(action="target-release", who="bert", name="erp"))
    await erp.wait_for(3)
    assert (await running.get("/readyz"))[0] == 200
    await running.stop()
    running = await start(erp.url)
    await running.deliver(acme.body("after"))
    await erp.wait_for(4)


async def test_a_hold_that_is_said_while_a_reload_is_under_way_holds(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url)
    reloaded = asyncio.create_task(running.gateway._reloads.outcome())
    await asyncio.sleep(0)
    await hold(running)
    assert await reloaded == ()
    await running.deliver(acme.body("o1"))
    await running.until(lambda: waits(running))
    assert await is_held(running)
    assert erp.heard == []


# --- whose rows wait for nobody


async def test_rows_of_a_target_that_is_configured_no_more_are_named_everywhere_until_they_are_moved(
    start: Any, erp: ErpSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log at a start and a reload, in status, readyz, the metrics and on the page, with how many there are (case 04)."""
    running = await start(erp.url)
    await hold(running)
    for n in range(3):
        await running.deliver(acme.body(f"o{n}"))
    await running.until(lambda: waits(running))
    running.config.write_text(running.config.read_text().replace("[targets.erp]", "[targets.new]"))
    assert await running.gateway._reloads.outcome() == ()
    (told,) = [record for record in caplog.records if record.getMessage() == "rows.stray"]
    assert "3 rows wait in the outbox for the target erp, which is not configured" in told.__dict__["reason"]
    ready, said = await running.get("/readyz")
    assert ready == 503
    assert [(one["target"], one["rows"]) for one in said["reasons"]] == [("erp", 3)]
    assert (await running.get("/api/status"))[1]["reasons"] == said["reasons"]
    assert "3 rows wait in the outbox for the target erp" in (await running.get("/"))[1]
    assert 'gateway_stray_rows{name="erp",queue="outbox"} 3.0' in (await running.get("/metrics"))[1]
    moved = await running.gateway._operations(Operation(action="target-move", who="anna", name="erp", to="new"))
    assert [one.problem for one in moved] == [None] * 3
    await erp.wait_for(3)
    assert (await running.get("/readyz"))[0] == 200
    assert "gateway_stray_rows{" not in (await running.get("/metrics"))[1]


async def test_rows_of_a_source_that_is_configured_no_more_are_named_as_well(start: Any, erp: ErpSimulator) -> None:
    running = await start(erp.url)
    event = acme.event(acme.body("o1"))
    await running.gateway._store.register(["gone"])
    await running.gateway._store.accept("gone", "webhook", incoming([event]))
    ready, said = await running.get("/readyz")
    assert (ready, said["reasons"][0]["source"], said["reasons"][0]["rows"]) == (503, "gone", 1)
    assert "Source gone, inbox" in (await running.get("/"))[1]


async def test_an_order_is_not_given_up_for_a_clock_that_has_just_jumped(start: Any, erp: ErpSimulator) -> None:
    """The jump is noticed within a second; an attempt that ends before that counts by the time that has really passed."""
    erp.arm("status", status=503, times=10**6)
    running = await start(erp.url, target="retry = { base_s = 0.05, cap_s = 0.2 }\nbreaker = { failures = 1000 }")
    await running.deliver(acme.body("o1"))
    await running.until(lambda: tried(running, 2))
    clock = running.gateway._clock
    now, now_ms = clock.now, clock.now_ms
    clock.now, clock.now_ms = lambda: now() + timedelta(days=200), lambda: now_ms() + 200 * 86_400_000
    await running.until(lambda: tried(running, 6))
    assert [row["status"] for row in await running.rows("outbox", status="dead")] == []
    erp.disarm()
    await erp.wait_for(1)


async def tried(running: Any, times: int) -> bool:
    return any(row["attempts"] >= times for row in await running.rows("outbox"))
