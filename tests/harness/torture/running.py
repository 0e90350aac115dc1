"""Gateway and ERP of one round of torture: started, stopped, and judged at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.testing import ErpSimulator
from tests.harness.torture.protocol import Tally
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import Load
from tests.journey.process import SECRET, Process, driven, process

DRIVER = "tests.harness.torture.driver"


@asynccontextmanager
async def running_erp() -> AsyncIterator[ErpSimulator]:
    erp = ErpSimulator()
    await erp.start()
    try:
        yield erp
    finally:
        erp.disarm()
        await erp.stop()


@asynccontextmanager
async def running_gateway(folder: Path, *arguments: str, **parts: Any) -> AsyncIterator[tuple[Process, ErpSimulator]]:
    """Start a gateway with the connector `acme`, and its ERP. `parts`: those of `process`."""
    async with running_erp() as erp, process(folder, erp.url, *arguments, driver=DRIVER, **parts) as gateway:
        await gateway.start()
        yield gateway, erp


@asynccontextmanager
async def configured_gateway(
    folder: Path, text: str, *arguments: str, environment: Mapping[str, str] = {}
) -> AsyncIterator[tuple[Process, ErpSimulator]]:
    """Write a configuration in which `ERP` stands for the ERP's URL. The caller starts the gateway."""
    (folder / "secret").write_text(SECRET + "\n")
    async with running_erp() as erp:
        async with driven(folder, text.replace("ERP", erp.url), *arguments, driver=DRIVER, environment=environment) as gateway:
            yield gateway, erp


async def judge(load: Load, tally: Tally, gateway: Process, found: list[str], *, offset_s: float = 0.0) -> list[str]:
    """Wait for what has to arrive, and count the round; return all that was wrong. `offset_s`: by how much the gateway's clock is wrong."""
    await load.settled()
    found = found + load.problems()
    if not found:
        found = await count_stuck(tally, gateway.admin_port, offset_s=offset_s)
    tally.count(load)
    return found
