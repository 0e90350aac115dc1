"""The acknowledge step: what the vendor is told, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway import AuthError, PermanentError, RateLimited, TransientError
from gateway.api.errors import PluginError
from gateway.engine.acknowledge import Acknowledge
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.incoming import incoming
from gateway.store.sqlite import SqliteStore
from gateway.testing import ManualClock
from tests import acme
from tests.engine.test_prepare import source


class Vendor:
    """Takes marks; says which of them it does not want to confirm."""

    def __init__(self) -> None:
        self.marked: list[list[str]] = []
        self.unwilling: set[str] = set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        marks = await request.json()
        confirmed = [mark for mark in marks if mark[0] not in self.unwilling]
        self.marked += confirmed
        return web.json_response([mark[0] for mark in confirmed])


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    vendor = Vendor()
    application = web.Application()
    application.router.add_post("/marks", vendor.take)
    server = TestServer(application)
    await server.start_server()
    vendor.url = str(server.make_url(""))
    yield vendor
    await server.close()


async def test_both_stages_reach_the_vendor(start: Any, erp: Any, vendor: Vendor) -> None:
    running = await start(erp.url, settings=f'base_url = "{vendor.url}"\nacknowledge = ["stored", "delivered"]')
    await running.deliver(acme.body("o1"))
    await running.deliver(acme.body("o1"))
    await running.until(lambda: marked(vendor, 2))
    assert sorted(vendor.marked) == [["o1", "delivered"], ["o1", "stored"]]


async def marked(vendor: Vendor, count: int) -> bool:
    return len(vendor.marked) >= count


async def test_delivered_is_not_said_before_the_erp_has_it(start: Any, erp: Any, vendor: Vendor) -> None:
    erp.arm("status", status=422, times=99)
    running = await start(erp.url, settings=f'base_url = "{vendor.url}"\nacknowledge = ["stored", "delivered"]')
    await running.deliver(acme.body("o1"))
    await running.until(lambda: marked(vendor, 1))
    assert vendor.marked == [["o1", "stored"]]


class Bench:
    def __init__(self, store: SqliteStore, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        made = source(clock, stages=frozenset({"stored"}))
        made.connector = Connector(acme, "acme")
        made.connector.settings = acme.Settings()
        self.step = Acknowledge(made, store, Metrics(clock), clock)

    async def accept(self, *refs: str) -> None:
        await self.store.accept("acme", "poll", incoming([acme.event(acme.body(ref)) for ref in refs], {"stored"}))

    async def counts(self) -> dict[str, int]:
        found = await self.store._run(lambda db: db.execute("SELECT status, count(*) FROM acknowledgements GROUP BY 1").fetchall())
        return dict(found)


@pytest.fixture
def bench(store: SqliteStore, clock: ManualClock) -> Bench:
    return Bench(store, clock)


def answers(*outcomes: Any) -> list[list[str]]:
    """Let the vendor answer so, call by call; what it was asked each time."""
    asked: list[list[str]] = []
    queue = list(outcomes)

    async def acknowledge(receipts: Any) -> Any:
        asked.append(sorted(receipt.reference for receipt in receipts))
        outcome = queue.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return [receipt.id for receipt in receipts if receipt.reference in outcome]

    acme.faults["acknowledge"] = acknowledge
    return asked


async def test_only_the_unconfirmed_are_tried_again(bench: Bench, clock: ManualClock) -> None:
    asked = answers({"o1"}, {"o2"})
    await bench.accept("o1", "o2")
    assert await bench.step.run_once()
    assert not await bench.step.run_once()
    clock.advance(3600)
    assert await bench.step.run_once()
    assert asked == [["o1", "o2"], ["o2"]]
    assert await bench.counts() == {"done": 2}


@pytest.mark.parametrize("error", [TransientError("503"), AuthError("401"), RateLimited("429", retry_after_s=9), TimeoutError()])
async def test_a_passing_failure_loses_none(bench: Bench, clock: ManualClock, error: Exception) -> None:
    asked = answers(error, {"o1", "o2"})
    await bench.accept("o1", "o2")
    await bench.step.run_once()
    assert await bench.counts() == {"ready": 2}
    clock.advance(3600)
    await bench.step.run_once()
    assert asked == [["o1", "o2"], ["o1", "o2"]]


@pytest.mark.parametrize("error", [PermanentError("410"), ZeroDivisionError(), SystemExit()])
async def test_what_can_never_work_is_a_dead_letter(bench: Bench, error: BaseException) -> None:
    answers(error)
    await bench.accept("o1")
    await bench.step.run_once()
    assert await bench.counts() == {"dead": 1}


async def test_a_vendor_that_is_away_for_a_week_is_given_up(bench: Bench, clock: ManualClock) -> None:
    answers(*[TransientError("503")] * 400)
    await bench.accept("o1")
    for _ in range(300):
        await bench.step.run_once()
        clock.advance(3600)
    assert await bench.counts() == {"dead": 1}


async def test_ids_that_are_not_its_own_are_refused(bench: Bench) -> None:
    async def acknowledge(receipts: Any) -> Any:
        return [4711]

    acme.faults["acknowledge"] = acknowledge
    with pytest.raises(PluginError):
        await bench.step._source.connector.acknowledge([], None)
