"""Nothing is erased, forgotten or given up by a clock that is wrong: what is let go of goes by the time that has really passed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.clock import to_ms
from gateway.config.settings import StoreSettings
from gateway.service.operations import Operation, Operations
from gateway.service.retention import RetentionJob
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.trusted_time import DAY_MS, Ledger
from gateway.testing import ManualClock
from tests.store import conformance as suite

DAY_S, YEARS_S = 86_400.0, 1500 * 86_400.0


class Shop:
    """A store with one order that was delivered, with the retention job that `gateway.service.maintenance` runs."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.folder = folder
        self.told: list[str] = []

    async def open(self) -> None:
        self.store = SqliteStore(self.folder / "gateway.db", clock=self.clock)
        await self.store.open()
        await self.store.register(["acme"])
        self.house = RetentionJob(self.store, self.clock, StoreSettings)

    async def deliver(self, ref: str) -> None:
        await suite.accept(self.store, suite.incoming(ref))
        await suite.prepare(self.store, "erp")
        await suite.deliver(self.store)

    async def live(self, hours: int) -> None:
        """Some hours go by, as the upkeep of a running gateway sees them."""
        for _ in range(hours):
            self.clock.advance(3600)
            await self.store.note_time()
            self.house._next_walk = 0.0
            await self.house.run_once()
            while self.house.busy:
                await self.house.run_once()

    async def again(self, *, jump_s: float = 0.0, off_s: float = 0.0) -> None:
        await self.store.close()
        self.clock.jump(jump_s)
        self.clock.advance(off_s)
        await self.open()

    async def is_known(self, ref: str) -> bool:
        """Whether the vendor's repeat is told from a new order."""
        ((_, outcome),) = await suite.accept(self.store, suite.incoming(ref))
        return outcome == "repeat"


@pytest.fixture
async def shop(tmp_path: Path, clock: ManualClock) -> Shop:
    shop = Shop(tmp_path, clock)
    await shop.open()
    await shop.deliver("o1")
    await shop.live(1)
    return shop


async def while_running(shop: Shop, jump_s: float) -> None:
    shop.clock.jump(jump_s)
    await shop.store.shift_due(round(jump_s * 1000), DAY_MS)
    await shop.live(2)


async def over_a_start(shop: Shop, jump_s: float) -> None:
    await shop.again(jump_s=jump_s, off_s=60)
    await shop.live(2)


HOW = [while_running, over_a_start]
Jump = Callable[[Shop, float], Awaitable[None]]


@pytest.mark.parametrize("jump", HOW)
async def test_years_ahead_forget_nothing_and_say_so_until_the_clock_is_right(shop: Shop, jump: Jump) -> None:
    await jump(shop, YEARS_S)
    doubt = shop.store.clock_doubt()
    assert doubt is not None
    for said in ("the clock says 2028-05-09", "about 2024-03-31", "gateway clock confirm", "nothing is deleted"):
        assert said in doubt
    assert shop.store.retention_time() is None
    await jump(shop, -YEARS_S)
    assert shop.store.clock_doubt() is None
    assert await shop.is_known("o1")
    await shop.store.close()


