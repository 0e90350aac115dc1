"""A target that was away, or answered as if it were set up wrongly, is tried again by itself, and says when (issue 12, point 5)."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import StoreBusy, StoreError
from gateway.api.secrets import Secret
from gateway.engine import deliver as deliver_module
from gateway.engine.batch_worker import BatchWorker
from gateway.engine.breaker import Breaker
from gateway.health import Condition
from gateway.retry import capped_retry_after_s
from gateway.store.outcome import Settlement
from gateway.store.targets import PausedTarget
from gateway.targets.auth_settings import Basic, Bearer, ClientCredentials, Login
from gateway.targets.classify import Outcome
from gateway.targets.templates import Template

from .unkeyed import LOOKUP, Desk, desk

KEYED = "retry = { base_s = 2, cap_s = 900 }"
SECRET = Secret("constructed-secret", origin="test")
IN_ENV = {"env": "MENDING_SECRET"}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENDING_SECRET", "constructed-secret")


def condition(made: Desk) -> Condition:
    return made.metrics.health.targets["erp"]


def waits_s(made: Desk) -> float | None:
    """Until it is tried again, as people are told."""
    at = condition(made).next_at
    return None if at is None else (at - made.clock.now()).total_seconds()


# --- what looks like a wrong set-up


@pytest.mark.parametrize("status", [302, 404, 405, 401, 403])
async def test_one_answer_that_speaks_of_the_set_up_stops_it_for_half_a_minute(tmp_path: Path, status: int) -> None:
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=status)
        for n in range(3):
            await made.order(f"o{n}")
        await made.run_once(limit=1)
        assert (condition(made).state, waits_s(made)) == ("paused", 30)
        await made.pass_time(25, 5)
        assert len(made.erp.heard) == 1
        await made.pass_time(10, 5)
        await made.pass_time(10, 5)
        assert condition(made).state == "up"
        assert {row["status"] for row in (await made.rows()).values()} == {"done"}


@pytest.mark.parametrize("text", [KEYED, LOOKUP])
@pytest.mark.parametrize("stops", ["answer", "person"])
async def test_what_is_leased_while_it_is_stopped_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: str, text: str
) -> None:
    """Else its 401 would count as that of the first retry, and the next one would come in an hour, or never."""
    async with desk(tmp_path, text) as made:
        await made.order("o1")
        lease = made.store.lease_outbox

        async def meanwhile(*given: Any, **more: Any) -> Any:
            rows = await lease(*given, **more)
            if stops == "person":
                made.deliver.health.pause(PausedTarget(target="erp", who="anna", at=made.clock.now()))
            else:
                made.deliver.health.refuse(Outcome(meaning="paused", reason="the target answers 401"), 0, 0.0)
            return rows

        monkeypatch.setattr(made.store, "lease_outbox", meanwhile)
        await made.run_once()
        monkeypatch.undo()
        assert (made.erp.heard, await made.state("o1")) == ([], ("ready", "handed_back"))
        assert (await made.rows())["acme/o1/1"]["attempts"] == 0
        assert waits_s(made) == (None if stops == "person" else 30)
        made.deliver.release(person=True)
        await made.run_once()
        assert await made.state("o1") == ("done", "delivered")


async def test_it_is_tried_with_one_order_at_a_time_and_more_and_more_seldom(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=404, times=1000)
        for n in range(20):
            await made.order(f"o{n}")
        await made.run_once(limit=1)
        pauses = []
        for _ in range(7):
            assert made.deliver._allowance() == 0
            pauses.append(waits_s(made))
            made.clock.advance(pauses[-1] or 0)
            heard = len(made.erp.heard)
            assert made.deliver._allowance() == 1
            await made.run_once()
            assert len(made.erp.heard) == heard + 1
        assert pauses == [30, 60, 120, 240, 480, 600, 600]
        assert len({heard.key for heard in made.erp.heard}) == 8, "each time another order"


async def test_where_there_is_a_look_up_it_is_tried_with_that(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        made.erp.arm("status", status=404, times=2, on="look")
        await made.order("o1")
        await made.run_once()
        made.clock.advance(30)
        await made.run_once()
        assert (made.erp.heard, condition(made).state, waits_s(made)) == ([], "paused", 60)
        made.clock.advance(60)
        await made.run_once()
        assert await made.state() == ("done", "delivered")


async def test_an_order_that_the_target_alone_answers_so_is_held_and_the_others_go(tmp_path: Path) -> None:
    """One order with an address of its own that the ERP does not know may not stop all others every half a minute."""
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=404, times=1000, only="acme/odd/1")
        await made.order("odd")
        for n in range(12):
            await made.order(f"o{n}")
            await made.run_once()
            made.clock.advance(31)
            await made.run_once()
        assert await made.state("odd") == ("held", "held")
        assert "of this order alone" in (await made.row("odd"))["reason"]
        await made.pass_time(60)
        assert condition(made).state == "up"
        assert [row["key"] for row in (await made.rows()).values() if row["status"] != "done"] == ["acme/odd/1"]


# --- credentials

OAUTH = ClientCredentials(token_url="http://127.0.0.1:1/t", client_id="c", client_secret=SECRET)  # type: ignore[arg-type]
ASSERTION = ClientCredentials(token_url="http://127.0.0.1:1/t", client_id="c", client_auth="private_key_jwt", private_key=SECRET)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        (Bearer(token=SECRET), "token"),
        (ASSERTION, "token"),
        (Basic(username="u", password=SECRET), "password"),
        (OAUTH, "password"),
        (Login(url=Template("http://127.0.0.1:1/login")), "password"),
    ],
)
def test_what_a_refusal_puts_at_risk(auth: Any, kind: str) -> None:
    from gateway.targets.settings import TargetSettings

    assert TargetSettings(url="http://127.0.0.1:1/o", auth=auth).credentials == kind  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_tried_soon_and_then_once_an_hour(tmp_path: Path, status: int) -> None:
    async with desk(tmp_path, KEYED, auth={"kind": "bearer", "token": IN_ENV}) as made:
        made.erp.arm("status", status=status, times=4)
        await made.order("o1")
        await made.run_once()
        pauses = [waits_s(made)]
        for _ in range(3):
            made.clock.advance(pauses[-1] or 0)
            await made.run_once()
            pauses.append(waits_s(made))
        assert (pauses, len(made.erp.heard)) == ([30, 3600, 3600, 3600], 4)
        made.clock.advance(3600)
        await made.run_once()
        assert (await made.state(), condition(made).state) == (("done", "delivered"), "up")


async def test_a_refused_password_is_tried_once_more_and_then_not_before_a_person_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED, auth={"kind": "basic", "username": "u", "password": IN_ENV}) as made:
        made.erp.arm("status", status=401, times=1000)
        await made.order("o1")
        await made.run_once()
        assert waits_s(made) == 30
        made.clock.advance(30)
        await made.run_once()
        assert (condition(made).state, waits_s(made), len(made.erp.heard)) == ("paused", None, 2)
        assert "locked" in (condition(made).reason or "")
        await made.pass_time(86400, 3600)
        assert len(made.erp.heard) == 2
        made.erp.disarm()
        made.deliver.release()
        await made.run_once()
        assert await made.state() == ("done", "delivered")


async def test_a_password_that_may_be_tried_once_is_tried_once(tmp_path: Path) -> None:
    auth = {"kind": "basic", "username": "u", "password": IN_ENV}
    async with desk(tmp_path, KEYED, auth=auth, max_consecutive_auth_failures=1) as made:
        made.erp.arm("status", status=401, times=1000)
        await made.order("o1")
        await made.pass_time(7200, 60)
        assert (len(made.erp.heard), waits_s(made)) == (1, None)


async def test_a_password_that_was_accepted_before_outlives_a_firewall(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED, auth={"kind": "basic", "username": "u", "password": IN_ENV}) as made:
        await made.order("o1")
        await made.run_once()
        for status in (401, 403):
            made.erp.arm("status", status=status)
            await made.order(f"after-{status}")
            await made.run_once()
            assert condition(made).state == "paused"
            made.clock.advance(30)
            await made.run_once()
            assert await made.state(f"after-{status}") == ("done", "delivered")


# --- away


@pytest.mark.parametrize("text", [KEYED, LOOKUP])
async def test_after_hours_of_outage_everything_goes_within_half_a_minute(tmp_path: Path, text: str) -> None:
    """However late each order's own next try would be."""
    async with desk(tmp_path, text) as made:
        await made.erp.stop()
        for n in range(12):
            await made.order(f"o{n}")
        await made.pass_time(4 * 3600, 10)
        assert condition(made).state == "down"
        assert 0 < (waits_s(made) or 0) <= 30
        await made.erp.start()
        await made.pass_time(32, 1)
        assert {row["status"] for row in (await made.rows()).values()} == {"done"}


