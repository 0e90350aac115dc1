"""The rate limiter: in no minute more calls than allowed, whoever asks and however time passes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.rate_limit import RateLimiter
from gateway.testing import ManualClock


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(30):
        await asyncio.sleep(0)


class Callers:
    """Takes from a budget, and when each got through."""

    def __init__(self, per_minute: int | None) -> None:
        self.clock = ManualClock()
        self.budget = RateLimiter(per_minute, 60.0, self.clock)
        self.through: list[tuple[int, float]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self) -> asyncio.Task[None]:
        number = len(self.tasks)

        async def one() -> None:
            await self.budget.take()
            self.through.append((number, self.clock.monotonic()))

        self.tasks.append(asyncio.create_task(one()))
        return self.tasks[-1]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_without_a_limit_nobody_waits() -> None:
    callers = Callers(None)
    for _ in range(20):
        callers.ask()
    await settle()
    assert len(callers.through) == 20


async def test_a_burst_goes_through_up_to_the_limit_and_the_rest_a_minute_later() -> None:
    callers = Callers(3)
    for _ in range(5):
        callers.ask()
    await settle()
    assert len(callers.through) == 3
    callers.clock.advance(59.9)
    await settle()
    assert len(callers.through) == 3
    callers.clock.advance(0.1)
    await settle()
    assert [number for number, _ in callers.through] == [0, 1, 2, 3, 4]


async def test_a_caller_who_gives_up_costs_nothing() -> None:
    callers = Callers(1)
    callers.ask()
    await settle()
    waiting, behind = callers.ask(), callers.ask()
    await settle()
    waiting.cancel()
    await settle()
    callers.clock.advance(60)
    await settle()
    assert behind.done()
    assert [number for number, _ in callers.through] == [0, 2]
    await callers.close()


@example(per_minute=1, steps=[(0, 2.2e-309), (3, 0.0)])  # rounding once let everybody through
@given(
    per_minute=st.integers(1, 7),
    steps=st.lists(st.tuples(st.integers(0, 6), st.floats(0, 45, allow_nan=False)), min_size=1, max_size=8),
)
@settings(max_examples=50, deadline=None)
def test_never_more_than_the_limit_in_any_minute(per_minute: int, steps: list[tuple[int, float]]) -> None:
    async def run() -> None:
        callers = Callers(per_minute)
        for ask, then in steps:
            for _ in range(ask):
                callers.ask()
            await settle()
            callers.clock.advance(then)
            await settle()
        asked = len(callers.tasks)
        for _ in range(asked // per_minute + 2):
            callers.clock.advance(60.01)
            await settle()
        times = [at for _, at in callers.through]
        assert [number for number, _ in callers.through] == list(range(asked))  # first come, first served; nobody is forgotten
        for n, at in enumerate(times):
            assert sum(1 for other in times[n:] if other - at < 60 - 1e-9) <= per_minute

    asyncio.run(run())


@pytest.mark.parametrize("jump", [-3600.0, 172800.0])
async def test_a_jump_of_the_wall_clock_neither_opens_nor_closes_the_budget(jump: float) -> None:
    callers = Callers(1)
    callers.ask()
    await settle()
    callers.ask()
    await settle()
    callers.clock.jump(jump)
    callers.clock.advance(30)
    await settle()
    assert len(callers.through) == 1
    callers.clock.advance(30)
    await settle()
    assert len(callers.through) == 2
