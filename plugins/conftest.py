"""Clock and ERP for the tests of all plugins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.testing import ErpSimulator, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def erp() -> AsyncIterator[ErpSimulator]:
    async with ErpSimulator() as erp:
        yield erp
