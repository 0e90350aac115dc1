"""Simulated days: orders come, go, and are let go of; does the file stop growing?

Through the store's own methods and the gateway's own housekeeping, by a clock that is moved by hand: each simulated hour housekeeping
has its round and the log is moved into the file. No HTTP: how large the file becomes is measured here, not how fast.
"""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from pathlib import Path

from benchmarks.backlog import incoming, prepared
from benchmarks.contestants import SOURCE
from benchmarks.measures import spread
from benchmarks.report import Entry, Section, Verdict
from gateway.config.settings import StoreSettings
from gateway.service.retention import RetentionJob
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.connection import WAL_LIMIT_BYTES
from gateway.testing import ManualClock

_AT_ONCE = 500
_HOURS = 24
_WHOLE = 30 * 50_000
_CAP_BYTES = 2_000_000_000
_DONE = Settlement(status="done", outcome="delivered", http_status=201, detail='{"id": 4711, "name": "SO-04711"}')


def measure(folder: Path, days: int, orders_a_day: int) -> Section:
    """The file's size after each day; the cap is 2 GB for 30 days of 50,000, and in proportion for less."""
    cap = max(_CAP_BYTES * days * orders_a_day // _WHOLE, 16 * 1024 * 1024)
    sizes = asyncio.run(_days(folder / "growth" / "gateway.db", days, orders_a_day, cap))
    entries = [Entry(name=f"day {n + 1}", figures={name: float(value) for name, value in size.items()}) for n, size in enumerate(sizes)]
    last = sizes[-1]

    def figure(name: str, value: float, aim: float, unit: str = "") -> Verdict:
        return Verdict(name=name, value=spread([value]), unit=unit, aim=aim, at_least=False)

    return Section(
        name="growth",
        what=f"{days} simulated days at {orders_a_day} orders a day, max_bytes = {cap / 1e6:.0f} MB; MB at the end of each day",
        entries=[entries[n] for n in sorted({0, days // 3, 2 * days // 3, days - 1})],
        verdicts=[
            figure("file, the largest", max(size["file"] for size in sizes), cap / 1e6, " MB"),
            figure("log, the largest", max(size["log"] for size in sizes), WAL_LIMIT_BYTES / 1e6, " MB"),
            figure("memory, last day over day 2", last["peak memory"] / sizes[min(1, days - 1)]["peak memory"], 1.1),
            figure("threads and descriptors, last day less day 1", last["fds"] - sizes[0]["fds"], 0),
        ],
    )


async def _days(database: Path, days: int, orders_a_day: int, cap: int) -> list[dict[str, float]]:
    clock = ManualClock()
    database.parent.mkdir(mode=0o700, parents=True)
    store = SqliteStore(database, clock=clock)
    await store.open()
    await store.register([SOURCE])
    house = RetentionJob(store, clock, lambda: StoreSettings(max_bytes=cap))
    sizes = []
    try:
        for day in range(days):
            log = 0
            for hour in range(_HOURS):
                share = [n for n in range(orders_a_day) if n * _HOURS // orders_a_day == hour]
                for first in range(0, len(share), _AT_ONCE):
                    await _through(store, clock, f"d{day}", share[first : first + _AT_ONCE])
                    await store.checkpoint()
                    log = max(log, _size(database, "-wal"))
                clock.advance(3600 + 1)
                await house.run_once()
                while house.busy:
                    await house.run_once()
                    await store.checkpoint()
            sizes.append(
                {
                    "file": _size(database) / 1e6,
                    "used": await store.used_bytes() / 1e6,
                    "log": log / 1e6,
                    "peak memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                    "fds": len(os.listdir("/proc/self/fd")) + threading.active_count(),
                }
            )
    finally:
        await store.close()
    return sizes


async def _through(store: SqliteStore, clock: ManualClock, prefix: str, numbers: list[int]) -> None:
    await store.accept(SOURCE, "webhook", [incoming(prefix, n, clock.now()) for n in numbers])
    await store.prepared([prepared(row, "erp") for row in await store.lease_inbox(SOURCE, _AT_ONCE)])
    rows = await store.lease_outbox("erp", _AT_ONCE)
    await asyncio.gather(*(store.settle_outbox(row, _DONE) for row in rows))


def _size(database: Path, end: str = "") -> int:
    file = Path(f"{database}{end}")
    return file.stat().st_size if file.exists() else 0
