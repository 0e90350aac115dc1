"""A delivery that nobody knows the end of is seen wherever an operator looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.cli import main as cli
from gateway.testing import ErpSimulator
from tests import acme

TARGET = """
idempotency = { strategy = "lookup" }
[targets.erp.preflight]
url = "URL"
query = { name = "{order.order_ref}" }
found = "$count(body.value) > 0"
"""


@pytest.fixture
async def unkeyed() -> AsyncIterator[ErpSimulator]:
    erp = ErpSimulator(honours_key=False)
    await erp.start()
    yield erp
    await erp.stop()


async def unknown(running: Any) -> bool:
    return bool(await running.rows("outbox", status="unknown"))


async def test_an_unknown_delivery_is_seen_everywhere(start: Any, unkeyed: ErpSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    running = await start(unkeyed.url, target=TARGET.replace("URL", unkeyed.url))
    unkeyed.arm("drop_before")
    await running.deliver(acme.body("o1"))
    await running.until(lambda: unknown(running))
    _, status = await running.get("/api/status")
    assert (status["outbox"]["unknown"], "unknown" in status["inbox"]) == (1, False)
    _, metrics = await running.get("/metrics")
    assert 'gateway_rows{queue="outbox",status="unknown"} 1.0' in metrics
    assert 'gateway_deliveries_total{outcome="unknown",target="erp"} 1.0' in metrics
    _, page = await running.get("/")
    assert '<th scope="col">Unknown</th>' in page
    assert '<td class="look">1</td>' in page
    assert (await running.get("/api/inbox?status=unknown"))[0] == 400
    config = ["--config", str(running.config)]
    assert await asyncio.to_thread(cli.main, ["outbox", "--status", "unknown", *config]) == 0
    listed = capsys.readouterr().out
    assert "acme/o1/1" in listed
    assert "unknown" in listed
    drop = ["drop", "acme/o1/1", "--reason", "ordered by phone", *config]
    await running.until(lambda: asyncio.to_thread(lambda: cli.main(drop) == 0))  # now and then it is just being looked up
    assert (await running.rows("outbox"))[0]["outcome"] == "dropped"
