"""What a hub has pushed, while reading and storing overlap."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.api.errors import TransientError
from gateway.edge.push_buffer import PushBuffer
from gateway.metrics import Metrics
from gateway.store.arrivals import Accepted, NewEvent
from gateway.store.base import Store
from gateway.testing import ManualClock
from tests import acme
from tests.engine.test_prepare import source


class HookRunner:
    """Calls come back when the test says so, as from a thread."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(0)

    async def run(self, _: str, call: Any) -> Any:
        await self.turns.acquire()
        return call()


class Shop:
    """A store that commits when the test says so."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(0)
        self.stored: list[str] = []

    async def accept(self, _source: str, _door: str, events: list[NewEvent]) -> list[Accepted]:
        await self.turns.acquire()
        self.stored += [event.key for event in events]
        return [Accepted(key=event.key, outcome="stored") for event in events]


async def steps() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_read_while_the_store_takes_what_is_ready_is_stored_too(clock: ManualClock) -> None:
    hook_runner, shop = HookRunner(), Shop()
    made = source(clock, doors=("realtime",), hook_runner=cast("Any", hook_runner))
    intake = PushBuffer(made, cast("Store", shop), Metrics(clock), clock)
    running = asyncio.create_task(intake.run())
    for n in range(2):  # the first is being committed, the second is ready
        await intake.put(acme.body(f"o{n}"))
        hook_runner.turns.release()
        await steps()
    for n in range(2, 4):
        await intake.put(acme.body(f"o{n}"))
        await steps()
    shop.turns.release()  # the second is taken while the third is being read
    await steps()
    hook_runner.turns.release()
    await steps()
    hook_runner.turns.release()
    for _ in range(4):
        shop.turns.release()
        await steps()
    assert not running.done()
    assert len(shop.stored) == 4
    await asyncio.wait_for(intake.drained(), 5)
    running.cancel()
    await asyncio.wait([running])


async def test_what_was_read_does_not_wait_for_what_cannot_be_read_now(clock: ManualClock) -> None:
    class Stands(HookRunner):
        async def run(self, _: str, call: Any) -> Any:
            if self.turns.locked():
                raise TransientError("the connector does not come back within 10 s")
            return await super().run(_, call)

    hook_runner, shop = Stands(), Shop()
    intake = PushBuffer(
        source(clock, doors=("realtime",), hook_runner=cast("Any", hook_runner)), cast("Store", shop), Metrics(clock), clock
    )
    hook_runner.turns.release()
    shop.turns.release()
    await intake.put(acme.body("o1"))
    await intake.put(acme.body("o2"))
    running = asyncio.create_task(intake.run())
    await steps()
    assert len(shop.stored) == 1
    running.cancel()
    await asyncio.wait([running])
