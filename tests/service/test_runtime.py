"""The tasks of a running configuration."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.clock import to_ms
from tests.log_lines import log_lines


@pytest.mark.parametrize("name", ["prepare acme", "deliver erp", "poll acme"])
async def test_a_task_that_ends_unasked_ends_the_process_and_says_so(start, erp, name) -> None:
    """Without it a source or target would stand still, and nobody would hear of it; systemd starts the process again."""
    running = await start(erp.url)
    (task,) = (one for one in running.gateway._runtime._tasks if one.get_name() == name)
    with log_lines() as lines:
        task.cancel()
        assert await running.task == 1
    assert [line for line in lines if '"task.died"' in line and f'"{name}"' in line]


async def test_a_clock_that_is_put_back_puts_back_what_polls_call_the_first_start(start, erp) -> None:
    running = await start(erp.url)
    source = running.gateway._runtime.sources["acme"]
    first = source.since
    source.since = first + timedelta(days=2)  # as the clock had it, and the row beside it
    await running.gateway._store.run_outside_transaction(
        lambda db: db.execute("UPDATE sources SET first_started_ms = ?", (to_ms(first) + 2 * 86_400_000,)) and None
    )
    await running.gateway._maintenance._check_clock(-2 * 86_400)
    assert source.since == first


async def test_an_end_that_comes_as_soon_as_it_is_up_is_a_whole_one(start, erp) -> None:
    running = await start(erp.url)
    assert await running.stop() == 0
    assert running.gateway._store._writer.closed
