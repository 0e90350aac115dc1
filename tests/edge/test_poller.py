"""The poll door: what is committed, what is asked again, and how it behaves when the vendor or the connector does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest

from gateway import AuthError, Event, OpenOrder, Order, Page, PermanentError, RateLimited, TransientError, Unreadable, hookimpl
from gateway.api.errors import StoreBusy, StoreFailed
from gateway.api.order import Message, encode
from gateway.edge import poller as module
from gateway.edge.poller import Poller
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.incoming import incoming
from gateway.plugin.source import Source
from gateway.store.rows import Delivery, Prepared
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.testing import ManualClock
from tests import acme
from tests.log_lines import log_lines

INTERVAL_S = 300.0


class Bench:
    """A poller on a real store, and what it was asked."""

    def __init__(self, store: SqliteStore, clock: ManualClock, *, interval_s: float = INTERVAL_S) -> None:
        connector = Connector(acme, "acme")
        connector.settings = acme.Settings(poll_interval_s=interval_s)
        self.store = store
        self.metrics = Metrics(clock)
        self.asked: list[str | None] = []
        self.source = Source(
            name="acme",
            connector=connector,
            doors=("poll",),
            on_revision="hold",
            destinations=(),
            stages=frozenset(),
            max_body_bytes=1000,
            max_requests_per_second=1000,
            since=clock.now(),
            vendor="acme",
        )
        self.poller = Poller(self.source, store, self.metrics, clock)

    def vendor(self, *answers: Page | BaseException | Callable[[], Awaitable[Any]] | Any) -> None:
        """What the next calls bring, in order; the last one again and again."""
        left = list(answers)

        async def poll(cursor: str | None, **_: Any) -> Any:
            self.asked.append(cursor)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, BaseException):
                raise answer
            return await answer() if callable(answer) else answer

        acme.faults["poll"] = poll

    async def cursor(self) -> str | None:
        return await self.store.cursor("acme", "poll")

    async def rows(self) -> list[dict[str, Any]]:
        reader = SqliteReader(self.store._path)
        await reader.open()
        try:
            return sorted(await reader.rows("inbox"), key=lambda row: int(row["row"].split(":")[1]))
        finally:
            await reader.close()

    @property
    def door(self) -> str:
        return self.metrics.health.doors["acme", "poll"].state

    @property
    def reason(self) -> str:
        return self.metrics.health.doors["acme", "poll"].reason or ""

    def counted(self, outcome: str) -> float:
        found = self.metrics.registry.get_sample_value("gateway_received_total", {"source": "acme", "door": "poll", "outcome": outcome})
        return found or 0.0


@pytest.fixture
def bench(store: SqliteStore, clock: ManualClock) -> Bench:
    return Bench(store, clock)


def events(*orders: str) -> list[Event]:
    return [acme.event(acme.body(order)) for order in orders]


# --- the cursor


async def test_events_and_cursor_are_committed_together(bench: Bench) -> None:
    bench.vendor(Page(events=events("o1", "o2"), cursor="c1"))
    await bench.poller.round()
    assert [row["key"] for row in await bench.rows()] == ["acme/o1", "acme/o2"]
    assert await bench.cursor() == "c1"
    assert (bench.asked, bench.door, bench.counted("stored")) == ([None], "up", 2)


async def test_a_failing_commit_keeps_the_old_cursor_and_brings_the_page_again(bench: Bench) -> None:
    bench.vendor(Page(cursor="c1"))
    await bench.poller.round()
    bench.store.refusing = "the disk is nearly full"
    bench.vendor(Page(events=events("o1"), cursor="c2"))
    assert await bench.poller.round() == 30  # as the store asks
    assert await bench.cursor() == "c1"
    bench.store.refusing = None
    await bench.poller.round()
    assert await bench.cursor() == "c2"
    assert bench.asked == [None, "c1", "c1"]
    assert [row["key"] for row in await bench.rows()] == ["acme/o1"]


async def test_a_commit_that_breaks_half_way_leaves_neither_events_nor_cursor(bench: Bench) -> None:
    bench.vendor(Page(events=events("o1", "o2"), cursor="c1"))
    await bench.store._writer.run(
        lambda db: db.execute("CREATE TRIGGER half BEFORE INSERT ON cursors BEGIN SELECT raise(ABORT, 'half way'); END")
    )
    assert await bench.poller.round() <= INTERVAL_S
    assert (await bench.rows(), await bench.cursor(), bench.door) == ([], None, "down")
    await bench.store._writer.run(lambda db: db.execute("DROP TRIGGER half"))
    await bench.poller.round()
    assert (len(await bench.rows()), await bench.cursor(), bench.door) == (2, "c1", "up")


async def test_a_page_that_comes_again_is_a_repeat(bench: Bench) -> None:
    bench.vendor(Page(events=events("o1"), cursor="c1"))
    await bench.poller.round()
    await bench.poller.round()
    assert len(await bench.rows()) == 1
    assert (bench.counted("stored"), bench.counted("repeat")) == (1, 1)


async def test_more_asks_again_at_once_from_the_new_cursor(bench: Bench) -> None:
    bench.vendor(Page(events=events("o1"), cursor="c1", more=True), Page(events=events("o2"), cursor="c2", more=True), Page(cursor="c3"))
    await bench.poller.round()
    assert bench.asked == [None, "c1", "c2"]
    assert await bench.cursor() == "c3"


async def test_a_page_without_a_cursor_leaves_the_old_one(bench: Bench) -> None:
    bench.vendor(Page(cursor="c1"))
    await bench.poller.round()
    bench.vendor(Page(events=events("o1"), more=True), Page())
    await bench.poller.round()
    assert bench.asked == [None, "c1", "c1"]
    assert await bench.cursor() == "c1"


@pytest.mark.parametrize(
    "stuck", [Page(cursor="c", more=True), Page(events=events("o1"), cursor="c", more=True)], ids=["nothing", "repeats"]
)
async def test_a_connector_that_turns_in_circles_is_stopped(bench: Bench, stuck: Page) -> None:
    bench.vendor(stuck)
    wait_s = await bench.poller.round()
    assert (len(bench.asked), bench.door) == (2, "down")
    assert 0 < wait_s <= INTERVAL_S
    assert "cursor has not changed" in bench.reason


async def test_a_later_page_that_fails_keeps_the_earlier_ones(bench: Bench) -> None:
    bench.vendor(Page(events=events("o1"), cursor="c1", more=True), TransientError("vendor down"))
    await bench.poller.round()
    assert ([row["key"] for row in await bench.rows()], await bench.cursor()) == (["acme/o1"], "c1")


async def test_with_acknowledge_stored_each_event_is_acknowledged_once(bench: Bench) -> None:
    bench.source.stages = frozenset({"stored"})
    bench.vendor(Page(events=events("o1", "o2"), cursor="c1"))
    await bench.poller.round()
    await bench.poller.round()
    assert [ack.order_ref for ack in await bench.store.lease_acknowledgements("acme", 10)] == ["o1", "o2"]


# --- elements that cannot be used


async def test_an_event_that_a_person_should_look_at_is_warned_of_once(bench: Bench) -> None:
    bench.vendor(Page(events=[Event(key="e1", order_ref="o1", document=b"?", ignored="nobody knows it", flagged=True)]))
    with log_lines() as lines:
        await bench.poller.round()
        await bench.poller.round()
    (row,) = await bench.rows()
    assert (row["status"], row["outcome"], row["reason"]) == ("done", "flagged", "nobody knows it")
    assert len([line for line in lines if '"event.flagged"' in line]) == 1


async def test_one_unreadable_element_is_a_dead_letter_and_the_rest_goes_on(bench: Bench) -> None:
    page = Page(events=[*events("o1"), Unreadable(document=b"{broken", reason="no id"), *events("o2")], cursor="c1")
    bench.vendor(page)
    await bench.poller.round()
    first, dead, second = await bench.rows()
    assert (first["status"], dead["status"], second["status"]) == ("ready", "dead", "ready")
    assert dead["reason"] == "no id"
    assert (await bench.cursor(), bench.door) == ("c1", "up")
    assert (bench.counted("stored"), bench.counted("unreadable")) == (2, 1)
    await bench.poller.round()
    assert len(await bench.rows()) == 3  # the same bytes are the same dead letter
    assert (bench.counted("unreadable"), bench.counted("repeat")) == (1, 3)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "\ud800", 7, None])
async def test_an_element_without_a_usable_name_is_a_dead_letter_too(bench: Bench, name: Any) -> None:
    bench.vendor(Page(events=[Event(key=name, order_ref="o1", document=b"{}"), *events("o2")], cursor="c1"))
    await bench.poller.round()
    dead, alive = await bench.rows()
    assert (dead["status"], alive["key"]) == ("dead", "acme/o2")
    assert "usable identifier" in dead["reason"]


async def test_a_reason_that_no_database_can_hold_is_written_down_as_it_can_be(bench: Bench) -> None:
    bench.vendor(Page(events=[Unreadable(document=b"x", reason="bad name: \ud800" + "y" * 2000)], cursor="c1"))
    await bench.poller.round()
    (dead,) = await bench.rows()
    assert dead["reason"].startswith(r"bad name: \ud800yyy")
    assert len(dead["reason"]) <= 1000


# --- rubbish


RUBBISH: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "a text": "Page",
    "events that are none": Page(events=None, cursor="c"),  # type: ignore[arg-type]
    "an event that is none": Page(events=["o1"], cursor="c"),  # type: ignore[list-item]
    "a document that is text": Page(events=[Event(key="o1", order_ref="o1", document="{}")], cursor="c"),  # type: ignore[arg-type]
    "content that is text": Page(events=[Event(key="o1", order_ref="o1", document=b"", content="x")], cursor="c"),  # type: ignore[arg-type]
    "an instant that is text": Page(events=[Event(key="o1", order_ref="o1", document=b"", occurred_at="now")], cursor="c"),  # type: ignore[arg-type]
    "a reference that is a number": Page(events=[Event(key="o1", order_ref="o1", document=b"", reference=7)], cursor="c"),  # type: ignore[arg-type]
    "no document and no fetch": Page(events=[Event(key="o1", order_ref="o1")], cursor="c"),
    "no name and no document": Page(events=[Event(key="", order_ref="o1")], cursor="c"),
    "an unreadable text": Page(events=[Unreadable(document="x", reason="y")], cursor="c"),  # type: ignore[arg-type]
    "a cursor that is a number": Page(cursor=7),  # type: ignore[arg-type]
    "a cursor that is no Unicode": Page(cursor="\ud800"),
    "a cursor without end": Page(cursor="x" * 65537),
    "an exception": KeyError("Jane Doe"),
    "the end of the process": SystemExit(1),
    "somebody's Ctrl-C": KeyboardInterrupt(),
    "a cancellation of its own": asyncio.CancelledError(),
    "an endless recursion": RecursionError(),
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
async def test_a_connector_that_answers_rubbish_closes_its_own_door_only(bench: Bench, rubbish: Any) -> None:
    bench.vendor(Page(cursor="before"))
    await bench.poller.round()
    bench.vendor(rubbish)
    with log_lines() as lines:
        wait_s = await bench.poller.round()
    assert (bench.door, await bench.rows(), await bench.cursor()) == ("down", [], "before")
    assert 0 < wait_s <= INTERVAL_S
    assert re.search("poll (returned|failed|was cancelled)", bench.reason)
    assert "plugin.failed" in "".join(lines)
    assert "Jane Doe" not in "".join(lines) + bench.reason
    bench.vendor(Page(cursor="after"))
    await bench.poller.round()
    assert (bench.door, await bench.cursor()) == ("up", "after")


# --- vendors that are not well


async def test_delays_grow_with_jitter_and_start_over_after_a_success(bench: Bench) -> None:
    bench.vendor(TransientError("down"))
    first = [await fresh_wait(bench, 1) for _ in range(50)]
    later = [await fresh_wait(bench, 6) for _ in range(50)]
    last = [await fresh_wait(bench, 30) for _ in range(50)]
    assert max(first) <= 5
    assert max(later) <= 160
    assert max(last) <= INTERVAL_S
    assert sum(first) < sum(later) < sum(last)
    for waits in (first, later, last):
        assert len(set(waits)) > 40
        assert min(waits) >= 0.5
    assert (bench.door, bench.reason) == ("down", "down")
    bench.vendor(Page())
    assert INTERVAL_S * 0.95 <= await bench.poller.round() <= INTERVAL_S * 1.05
    assert bench.poller._failures == 0


async def fresh_wait(bench: Bench, failures: int) -> float:
    """The wait after so many failures in a row."""
    bench.poller._failures = failures - 1
    return await bench.poller.round()


async def test_an_interval_shorter_than_the_first_delay_is_kept(store: SqliteStore, clock: ManualClock) -> None:
    bench = Bench(store, clock, interval_s=2)
    bench.vendor(TransientError("down"))
    assert all([0 < await bench.poller.round() <= 2 for _ in range(20)])


@pytest.mark.parametrize(("interval_s", "asked_s", "wait_s"), [(300, 3000, 3000), (300, 4000, 3600), (5, 1e9, 3600), (7200, 1e9, 21600)])
@pytest.mark.parametrize("kind", [TransientError, RateLimited])
async def test_a_vendor_that_names_a_time_is_believed_within_bounds_and_the_door_says_until_when(
    store: SqliteStore, clock: ManualClock, kind: type[TransientError], interval_s: float, asked_s: float, wait_s: float
) -> None:
    bench = Bench(store, clock, interval_s=interval_s)
    bench.vendor(kind("maintenance", retry_after_s=asked_s))
    with log_lines() as lines:
        assert await bench.poller.round() == wait_s
    until_at = clock.now() + timedelta(seconds=wait_s)
    shown = f"maintenance; asked again at {until_at:%Y-%m-%dT%H:%M:%SZ}, or after `gateway resume acme`"
    assert (bench.door, bench.reason, bench.metrics.health.doors["acme", "poll"].next_at) == ("down", shown, until_at)
    (said,) = [json.loads(line) for line in lines if '"door.down"' in line]
    assert (said["source"], said["door"], said["reason"]) == ("acme", "poll", shown)
    bench.vendor(Page())
    await bench.poller.round()
    assert (bench.door, bench.metrics.health.doors["acme", "poll"].next_at) == ("up", None)


async def test_rate_limited_for_a_moment_waits_as_asked_and_leaves_the_door_as_it_is(bench: Bench) -> None:
    for asked, wait_s in ((17.0, 17), (None, 60), (0.0, 60), (300.0, 300)):
        bench.vendor(Page())
        await bench.poller.round()
        bench.vendor(RateLimited("slower", retry_after_s=asked))
        assert await bench.poller.round() == wait_s
        assert (bench.door, bench.poller._failures) == ("up", 0)


async def test_a_vendor_that_is_never_asked_in_the_right_moment_takes_the_door_down(bench: Bench) -> None:
    bench.vendor(Page(), RateLimited("slower", retry_after_s=10))
    for state in ("up", "up", "up", "down"):
        await bench.poller.round()
        assert bench.door == state


# --- a round without an end


def endless(bench: Bench, *, fresh: bool, clock: ManualClock | None = None, each_s: float = 0.0) -> None:
    """Every page says that there is more, and moves the cursor."""

    async def page() -> Page:
        n = len(bench.asked)
        if clock is not None:
            clock.advance(each_s)
        return Page(events=events(f"o{n}") if fresh else (), cursor=f"c{n}", more=True)

    bench.vendor(page)


async def test_a_round_of_empty_pages_is_cut_and_goes_on_from_there(bench: Bench) -> None:
    endless(bench, fresh=False)
    assert await bench.poller.round() == INTERVAL_S
    assert (len(bench.asked), bench.door, await bench.cursor()) == (100, "down", "c100")
    assert "100 pages in a row without an order" in bench.reason
    await bench.poller.round()
    assert (bench.asked[100], len(bench.asked)) == ("c100", 200)
    bench.vendor(Page(cursor="end"))
    await bench.poller.round()
    assert (bench.door, await bench.cursor()) == ("up", "end")


async def test_a_short_interval_does_not_make_the_pause_after_it_short(store: SqliteStore, clock: ManualClock) -> None:
    bench = Bench(store, clock, interval_s=2)
    endless(bench, fresh=False)
    assert await bench.poller.round() == 60


async def test_pages_that_bring_orders_go_on_for_an_hour(bench: Bench, clock: ManualClock) -> None:
    endless(bench, fresh=True, clock=clock, each_s=20.0)
    await bench.poller.round()
    assert (len(bench.asked), bench.door, await bench.cursor()) == (180, "down", "c180")
    assert "180 pages in 60 min" in bench.reason
    assert bench.counted("stored") == 180


@pytest.mark.parametrize("asked", [float("nan"), float("inf"), -5, "60", object()])
async def test_a_wait_that_is_none_is_replaced_by_ours(bench: Bench, asked: Any) -> None:
    bench.vendor(TransientError("odd", retry_after_s=asked))
    assert 0 < await bench.poller.round() <= 86400


async def test_an_auth_error_takes_the_door_down_for_long(bench: Bench) -> None:
    bench.vendor(AuthError("the vendor answers 401"))
    with log_lines() as lines:
        assert await bench.poller.round() == 900
        assert await bench.poller.round() == 900
    assert (bench.door, bench.reason) == ("down", "the vendor answers 401")
    assert len([line for line in lines if "door.down" in line]) == 1


async def test_a_permanent_error_takes_the_door_down_and_is_tried_again(bench: Bench) -> None:
    bench.vendor(PermanentError("the answer is not the JSON expected"))
    assert 0 < await bench.poller.round() <= 5
    assert bench.door == "down"


async def test_a_hanging_poll_is_cut(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.CALL_TIMEOUT_S == 300
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.02)
    bench.vendor(asyncio.Event().wait)
    async with asyncio.timeout(5):
        await bench.poller.round()
    assert (bench.door, bench.reason) == ("down", "no answer in time")


async def test_a_timeout_inside_the_connector_is_the_vendors(bench: Bench) -> None:
    bench.vendor(TimeoutError())
    with log_lines() as lines:
        await bench.poller.round()
    assert (bench.door, bench.reason) == ("down", "no answer in time")
    assert "plugin.failed" not in "".join(lines)


async def test_a_store_that_is_lost_ends_the_poller(bench: Bench) -> None:
    async def lost_meanwhile() -> Page:
        bench.store._writer._failed = StoreFailed("I/O error")
        return Page(events=events("o1"), cursor="c1")

    bench.vendor(lost_meanwhile)
    with pytest.raises(StoreFailed):
        await bench.poller.round()


async def test_an_error_of_ours_closes_the_door_and_not_the_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("Jane Doe")

    bench.vendor(Page(events=events("o1"), cursor="c1"))
    monkeypatch.setattr(bench.store, "accept", broken)
    with log_lines() as lines:
        await bench.poller.round()
    assert bench.door == "down"
    assert "poll.failed" in "".join(lines)
    assert "Jane Doe" not in "".join(lines) + bench.reason


async def test_a_store_that_is_busy_is_asked_again_when_it_says(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: Any) -> Any:
        raise StoreBusy("closing", retry_after_s=7)

    monkeypatch.setattr(bench.store, "cursor", busy)
    assert await bench.poller.round() == 7


# --- the schedule


@pytest.fixture
async def turning(bench: Bench) -> Any:
    """A poller that runs; it waits in real time."""
    task: list[asyncio.Task[None]] = []

    def run() -> asyncio.Task[None]:
        task.append(asyncio.create_task(bench.poller.run()))
        return task[0]

    yield run
    task[0].cancel()
    await asyncio.gather(task[0], return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_it_asks_at_once_and_then_every_interval(bench: Bench, turning: Any) -> None:
    bench.source.connector.settings = acme.Settings(poll_interval_s=0.05)
    bench.vendor(Page(cursor="c"))
    began = asyncio.get_running_loop().time()
    turning()
    await until(lambda: len(bench.asked) == 4)
    assert 0.95 * 0.15 <= asyncio.get_running_loop().time() - began < 10


async def test_resume_asks_at_once(bench: Bench, turning: Any) -> None:
    bench.vendor(AuthError("401"))
    turning()
    await until(lambda: len(bench.asked) == 1)
    bench.vendor(Page(cursor="c1"))
    bench.poller.resume()
    await until(lambda: len(bench.asked) == 2 and bench.door == "up")


async def test_one_call_at_a_time(bench: Bench, turning: Any) -> None:
    answer = asyncio.Event()

    async def slow() -> Page:
        await answer.wait()
        return Page(cursor="c")

    bench.vendor(slow)
    turning()
    await until(lambda: len(bench.asked) == 1)
    for _ in range(50):
        bench.poller.resume()
        await asyncio.sleep(0)
    assert len(bench.asked) == 1
    answer.set()
    await until(lambda: len(bench.asked) == 2)


async def test_a_cancelled_call_leaves_the_cursor(bench: Bench, turning: Any) -> None:
    bench.vendor(Page(cursor="c1", more=True), asyncio.Event().wait)
    task = turning()
    await until(lambda: len(bench.asked) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await bench.cursor() == "c1"


async def test_the_metrics_say_whether_the_door_is_up(bench: Bench) -> None:
    for answer, up in ((Page(), b"1.0"), (TransientError("x"), b"0.0"), (Page(), b"1.0")):
        bench.vendor(answer)
        await bench.poller.round()
        assert b'gateway_door_up{door="poll",source="acme"} ' + up in generate_latest(bench.metrics.registry)


async def test_the_first_start_of_a_source_stays_the_same_over_restarts(start, erp) -> None:
    heard: list[Any] = []

    async def poll(since: Any, **_: Any) -> Page:
        heard.append(since)
        return Page()

    acme.faults["poll"] = poll
    for n in range(1, 4):
        running = await start(erp.url)
        await running.until(lambda n=n: reached(heard, n))
        await running.stop()
    assert heard[0] == heard[1] == heard[2]


async def reached(heard: list[Any], count: int) -> bool:
    return len(heard) >= count


class TestOpenOrders:
    """A vendor that is asked order by order."""

    def asking(self, bench: Any, answer: Any) -> Any:
        @hookimpl
        async def poll(cursor: str | None, open_orders: Sequence[OpenOrder]) -> Page:
            return Page(events=await answer(open_orders))

        hooks = {name: getattr(acme, name) for name in ("describe", "verify", "ingest", "normalize")}
        connector = Connector(SimpleNamespace(**hooks, poll=poll), "acme")
        connector.settings = acme.Settings()
        bench.source.connector = connector
        return bench

    async def open(self, bench: Any, count: int) -> None:
        await bench.store.accept("acme", "webhook", incoming([acme.event(acme.body(f"o{n:03}")) for n in range(count)]))
        rows = await bench.store.lease_inbox("acme", 1000)
        body = encode(
            Message(
                key="k", kind="order.placed", source="acme", vendor="acme", occurred_at=None, received_at=rows[0].received_at, order=Order()
            )
        )
        made = []
        for row in rows:
            delivery = Delivery(target="erp", kind="order.placed", body=body, sha256=b"")
            made.append(Prepared(row=row, key=row.key, n=1, deliveries=(delivery,), open=True))
        await bench.store.prepared(made)

    async def test_every_open_order_is_asked_for_in_batches(self, store: SqliteStore, clock: ManualClock) -> None:
        batches: list[list[str]] = []

        async def answer(open_orders: Sequence[OpenOrder]) -> list[Event]:
            batches.append([one.order_ref for one in open_orders])
            assert all(isinstance(one.order, Order) for one in open_orders)
            return []

        bench = self.asking(Bench(store, clock), answer)
        await bench.poller.round()
        assert batches == []  # nothing is open, nothing is asked
        await self.open(bench, 120)
        await bench.poller.round()
        assert [len(batch) for batch in batches] == [50, 50, 20]
        assert sorted(ref for batch in batches for ref in batch) == [f"o{n:03}" for n in range(120)]

    async def test_what_it_finds_is_stored(self, store: SqliteStore, clock: ManualClock) -> None:
        async def answer(open_orders: Sequence[OpenOrder]) -> list[Event]:
            return [Event(key=f"{one.order_ref}:changed", order_ref=one.order_ref, document=b"{}") for one in open_orders]

        bench = self.asking(Bench(store, clock), answer)
        await self.open(bench, 2)
        await bench.poller.round()
        await bench.poller.round()
        assert [row["key"] for row in await bench.rows()][2:] == ["acme/o000:changed", "acme/o001:changed"]
