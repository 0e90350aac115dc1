"""The command API on one disk: the real door, the real store and the real submit step, with a process that can die at every call."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from multidict import CIMultiDict

from gateway.config.settings import CallerSettings
from gateway.edge.callers import Callers
from gateway.edge.submit import SubmitDoor
from gateway.engine.submit import Submit
from gateway.metrics import Metrics
from gateway.outbound.vendor import HttpVendorClient
from gateway.plugin.connector import Connector
from gateway.service.runtime import vendor_session
from gateway.store.row_names import Queue
from gateway.store.sqlite import SqliteStore
from tests import order_vendor
from tests.direct_request import Asked
from tests.engine.test_prepare import source

from .vendor import Does, Looks, ScriptedVendor
from .world import Cut, Mortal, World

TOKEN = "constructed"
CALLERS = {
    "erp": CallerSettings(token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest(), commands=("acme/*",), max_requests_per_second=10**9)
}
UNSUBJECT = {"send_note"}


class Handed(Struct, frozen=True):
    """A submission as the store has it."""

    id: str
    row: str
    key: str
    command: str
    number: str | None
    status: str
    outcome: str | None
    reason: str | None
    has_body: bool


class Outward(World):
    """One machine with its gateway, its caller and its vendor."""

    queues: tuple[Queue, ...] = ("submit",)

    def __init__(self, folder: Path, make: Callable[..., SqliteStore] = SqliteStore) -> None:
        super().__init__(folder, "hold", "header", make)

    async def open(self) -> None:
        self.pharmacy = ScriptedVendor(self.clock)
        await self.pharmacy.start()
        connector = Connector(order_vendor, "acme")
        connector.settings = order_vendor.Settings(base_url=self.pharmacy.url)
        api = connector.api()
        assert api is not None
        self._session = vendor_session(api, private=True)
        client = HttpVendorClient(api, self._session, self.clock)
        self._source = source(self.clock, module=order_vendor, client=client, stages=frozenset())
        self._source.connector.settings = connector.settings
        await self._boot()

    async def close(self) -> None:
        await self._bury()
        await self.store.close()
        await self._session.close()
        await self.pharmacy.stop()
        self._sweep()

    async def _start(self) -> None:
        self.mortal: Any = Mortal(self.store)
        self._mortals.append(self.mortal)
        metrics = Metrics(self.clock)
        self.step = Submit(self._source, self.mortal, metrics, self.clock)
        self._door = SubmitDoor(self.mortal, metrics, self.clock)
        self._door.serve({"acme": self._source}, Callers(CALLERS), 10_000)

    async def _bury(self) -> None:
        for mortal in self._mortals:
            mortal.dead = True
        self._mortals.clear()
        await self.step.drain(0.0)
        self.pharmacy.let_hang_up()

    # --- what happens

    async def submit_command(self, key: str, command: str, number: str, qty: int) -> tuple[int, dict[str, Any], bool]:
        """The status, what is said, and whether it is marked as a repeat."""
        headers = CIMultiDict({"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key, "Content-Type": "application/json"})
        said = {"number": number} if command == "get_order" else {"number": number, "qty": qty}
        asked: Any = Asked("POST", f"/out/acme/{command}", headers, json.dumps(said).encode())
        answer: Any = await self._door.receive(asked)
        return answer.status, json.loads(answer.body), "Idempotent-Replayed" in answer.headers

    async def send(self, does: Mapping[str, Does], answers: Mapping[str, Looks]) -> int:  # type: ignore[override]
        """Lease and say what may be said; returns when each has its answer or hangs."""
        self.pharmacy.turn(does, answers)
        started = await self.step.run_once()
        while busy := [task for task in self.step._tasks if task.get_name().split(" ")[1] not in self.pharmacy.hanging]:
            hangs = asyncio.ensure_future(self.pharmacy.hangs.wait())
            await asyncio.wait([*busy, hangs], return_when=asyncio.FIRST_COMPLETED)
            hangs.cancel()
            self.pharmacy.hangs.clear()
        if self.mortal.dead:
            raise Cut
        return started

    async def stop(self) -> None:
        """A shutdown that cuts short what hangs, and a start."""
        await self.step.drain(0.0)
        self.pharmacy.let_hang_up()
        await self._start()
        await self.store.release_all_leases()

    # --- what there is

    async def handed(self) -> dict[str, Handed]:
        """By id, oldest first."""
        sql = "SELECT public_id, 'submit:' || id, key, command, subject, status, outcome, reason, body IS NOT NULL FROM submit ORDER BY id"
        return {row[0]: Handed(*row[:-1], bool(row[-1])) for row in await self.rows(sql)}  # type: ignore[call-arg]
