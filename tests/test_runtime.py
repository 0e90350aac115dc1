"""The tasks of a running configuration."""

from __future__ import annotations

import pytest
from loglines import log_lines


@pytest.mark.parametrize("name", ["prepare acme", "deliver erp", "poll acme"])
async def test_a_task_that_ends_unasked_ends_the_process_and_says_so(start, erp, name) -> None:
    """Without it a source or target would stand still, and nobody would hear of it; systemd starts the process again."""
    running = await start(erp.url)
    (task,) = (one for one in running.gateway._runtime._tasks if one.get_name() == name)
    with log_lines() as lines:
        task.cancel()
        assert await running.task == 1
    assert [line for line in lines if '"task.died"' in line and f'"{name}"' in line]
