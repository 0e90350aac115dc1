"""Figures of the realtime door on this machine: `.venv/bin/python -m tests.edge.measure_hub`.

A hub in a process of its own sends 10,000 events; how many a second arrive in the connector (C1), how many are committed, and
how much memory it takes; then 100 MB wait for a store that is stuck (C12).
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests import hub_connector
from tests.edge import hub_checks
from tests.edge.hub_process import KINDS, HubProcess
from tests.edge.listening import listening

COUNT = 10_000
OPTIONS = ("--keep-alive", "1", "--client-timeout", "60")


async def arriving(hub: HubProcess, per_frame: int, *, stored: bool) -> tuple[float, float]:
    """Events a second, and the memory that came on top."""
    arrived: list[float] = []

    def ingest(envelope: Any) -> list[Any]:
        arrived.append(time.monotonic())
        if stored:
            id, quantity = json.loads(envelope.body)["arguments"]
            return [hub_connector.event(id, quantity)]
        return []

    with tempfile.TemporaryDirectory() as folder:
        async with listening(Path(folder), hub.url, server_timeout_s=5.0, connect_timeout_s=5.0) as door:
            await door.up()
            hub_connector.faults["ingest"] = ingest
            gc.collect()
            before, most = hub_checks.rss_mb(), 0.0
            sending = asyncio.create_task(hub.burst(COUNT, "OrderChanged", "n{n}", 1, per_frame=per_frame))
            while (door.counted("stored") if stored else len(arrived)) < COUNT:
                await asyncio.sleep(0.005)
                most = max(most, hub_checks.rss_mb() - before)
            took_s = time.monotonic() - arrived[0]
            await sending
    hub_connector.faults.clear()
    return COUNT / took_s, most


async def main() -> None:
    for kind in KINDS:
        try:
            hub = HubProcess(kind, *OPTIONS)
        except pytest.skip.Exception as reason:
            print(f"{kind}: {reason}")
            continue
        try:
            await hub.start()
            for per_frame in (1, 50):
                for stored in (False, True):
                    runs = [await arriving(hub, per_frame, stored=stored) for _ in range(5)]
                    rate, memory = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
                    what = "committed" if stored else "into the connector"
                    print(f"{kind}: {per_frame} per frame, {what}: {rate:,.0f} events/s, RSS +{memory:.1f} MB (median of 5, most)")
        finally:
            hub.kill()
    hub = HubProcess("fault hub", "--keep-alive", "0.2", "--client-timeout", "60")
    try:
        await hub.start()
        with tempfile.TemporaryDirectory() as folder:
            gc.collect()
            stuck = await hub_checks.check_a_stuck_store_loses_nothing(
                Path(folder), hub, count=25_000, bytes_each=4000, server_timeout_s=1.2
            )
        print(f"a store stuck for 3.6 s with 100 MB waiting: RSS +{stuck['grown_mb']:.1f} MB, online, all in order afterwards")
    finally:
        hub.kill()


if __name__ == "__main__":
    asyncio.run(main())
