"""Tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any


async def run_together(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until all tasks are done or one fails, cancel the others, and raise the error of the first in order."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
    finally:
        await cancel(tasks)


async def wait_for_first(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until one of the tasks is done, then cancel the others."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(tasks)


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