async def test_a_few_orders_at_night_go_as_soon(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=502, times=100_000)
        await made.order("o1")
        await made.pass_time(4 * 3600, 10)
        assert condition(made).state == "down"
        made.erp.disarm()
        await made.pass_time(30, 5)
        assert await made.state() == ("done", "delivered")


async def test_one_order_that_always_fails_delays_no_other(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=500, times=100_000, only="acme/odd/1")
        await made.order("odd")
        await made.pass_time(1800, 5)
        for n in range(20):
            await made.order(f"o{n}")
            await made.run_once()
            assert await made.state(f"o{n}") == ("done", "delivered"), "it waits for nothing"
            await made.pass_time(60, 5)


async def test_several_orders_that_always_fail_delay_others_by_one_pause(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED) as made:
        for n in range(8):
            made.erp.arm("status", status=500, times=100_000, only=f"acme/odd{n}/1")
            await made.order(f"odd{n}")
        await made.run_once()
        assert made.deliver.health.breaker.blocks
        await made.order("good")
        await made.pass_time(30, 5)
        assert await made.state("good") == ("done", "delivered")


@pytest.mark.parametrize("before", [20, 21])
async def test_many_orders_that_always_fail_delay_others_by_two_pauses(tmp_path: Path, before: int) -> None:
    """However many came first and have not been tried yet: the newest has its turn as well."""
    async with desk(tmp_path, KEYED) as made:
        for n in range(before):
            made.erp.arm("status", status=500, times=100_000, only=f"acme/odd{n}/1")
            await made.order(f"odd{n}")
        await made.run_once(limit=8)
        assert made.deliver.health.breaker.blocks
        await made.order("good")
        await made.pass_time(61, 5)
        assert await made.state("good") == ("done", "delivered")