@pytest.mark.parametrize("jump", HOW)
async def test_without_the_ledger_the_key_is_forgotten(shop: Shop, jump: Jump, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad mutant: the wall clock alone."""
    monkeypatch.setattr(SqliteStore, "retention_time", lambda self: self._clock.now())
    for ref in ("o2", "o3"):  # the newest row of a table is never let go of
        await shop.deliver(ref)
    await jump(shop, YEARS_S)
    assert not await shop.is_known("o1")
    await shop.store.close()


@pytest.mark.parametrize("jump", HOW)
async def test_a_clock_that_goes_evenly_for_a_day_is_believed(shop: Shop, jump: Jump) -> None:
    for ref in ("o2", "o3"):
        await shop.deliver(ref)
    await jump(shop, YEARS_S)
    await shop.live(21)
    assert shop.store.clock_doubt() is not None, "not yet"
    await shop.live(3)
    assert shop.store.clock_doubt() is None
    await shop.live(48)
    assert not await shop.is_known("o1"), "it was 1500 days, by all that anybody can tell"
    await shop.store.close()


async def test_another_jump_and_a_start_begin_the_day_anew_or_go_on_with_it(shop: Shop) -> None:
    await while_running(shop, YEARS_S)
    await shop.live(20)
    shop.clock.jump(3600)
    await shop.live(1)
    assert shop.store._ledger.agreed_ms == 0
    await shop.live(20)
    await shop.again(off_s=60)
    assert shop.store.clock_doubt() is not None
    await shop.live(4)
    assert shop.store.clock_doubt() is None
    await shop.store.close()


async def test_a_person_confirms_and_it_is_kept_in_the_audit(shop: Shop) -> None:
    operations = Operations(shop.store, shop.clock, None)
    await while_running(shop, 40 * DAY_S)
    with pytest.raises(Exception, match="nothing is erased: the clock says"):
        await operations(Operation(action="purge", who="eva", days=30))
    assert await operations(Operation(action="confirm-clock", who="eva"))
    assert not await operations(Operation(action="confirm-clock", who="eva")), "there is nothing to confirm now"
    assert await operations(Operation(action="purge", who="eva", days=30)) == 2
    found = await shop.store.run_outside_transaction(
        lambda db: db.execute("SELECT who, action, reason FROM audit WHERE action = 'clock-confirm'").fetchall()
    )
    assert found == [("eva", "clock-confirm", "the clock is right: 2024-05-10")]
    await shop.store.close()


async def test_a_weekend_off_needs_a_person_or_a_day_and_less_than_a_day_nobody(shop: Shop) -> None:
    await shop.again(off_s=23 * 3600)
    assert shop.store.clock_doubt() is None
    await shop.again(off_s=3 * DAY_S)
    assert shop.store.clock_doubt() is not None
    await shop.store.close()


@pytest.mark.parametrize("jump_s", [YEARS_S, -YEARS_S], ids=["ahead", "behind"])
@pytest.mark.parametrize("jump", HOW)
async def test_what_was_settled_by_a_wrong_clock_is_as_old_as_it_is(shop: Shop, jump: Jump, jump_s: float) -> None:
    """Else an order of an hour that was years behind would be forgotten at once, and one of an hour ahead kept for years."""
    await jump(shop, jump_s)
    for ref in ("o2", "o3", "o4"):
        await shop.deliver(ref)
    await shop.live(2)
    await jump(shop, -jump_s)
    await shop.live(48)
    assert await shop.is_known("o2")
    rows = await shop.store.run_outside_transaction(
        lambda db: db.execute("SELECT settled_at_ms FROM outbox UNION SELECT settled_at_ms FROM inbox").fetchall()
    )
    now_ms = to_ms(shop.clock.now())
    assert [ms for (ms,) in rows if ms is not None and abs(now_ms - ms) > 4 * DAY_MS] == []
    await shop.live(31 * 24)
    count = "SELECT count(*) FROM outbox WHERE body IS NOT NULL"
    bodies = await shop.store.run_outside_transaction(lambda db: db.execute(count).fetchone()[0])
    assert bodies == 0, "people's data go after thirty days"
    await shop.store.close()


@pytest.mark.parametrize("jump", HOW)
async def test_what_was_tried_for_an_hour_is_not_given_up_for_its_age(shop: Shop, jump: Jump) -> None:
    await suite.accept(shop.store, suite.incoming("o9"))
    await suite.prepare(shop.store, "erp")
    again = Settlement(status="ready", outcome="retry", due_in_s=10, started_at_ms=to_ms(shop.clock.now()))
    await suite.deliver(shop.store, again)
    for jump_s in (YEARS_S, -YEARS_S):
        await shop.live(1)
        await jump(shop, jump_s)
        (row,) = await shop.store.lease_outbox("erp", 10)
        assert row.first_attempt_at is not None
        assert -1 <= (shop.clock.now() - row.first_attempt_at).total_seconds() < DAY_S, "nor for ever after the clock is right again"
        await shop.store.settle_outbox(row, again)
    await shop.store.close()


async def test_a_store_from_before_goes_by_its_newest_row(tmp_path: Path, clock: ManualClock) -> None:
    shop = Shop(tmp_path, clock)
    await shop.open()
    await shop.deliver("o1")
    await shop.store.run_outside_transaction(lambda db: db.execute("DELETE FROM clock"))
    await shop.store._writer.close()  # as one of an older version does, which notes no time
    shop.store._lock.release()
    shop.clock.jump(YEARS_S)
    await shop.open()
    assert shop.store.clock_doubt() is not None
    await shop.store.close()


def test_the_ledger_follows_small_corrections_and_no_jump() -> None:
    ledger = Ledger(seen_ms=0, trusted_ms=0)
    for n in range(1, 11):
        ledger.go_on(n * 1010, 1000)
    assert (ledger.trusted_ms, ledger.in_doubt) == (10_100, False)
    ledger.go_on(10_100 + 2 * DAY_MS, 1000)
    assert (ledger.in_doubt, ledger.trusted_ms) == (True, 11_100)
    assert (ledger.from_ms, ledger.to_ms) == (10_100 + 2 * DAY_MS, 10_100 + 2 * DAY_MS)
    ledger.go_on(13_000, 1000)
    assert (ledger.in_doubt, ledger.trusted_ms) == (False, 13_000)
