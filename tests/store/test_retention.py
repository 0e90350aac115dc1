"""What is let go of, and that it is never what is open: every class by its age, walks in slices, room given back, the forecast."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import StoreBusy
from gateway.config.settings import StoreSettings
from gateway.store.arrivals import NewEvent
from gateway.store.outcome import Settlement
from gateway.store.sqlite import retention
from gateway.store.sqlite.reader import SqliteReader
from gateway.store.sqlite.retention import days_left
from tests.store.shelf import BODY, DAY_S, DONE, Shelf, a_shelf


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with a_shelf(tmp_path) as shelf:
        yield shelf


async def test_each_class_goes_at_its_age_and_what_is_open_stays(shelf: Shelf) -> None:
    await shelf.orders(*(f"o{n}" for n in range(30)))
    await shelf.orders("waits", status="open")
    await shelf.orders("tried", status="retried")
    bodies, attempts, messages, keys = "outbox WHERE body IS NOT NULL", "attempts", "outbox", "inbox"
    expected = {1: (32, 1, 32, 32), 3: (2, 1, 32, 32), 11: (2, 1, 2, 32), 21: (2, 1, 2, 2)}
    for day, counts in expected.items():
        while shelf.clock.monotonic() < day * DAY_S:
            shelf.clock.advance(DAY_S)
        await shelf.tidy()
        assert tuple(shelf.count(what) for what in (bodies, attempts, messages, keys)) == counts, f"day {day}"
    await shelf.store.release_all_leases()
    assert {row.order_ref for row in await shelf.store.lease_outbox("erp", 10)} == {"waits", "tried"}


async def test_the_answers_of_what_is_done_go_when_their_time_is_over(shelf: Shelf) -> None:
    await shelf.orders("o1", status="retried")
    shelf.clock.advance(60)
    (row,) = await shelf.store.lease_outbox("erp", 1)
    await shelf.store.settle_outbox(row, DONE)
    shelf.settings = StoreSettings(keep_bodies_days=30, keep_attempts_days=1)
    await shelf.tidy()
    assert shelf.count("attempts") == 1
    shelf.clock.advance(DAY_S)
    await shelf.tidy()
    assert (shelf.count("attempts"), shelf.count("outbox WHERE body IS NOT NULL")) == (0, 1)


@pytest.mark.parametrize("status", ["held", "dead"])
async def test_what_waits_for_a_person_stays_whatever_its_age(shelf: Shelf, status: Any) -> None:
    await shelf.orders("o1", status="open")
    (row,) = await shelf.store.lease_outbox("erp", 1)
    await shelf.store.settle_outbox(row, Settlement(status=status, outcome="refused", reason="no such customer"))
    await shelf.orders("other")
    shelf.clock.advance(4000 * DAY_S)
    await shelf.tidy()
    assert shelf.count(f"outbox WHERE status = '{status}' AND body IS NOT NULL") == 1
    assert shelf.count("attempts") == 1


async def test_an_order_whose_messages_are_gone_is_still_known(shelf: Shelf) -> None:
    await shelf.orders("o1")
    await shelf.orders("newest")
    shelf.clock.advance(12 * DAY_S)
    await shelf.tidy()
    assert shelf.count("outbox WHERE key = 'acme/o1/1'") == 0
    digest = hashlib.sha256(b"1").digest()
    again = NewEvent(key="o1", order_ref="o1", document=BODY, sha256=hashlib.sha256(BODY).digest(), content=digest)
    assert [one.outcome for one in await shelf.store.accept("acme", "poll", [again])] == ["repeat"]
    revision = NewEvent(key="o1", order_ref="o1", document=BODY, sha256=hashlib.sha256(BODY).digest(), content=b"2")
    await shelf.store.accept("acme", "poll", [revision])
    (row,) = await shelf.store.lease_inbox("acme", 1)
    assert (row.version, row.messages) == (2, 1), "its next message is the second"
    assert await shelf.store.sent_before(row, supersede=False) == {"erp"}, "who has it hears of a revision, not of a new order"


async def test_a_target_that_had_an_order_years_ago_still_has_it(shelf: Shelf) -> None:
    """It takes no revisions, so that its name is in no message that is let go of later."""
    await shelf.orders("o1", target="archive")
    await shelf.orders("newest")
    shelf.clock.advance(12 * DAY_S)
    await shelf.tidy()
    await shelf.orders("o1", content=b"2")
    await shelf.orders("newest", content=b"2")
    shelf.clock.advance(12 * DAY_S)
    await shelf.tidy()
    assert shelf.count("outbox WHERE key LIKE 'acme/o1/%'") == 0
    revision = NewEvent(key="o1", order_ref="o1", document=BODY, sha256=hashlib.sha256(BODY).digest(), content=b"3")
    await shelf.store.accept("acme", "poll", [revision])
    (row,) = await shelf.store.lease_inbox("acme", 1)
    assert await shelf.store.sent_before(row, supersede=False) == {"archive", "erp"}


async def test_an_order_that_may_still_change_at_the_vendor_stays(shelf: Shelf) -> None:
    await shelf.orders("o1")
    await shelf.orders("newest")
    with sqlite3.connect(shelf.path) as db:
        db.execute("UPDATE orders SET open = 1 WHERE order_ref = 'o1'")
    shelf.clock.advance(4000 * DAY_S)
    await shelf.tidy()
    assert shelf.count("outbox WHERE key = 'acme/o1/1'") == 1


async def test_events_that_belong_to_no_order_are_forgotten_too(shelf: Shelf) -> None:
    ignored = [
        NewEvent(key=f"e{n}", order_ref="x", document=BODY, sha256=BODY, ignored="another kind of event", acknowledge="stored")
        for n in range(5)
    ]
    await shelf.store.accept("acme", "webhook", ignored)
    acks = await shelf.store.lease_acknowledgements("acme", 10)
    await shelf.store.settle_acknowledgements([(row, DONE) for row in acks[:4]])
    await shelf.store.accept("acme", "webhook", [NewEvent(key="bad", document=BODY, sha256=BODY, dead="cannot be read")])
    shelf.clock.advance(30 * DAY_S)
    await shelf.tidy()
    left = "inbox WHERE key = 'e4'", "acknowledgements WHERE status <> 'done'", "inbox WHERE status = 'dead'", "inbox"
    assert [shelf.count(what) for what in left] == [1, 1, 1, 2], "the dead letter, and what is still to be acknowledged"


async def test_a_walk_over_many_does_not_read_what_is_young(shelf: Shelf) -> None:
    """It holds the only connection that writes: a slice is a slice also where everything left is young."""
    await shelf.orders(*(f"o{n}" for n in range(5)))
    shelf.clock.advance(30 * DAY_S)
    await shelf.orders(*(f"y{n}" for n in range(800)))
    steps: list[int] = []
    await shelf.store.run_outside_transaction(lambda db: db.set_progress_handler(lambda: steps.append(1), 50))  # type: ignore[attr-defined]
    before = shelf.clock.now() - timedelta(days=20)
    for walk in (shelf.store.delete_events, shelf.store.delete_attempts, shelf.store.delete_submissions):
        after, slices = 0, 0
        while (found := await walk(before, after, 10)) is not None:
            after, slices = found, slices + 1
        assert slices <= 2
    assert len(steps) < 50, "of 800 rows ten or twenty were read"


async def test_the_order_of_the_newest_acknowledgement_stays_until_there_is_another(shelf: Shelf) -> None:
    await shelf.acknowledged("o1")
    await shelf.orders("newest")
    shelf.clock.advance(4000 * DAY_S)
    await shelf.tidy()
    assert (shelf.count("acknowledgements"), shelf.count("orders")) == (1, 2)


async def test_row_numbers_are_not_used_again(shelf: Shelf) -> None:
    await shelf.orders("o1", "o2")
    shelf.clock.advance(4000 * DAY_S)
    await shelf.tidy()
    await shelf.orders("o3")
    with sqlite3.connect(shelf.path) as db:
        assert db.execute("SELECT max(id) FROM outbox").fetchone() == (3,)


async def test_room_goes_back_to_the_disk(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_FREE_PAGES", 10)
    await shelf.orders(*(f"o{n}" for n in range(2000)))
    await shelf.store.checkpoint(truncate=True)
    before = shelf.path.stat().st_size
    shelf.clock.advance(30 * DAY_S)
    await shelf.tidy()
    await shelf.store.checkpoint(truncate=True)
    assert shelf.path.stat().st_size < before / 3


async def test_near_its_limit_what_is_delivered_is_kept_for_a_shorter_time(shelf: Shelf, caplog: Any) -> None:
    shelf.settings = StoreSettings(keep_bodies_days=30, keep_orders_days=400, max_bytes=16 * 1024 * 1024)
    for day in range(12):
        await shelf.orders(*(f"d{day}-{n}" for n in range(900)))
        shelf.clock.advance(DAY_S - 6 * 3601)
        for _ in range(6):  # a round an hour
            await shelf.tidy()
    assert shelf.count("inbox") == 12 * 900, "a repeat is still told"
    await shelf.store.checkpoint(truncate=True)
    assert await shelf.store.used_bytes() < 16 * 1024 * 1024
    assert "store.near_its_limit" in [record.message for record in caplog.records]
    assert shelf.count("outbox WHERE body IS NOT NULL") >= 900, "the last day's"


async def test_a_slice_is_short(shelf: Shelf) -> None:
    """A round of many orders is many transactions: between two of them orders come in."""
    await shelf.orders(*(f"o{n}" for n in range(1200)))
    shelf.clock.advance(30 * DAY_S)
    after, slices = 0, 0
    while (found := await shelf.store.prune_orders(shelf.clock.now(), shelf.clock.now() - timedelta(days=100), after, 100)) is not None:
        after, slices = found, slices + 1
    assert slices == 12
    assert shelf.count("outbox") == 1


class Full:
    """A method of a store on a disk that is full, `times` times; `at` is when it was called."""

    def __init__(self, shelf: Shelf, name: str, times: int) -> None:
        self._shelf, self._method, self._times = shelf, getattr(shelf.store, name), times
        self.at: list[float] = []
        setattr(shelf.store, name, self)

    async def __call__(self, *given: Any) -> Any:
        self.at.append(self._shelf.clock.monotonic())
        if len(self.at) <= self._times:
            raise StoreBusy("the disk is full")
        return await self._method(*given)


async def seconds(shelf: Shelf, count: int) -> None:
    for _ in range(count):
        shelf.clock.advance(1)
        await shelf.house.run_once()


async def test_a_round_that_met_a_full_disk_begins_anew_in_minutes(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    await shelf.orders("o1")
    shelf.clock.advance(3 * DAY_S)
    full = Full(shelf, "redact_bodies", times=3)
    await seconds(shelf, 3600)
    waited = [round(later - earlier) for earlier, later in zip(full.at, full.at[1:], strict=False)]
    assert waited[:3] == [60, 120, 240], "and then at once, until there is nothing more"
    assert [shelf.count(f"{queue} WHERE {body} IS NOT NULL") for queue, body in (("inbox", "document"), ("outbox", "body"))] == [0, 0]
    assert [record.message for record in caplog.records] == ["store.not_tidied"] * 3
    calls = len(full.at)
    await seconds(shelf, 3600)
    assert round(full.at[calls] - full.at[calls - 1]) == 3600, "all is well, and the next round is an hour later"


async def test_a_disk_that_stays_full_is_asked_once_an_hour(shelf: Shelf) -> None:
    full = Full(shelf, "used_bytes", times=1000)
    await seconds(shelf, 5 * 3600)
    assert [round(b - a) for a, b in zip(full.at, full.at[1:], strict=False)] == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


async def test_a_walk_that_met_a_full_disk_does_not_wait_for_the_next_day(shelf: Shelf) -> None:
    await shelf.orders("o1")
    await shelf.orders("newest")
    shelf.clock.advance(30 * DAY_S)
    Full(shelf, "prune_orders", times=1)
    await seconds(shelf, 70)
    assert shelf.count("outbox") == 1


async def test_what_could_not_be_let_go_of_is_not_kept_for_a_shorter_time_still(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    shelf.settings = StoreSettings(max_bytes=16 * 1024 * 1024)
    Full(shelf, "redact_bodies", times=5)

    async def used() -> int:
        return 16 * 1024 * 1024

    shelf.store.used_bytes = used  # type: ignore[method-assign]
    await seconds(shelf, 1800)
    assert [record.message for record in caplog.records].count("store.near_its_limit") == 1


def test_the_forecast() -> None:
    gib, day = 1024**3, 86_400_000
    assert days_left([(0, gib), (2 * day, 2 * gib)], 10 * gib) == 20
    assert days_left([(0, gib)], gib) is None
    assert days_left([(0, 2 * gib), (day, gib)], gib) is None
    assert days_left([(0, gib), (day, 2 * gib)], -5) == 0


async def test_status_tells_how_long_the_disk_lasts(shelf: Shelf) -> None:
    reader = SqliteReader(shelf.path)
    await reader.open()
    try:
        assert (await reader.disk()).days_left is None
        await shelf.store.used_bytes()
        await shelf.orders(*(f"o{n}" for n in range(500)))
        shelf.clock.advance(DAY_S)
        await shelf.store.used_bytes()
        disk = await reader.disk()
        assert disk.days_left is not None
        assert (disk.days_left > 0, 0 < disk.used <= disk.file, disk.free > 0) == (True, True, True)
    finally:
        await reader.close()
