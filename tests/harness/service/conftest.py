from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.testing import ErpSimulator

from .serving import Installation


@pytest.fixture
def installation(tmp_path: Path, erp: ErpSimulator) -> Installation:
    """A gateway that is set up and not started."""
    return Installation(tmp_path, erp.url)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def other() -> AsyncIterator[ErpSimulator]:
    """A second ERP, to change over to."""
    other = ErpSimulator()
    await other.start()
    yield other
    await other.stop()