async def test_the_mutant_that_tries_the_same_order_again_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad mutant: what is tried is what is due first, whoever failed before."""
    monkeypatch.setattr(Breaker, "probed", property(lambda _: set(), lambda _self, _value: None), raising=False)
    with pytest.raises(AssertionError):
        await test_it_is_tried_with_one_order_at_a_time_and_more_and_more_seldom(tmp_path)


# --- pace


async def crowd(made: Desk, room: int) -> None:
    """An ERP that answers 503 to more than so many at a time."""
    busy, original = 0, made.erp._take

    async def take(request: Any) -> Any:
        nonlocal busy
        busy += 1
        key = request.headers["Idempotency-Key"]
        if busy > room:
            made.erp.arm("status", status=503, only=key)
        await asyncio.sleep(0.02)
        try:
            return await original(request)
        finally:
            busy -= 1

    made.erp._take = take  # type: ignore[method-assign]
    await made.erp.stop()
    await made.erp.start()


async def test_a_target_that_refuses_more_gets_fewer_at_a_time_and_is_not_stopped(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED, concurrency=16, breaker={"failures": 3, "cooldown_s": 30.0}) as made:
        await crowd(made, 5)
        for n in range(120):
            await made.order(f"o{n}")
        lowest = 16
        for _ in range(100):
            await made.run_once(limit=made.deliver._allowance())
            made.clock.advance(0.5)
            lowest = min(lowest, made.deliver.health.limit.size)
            assert not made.deliver.health.breaker.is_open
        assert {row["status"] for row in (await made.rows()).values()} == {"done"}
        assert 1 < lowest < 8
        assert "at a time of 16" in (condition(made).reason or "")
        assert condition(made).state == "up"


async def test_a_target_that_answers_nothing_but_503_is_down(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED, concurrency=16, breaker={"failures": 3, "cooldown_s": 30.0}) as made:
        made.erp.arm("status", status=503, times=100_000)
        for n in range(100):
            await made.order(f"o{n}")
        for _ in range(40):
            await made.run_once(limit=made.deliver._allowance())
            made.clock.advance(0.5)
        assert (condition(made).state, made.deliver.health.breaker.blocks) == ("down", True)
        assert len(made.erp.heard) < 45, "16, 8, 4, 2, and then one at a time"


@pytest.mark.parametrize("asked", ["99999999999999999999", "86400"])
async def test_a_pace_is_believed_for_an_hour_and_shown(tmp_path: Path, asked: str) -> None:
    """One answer with milliseconds for seconds stops no ERP for a day (case 45)."""
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=429, headers={"Retry-After": asked})
        await made.order("o1")
        await made.run_once()
        assert (condition(made).state, waits_s(made)) == ("paced", 3600)
        until = (made.clock.now() + timedelta(hours=1)).astimezone(UTC).isoformat().replace("+00:00", "Z")
        assert f"paced until {until}" in (condition(made).reason or "")
        made.clock.advance(3600)
        assert made.deliver._allowance() > 0
        assert condition(made).state == "up"
        await made.run_once()
        assert await made.state() == ("done", "delivered")


async def test_a_person_ends_a_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_module, "_RETRY_WITHIN_S", 0.001)
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=429, headers={"Retry-After": "3000"})
        await made.order("o1")
        await made.run_once()
        made.deliver.release(person=True)
        await made.deliver.idle()
        made.clock.advance(0.01)
        await made.run_once()
        assert (await made.state(), condition(made).state) == (("done", "delivered"), "up")


async def test_a_short_pace_is_no_complaint(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED) as made:
        made.erp.arm("status", status=429, headers={"Retry-After": "20"})
        await made.order("o1")
        await made.run_once()
        assert (condition(made).state, made.deliver._allowance()) == ("up", 0)


async def test_a_maintenance_window_is_shown_with_its_end_and_is_no_complaint(tmp_path: Path) -> None:
    async with desk(tmp_path, KEYED, flow={"maintenance": ["12:00-13:00"]}) as made:
        await made.order("o1")
        assert made.deliver._allowance() == 0
        assert (condition(made).state, waits_s(made), list(made.metrics.health.problems())) == ("closed", 3600, [])
        made.clock.advance(3600)
        assert made.deliver._allowance() == 8
        assert condition(made).state == "up"


def test_how_long_a_pace_is_believed() -> None:
    assert (
        capped_retry_after_s(20, 2),
        capped_retry_after_s(9999, 2),
        capped_retry_after_s(9999, 900),
        capped_retry_after_s(99999, 10_000),
    ) == (20, 3600, 3600, 30_000)


# --- settlements that cannot be written


async def test_an_end_that_cannot_be_written_leaves_no_row_leased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path, KEYED) as made:
        await made.order("o1")
        original = made.store.settle_outbox

        async def broken(*_: Any, **__: Any) -> None:
            raise TypeError("nobody thought of this")

        monkeypatch.setattr(made.store, "settle_outbox", broken)
        await made.deliver.run_once()
        while made.deliver._tasks:
            await asyncio.wait(made.deliver._tasks)
        row = await made.row()
        assert (row["status"], "could not be stored (TypeError)" in row["reason"]) == ("ready", True)
        monkeypatch.setattr(made.store, "settle_outbox", original)
        await made.pass_time(900, 60)
        assert await made.state() == ("done", "delivered")


async def test_giving_a_row_back_waits_for_room_as_a_settlement_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path, KEYED) as made:
        await made.order("o1")
        original, busy = made.store.release_leases, [StoreBusy("the disk is full")]

        async def release_leases(*arguments: Any) -> int:
            if busy:
                made.clock.advance(0)
                raise busy.pop()
            return await original(*arguments)

        async def broken(*_: Any, **__: Any) -> None:
            raise TypeError("nobody thought of this")

        monkeypatch.setattr(made.store, "release_leases", release_leases)
        monkeypatch.setattr(made.store, "settle_outbox", broken)
        await made.deliver.run_once()
        while made.deliver._tasks:
            made.clock.advance(1)
            await asyncio.sleep(0.01)
        assert (await made.row())["status"] == "ready"


class NothingDue:
    """Step that finds nothing to do."""

    async def run_once(self) -> bool:
        return False


async def test_a_worker_survives_an_error_of_the_store_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path, KEYED) as made:
        asked = []

        async def next_due_s(*_: Any) -> float | None:
            asked.append(made.clock.monotonic())
            raise StoreError("out of memory (SQLITE_NOMEM)")

        monkeypatch.setattr(made.store, "next_due_s", next_due_s)
        worker = BatchWorker("inbox", "acme", NothingDue(), made.store, made.clock)
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            while len(asked) < 3 and not task.done():
                made.clock.advance(1)
                await asyncio.sleep(0.01)
        assert not task.done()
        assert asked[1] - asked[0] >= 5, "not at full speed"
        await worker.drain(1)
        made.clock.advance(5)
        await task


def test_the_words_of_a_settlement_are_the_erps_as_far_as_they_can_be_stored() -> None:
    assert Settlement(status="dead", outcome="refused", reason="Zo\u00eb \ud83d").reason == "Zo\u00eb \ufffd"


def test_an_infinite_pause_has_no_next_time(tmp_path: Path) -> None:
    made = Breaker(failures=1, cooldown_s=1, cap_s=1)
    made.record_refusal(0, 1, lambda _: math.inf, began=-1)
    assert made.next_probe_s(10) == math.inf
