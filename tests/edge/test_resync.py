"""The poller, asked by the realtime door for a round: one at a time, begun after the question, and honest about its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway import AuthError, Page, RateLimited, TransientError
from gateway.edge.poller import Poller
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.source import Source
from gateway.store.sqlite import SqliteStore
from gateway.testing import ManualClock
from tests import hub_connector


class Bench:
    """A running poller, and a vendor that answers when it is told to."""

    def __init__(self, store: SqliteStore, clock: ManualClock) -> None:
        connector = Connector(hub_connector, "hubby")
        connector.settings = hub_connector.Settings(poll_interval_s=300.0)
        source = Source(
            name="acme", connector=connector, doors=("poll",), on_revision="hold", destinations=(), stages=frozenset(),
            max_body_bytes=1, max_requests_per_second=1, since=clock.now(), vendor="hubby",
        )  # fmt: skip
        self.poller = Poller(source, store, Metrics(clock), clock)
        self.clock = clock
        self.began = 0
        self.at_once = 0
        self.most_at_once = 0
        self.answers: asyncio.Queue[Page | BaseException] = asyncio.Queue()
        hub_connector.faults["poll"] = self._poll

    async def _poll(self, cursor: str | None) -> Any:
        self.began += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        answer = await self.answers.get()
        self.at_once -= 1
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def answered(self, answer: Page | BaseException, began: int) -> None:
        """Answer the round under way, and see the poller begin its `began`th or rest."""
        self.answers.put_nowait(answer)
        await settle(lambda: self.began == began and self.answers.empty())

    def ask(self) -> asyncio.Task[None]:
        async def asked() -> None:
            await self.poller.resync()

        return asyncio.create_task(asked())


async def settle(condition: Callable[[], bool]) -> None:
    """Give everything time to happen, and a little more, in case too much does."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.03)
    assert condition()


@pytest.fixture
async def bench(store: SqliteStore, clock: ManualClock) -> AsyncIterator[Bench]:
    made = Bench(store, clock)
    task = asyncio.create_task(made.poller.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert made.most_at_once == 1


async def test_it_asks_at_once_and_says_when_it_is_done(bench: Bench) -> None:
    await bench.answered(Page(), began=1)
    asked = bench.ask()
    await settle(lambda: bench.began == 2)
    assert not asked.done()
    await bench.answered(Page(), began=2)
    assert asked.done()


async def test_a_round_under_way_does_not_count_and_the_next_begins_at_once(bench: Bench) -> None:
    await settle(lambda: bench.began == 1)
    asked = bench.ask()
    await bench.answered(Page(), began=2)
    assert not asked.done()
    await bench.answered(Page(), began=2)
    assert asked.done()


async def test_several_questions_are_one_round(bench: Bench) -> None:
    await bench.answered(Page(), began=1)
    asked = [bench.ask() for _ in range(3)]
    await bench.answered(Page(), began=2)
    assert [one.done() for one in asked] == [True] * 3


async def test_a_round_is_over_when_there_is_no_more(bench: Bench) -> None:
    await bench.answered(Page(), began=1)
    asked = bench.ask()
    await bench.answered(Page(cursor="1", more=True), began=3)
    assert not asked.done()
    await bench.answered(Page(cursor="2"), began=3)
    assert asked.done()


async def test_a_round_that_fails_leaves_the_question_open_until_one_goes_well(bench: Bench) -> None:
    await bench.answered(Page(), began=1)
    asked = bench.ask()
    await bench.answered(TransientError("not now"), began=2)
    assert not asked.done()
    bench.poller.resume()
    await settle(lambda: bench.began == 3)
    await bench.answered(Page(), began=3)
    assert asked.done()


async def test_a_new_question_is_asked_at_once_although_the_last_round_failed(bench: Bench) -> None:
    await bench.answered(TransientError("not now"), began=1)
    asked = bench.ask()
    await bench.answered(Page(), began=2)
    assert asked.done()


@pytest.mark.parametrize(
    ("error", "quiet_s"),
    [(RateLimited("slower", retry_after_s=60), 60), (AuthError("401"), 900), (TransientError("maintenance", retry_after_s=600), 600)],
)
async def test_a_vendor_that_wants_quiet_has_it_however_often_the_hub_comes_and_goes(bench: Bench, error: Exception, quiet_s: int) -> None:
    await settle(lambda: bench.began == 1)
    during = bench.ask()
    await bench.answered(error, began=1)
    after = [bench.ask() for _ in range(3)]
    bench.clock.advance(quiet_s - 1)
    after.append(bench.ask())
    await settle(lambda: bench.began == 1)
    bench.clock.advance(1)
    after.append(bench.ask())
    await bench.answered(Page(), began=2)
    assert [one.done() for one in (during, *after)] == [True] * 6


async def test_an_operator_is_heard_all_the_same(bench: Bench) -> None:
    await bench.answered(AuthError("401"), began=1)
    asked = bench.ask()
    bench.poller.resume()
    await bench.answered(Page(), began=2)
    assert asked.done()
    asked = bench.ask()  # the quiet that the vendor wanted is over with it
    await bench.answered(Page(), began=3)
    assert asked.done()


async def test_somebody_who_does_not_wait_any_more_is_forgotten(bench: Bench) -> None:
    await settle(lambda: bench.began == 1)
    gone = bench.ask()
    await asyncio.sleep(0)
    gone.cancel()
    await bench.answered(Page(), began=1)
    asked = bench.ask()
    await bench.answered(Page(), began=2)
    assert (gone.cancelled(), asked.done()) == (True, True)
