"""Monitoring: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from time import time
from typing import Any

from aiohttp import web
from prometheus_client import Gauge, generate_latest

from gateway.api.errors import StoreError
from gateway.metrics import Metrics
from gateway.store.reader import Reader
from gateway.store.row_names import statuses_of
from gateway.web.status import strays

_PROVE_WITHIN_S = 3.0


class Health:
    """Endpoints for monitoring.

    Args:
        commits: Makes a test commit; raises if the store does not commit.
        refusing: Returns why new orders are refused, or None.
        configured: Returns the configured sources and targets.
    """

    def __init__(
        self,
        reader: Reader,
        metrics: Metrics,
        commits: Callable[[], Awaitable[None]],
        refusing: Callable[[], str | None],
        configured: Callable[[], tuple[Collection[str], Collection[str]]],
    ) -> None:
        self._configured = configured
        self._reader = reader
        self._metrics = metrics
        self._commits = commits
        self._refusing = refusing
        self._rows = Gauge("gateway_rows", "Rows by status", ["queue", "status"], registry=metrics.registry)
        self._strays = Gauge(
            "gateway_stray_rows", "Rows of a source or target that is no longer configured", ["queue", "name"], registry=metrics.registry
        )
        self._disk = Gauge(
            "gateway_store_bytes", "The database: file, used of it, log, and free on the disk", ["part"], registry=metrics.registry
        )
        self._days_left = Gauge(
            "gateway_disk_days_left",
            "Days until the disk is full, at the rate of the last days; NaN if it does not grow",
            registry=metrics.registry,
        )
        self._oldest = Gauge("gateway_oldest_seconds", "Age of the oldest open row", ["queue"], registry=metrics.registry)

    def add_to(self, application: web.Application) -> None:
        """Add the three routes."""
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/readyz", self.readyz)
        application.router.add_get("/metrics", self.metrics)

    async def healthz(self, _: web.Request) -> web.Response:
        """Answer 200 while the process works."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Answer 200 if the store commits and every door and target is up, else 503 with the reasons."""
        reasons: list[dict[str, Any]] = [*self._metrics.health.problems()]
        refusing = self._refusing()
        if refusing:
            reasons.append({"store": "refuses new orders", "reason": refusing})
        try:
            async with asyncio.timeout(_PROVE_WITHIN_S):
                reasons += await strays(self._reader, *self._configured())
                await self._commits()
        except (StoreError, TimeoutError) as error:
            reasons.append({"store": "does not commit", "reason": str(error) or "too slow"})
        return web.json_response({"status": "not ready" if reasons else "ready", "reasons": reasons}, status=503 if reasons else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """Answer with the metrics as Prometheus text."""
        disk = await self._reader.disk()
        for part in ("file", "used", "log", "free"):
            self._disk.labels(part).set(getattr(disk, part))
        self._days_left.set(math.nan if disk.days_left is None else disk.days_left)
        for queue, counts in (await self._reader.summary()).items():
            for status in statuses_of(queue):
                self._rows.labels(queue, status).set(counts[status])
            oldest_ms = counts["oldest_ms"]
            self._oldest.labels(queue).set(0 if oldest_ms is None else max(0.0, time() - oldest_ms / 1000))
        self._strays.clear()
        for one in await self._reader.strays(*self._configured()):
            self._strays.labels(one.queue, one.name).set(one.rows)
        text = generate_latest(self._metrics.registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
