"""One real Tryton for the session, and its simulator beside it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.testing.erps import Tryton
from tests.tryton import server
from tests.tryton.client import TrytonClient

# Making the server takes a minute or two.
LONG = pytest.mark.long


@pytest.fixture(scope="session")
def trytond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.TrytonServer]:
    """A running server. Skips where the package index cannot be reached; with TRYTON=required that is a failure."""
    try:
        with server.made() as made:
            running = server.TrytonServer(made, Path(tmp_path_factory.mktemp("tryton")))
    except server.IndexUnreachable as error:
        if os.environ.get("TRYTON") == "required":
            raise
        pytest.skip(f"Tryton cannot be installed, the package index does not answer: {str(error)[-300:]}")
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def real(trytond: server.TrytonServer) -> AsyncIterator[TrytonClient]:
    async with TrytonClient(trytond.models, trytond.key) as client:
        yield client


@pytest.fixture(params=[pytest.param("real", marks=LONG), "simulated"])
async def tryton(request: pytest.FixtureRequest) -> AsyncIterator[TrytonClient]:
    """A client of each, so that what is said of one is said of the other."""
    if request.param == "real":
        running = request.getfixturevalue("trytond")
        async with TrytonClient(running.models, running.key) as client:
            yield client
        return
    simulator = Tryton()
    await simulator.start()
    async with TrytonClient(f"{simulator.address}/erp/rest/model", simulator.key) as client:
        yield client
    await simulator.stop()
