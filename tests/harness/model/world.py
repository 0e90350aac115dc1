"""The real store and the real steps on one disk, with a process that can die at every call of the store."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from msgspec import Struct

from gateway.api.messages import Receipt
from gateway.engine.acknowledge import Acknowledge
from gateway.engine.deliver import Deliver
from gateway.engine.prepare import Prepare
from gateway.metrics import Metrics
from gateway.plugin.incoming import incoming
from gateway.store.row_names import Queue, row_name
from gateway.store.sqlite import SqliteStore
from gateway.targets.http import HttpTarget
from gateway.testing import ManualClock
from tests import acme
from tests.engine.test_prepare import source
from tests.engine.unkeyed import LOOKUP, settings

from .erp import Answer, ScriptedErp

Strategy = Literal["header", "lookup"]
QUEUES: tuple[Queue, ...] = ("inbox", "outbox", "acknowledgements")
ONE_BY_ONE = LOOKUP.replace("[preflight]", '[preflight]\nper = "message"').replace("{order.order_ref}", "{message.key}")
MORE = {"retry": {"base_s": 2.0, "cap_s": 900.0, "max_age_s": 86400.0}, "breaker": {"failures": 100000}, "read_timeout_s": 60.0}


class Cut(BaseException):
    """The process is gone."""


class Mortal:
    """A store whose process ends at one of its calls, before or after the commit."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.calls_left: int | None = None
        self.commits_last = False
        self.dead = False

    def die_at(self, call: int, committed: bool) -> None:
        """At the call after `call` more ones, before or after its commit."""
        self.calls_left, self.commits_last = call, committed

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **more: Any) -> Any:
            if self.calls_left is not None:
                self.calls_left -= 1
                if self.calls_left < 0 and not self.dead:
                    self.dead = True
                    if self.commits_last:
                        await method(*arguments, **more)
            if self.dead:
                raise Cut
            return await method(*arguments, **more)

        return call


class Fate(Struct, frozen=True):
    """What the store says has become of one version; `message` where one was made of it."""

    row: str
    status: str
    outcome: str | None
    reason: str | None
    message: Fate | None = None
    key: str | None = None


class Vendor:
    """Hears acknowledgements; confirms some of them."""

    def __init__(self) -> None:
        self.confirms: Callable[[Receipt], bool] = lambda _: True

    async def acknowledge(self, receipts: Sequence[Receipt]) -> list[int]:
        return [receipt.id for receipt in receipts if self.confirms(receipt)]


class World:
    """One machine with its gateway, its ERP and its vendor. `open()`, then anything, then `close()`.

    Args:
        make: Opens a store; a known-bad mutant passes one with a fault in it.
    """

    queues: tuple[Queue, ...] = QUEUES

    def __init__(self, folder: Path, policy: str, strategy: Strategy, make: Callable[..., SqliteStore] = SqliteStore) -> None:
        self._folder, self._policy, self._strategy, self._make = folder, policy, strategy, make
        self._life = 0
        self._retired: list[HttpTarget] = []
        self._late: list[Deliver] = []
        self._mortals: list[Mortal] = []
        self.clock = ManualClock()
        self.erp = ScriptedErp(honours_key=strategy == "header")
        self.vendor = Vendor()

    async def open(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.erp.handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        acme.faults["acknowledge"] = self.vendor.acknowledge
        url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/orders"
        self._settings = settings(ONE_BY_ONE if self._strategy == "lookup" else "", url, **MORE)
        stages = frozenset({"stored", "delivered"})
        self._source = source(self.clock, on_revision=self._policy, stages=stages, client=object())
        await self._boot()

    async def close(self) -> None:
        await self._bury()
        await self.store.close()
        acme.faults.clear()
        await self._runner.cleanup()
        self._sweep()

    def _sweep(self) -> None:
        shutil.rmtree(self._folder)

    async def _boot(self) -> None:
        (self._folder / str(self._life)).mkdir(parents=True, exist_ok=True)
        self.store = self._make(self._folder / str(self._life) / "gateway.db", clock=self.clock)
        await self.store.open()
        await self.store.register(["acme"])
        await self._start()

    async def _start(self) -> None:
        """What `Runtime.start` does, for one source and one target."""
        self.mortal: Any = Mortal(self.store)
        self._mortals.append(self.mortal)
        self._target = HttpTarget("erp", self._settings, self.clock)
        await self._target.open()
        self.deliver = Deliver(self._target, {"acme": self._source}, self.mortal, Metrics(self.clock), self.clock)
        self._prepare = Prepare(self._source, self.mortal, Metrics(self.clock), self.clock)
        self._acknowledge = Acknowledge(self._source, self.mortal, Metrics(self.clock), self.clock)

    # --- what happens

    async def accept(self, ref: str, content: int) -> tuple[str, str]:
        (said,) = await self.mortal.accept("acme", "webhook", incoming([acme.event(acme.body(ref, content))], self._source.stages))
        return said.key, said.outcome

    async def prepare(self) -> bool:
        return await self._prepare.run_once()

    async def acknowledge(self, confirms: Callable[[Receipt], bool] = lambda _: True) -> bool:
        self.vendor.confirms = confirms
        return await self._acknowledge.run_once()

    async def released(self) -> None:
        """Somebody says that a held target is mended."""
        self.deliver.release()

    async def send(self, answers: Mapping[str, Answer], limit: int = 100) -> int:
        """Lease and deliver what may fly; returns when each has its answer or stalls."""
        self.erp.answers = dict(answers)
        free = min(limit, self.deliver._allowance())
        leased = await self.deliver._start_up_to(free) if free > 0 else 0
        while busy := [task for task in self.deliver._tasks if task.get_name().split(" ")[1] not in self.erp.stalled]:
            stalls = asyncio.ensure_future(self.erp.stalls.wait())
            await asyncio.wait([*busy, stalls], return_when=asyncio.FIRST_COMPLETED)
            stalls.cancel()
            self.erp.stalls.clear()
        if self.mortal.dead:
            raise Cut
        return leased

    async def reload(self) -> None:
        """New workers take over while answers to the old ones are still on their way."""
        self._retired.append(self._target)
        self.erp.orphan()
        if self.deliver._tasks:
            self._late.append(self.deliver)
        await self._start()
        await self.store.release_all_leases()

    async def late(self, answer: Answer) -> None:
        """What stalled is answered at last."""
        self.erp.end_stalls(answer)
        for deliver in (*self._late, self.deliver):
            if deliver._tasks:
                await asyncio.wait(deliver._tasks)
        self._late.clear()

    async def die(self) -> None:
        """The process is gone at this moment, and another starts with what the disk holds."""
        await self._bury()
        old = self._folder / str(self._life)
        self._life += 1
        new = self._folder / str(self._life)
        new.mkdir()
        for name in ("gateway.db", "gateway.db-wal"):
            if (old / name).exists():
                shutil.copyfile(old / name, new / name)
        await self.store.close()  # of what is no longer looked at
        shutil.rmtree(old)
        await self._boot()

    async def _bury(self) -> None:
        tasks = [task for deliver in (*self._late, self.deliver) for task in deliver._tasks]
        for mortal in self._mortals:
            mortal.dead = True
        self._mortals.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._late.clear()
        self.erp.end_stalls("lost")
        for target in (*self._retired, self._target):
            await target.close()
        self._retired.clear()

    # --- what there is

    async def rows(self, sql: str, *values: object) -> list[Any]:
        return await self.store.run_outside_transaction(lambda db: db.execute(sql, values).fetchall())

    async def fates(self) -> dict[tuple[str, int], Fate]:
        """By order and version."""
        made: dict[int, list[Fate]] = {}
        for id_, key, status, outcome, reason, inbox_id in await self.rows("SELECT id, key, status, outcome, reason, inbox_id FROM outbox"):
            made.setdefault(inbox_id, []).append(Fate(f"outbox:{id_}", status, outcome, reason, None, key))
        found = {}
        for id_, key, version, status, outcome, reason in await self.rows("SELECT id, key, version, status, outcome, reason FROM inbox"):
            messages = made.get(id_, [])
            assert len(messages) <= 1, f"{len(messages)} messages of version {version} of {key}"
            found[key, version] = Fate(f"inbox:{id_}", status, outcome, reason, messages[0] if messages else None)
        return found

    async def waiting(self, *statuses: str) -> list[str]:
        """The rows that a person could decide about."""
        found = []
        for queue in self.queues:
            marks = ", ".join(f"'{status}'" for status in statuses)
            found += [row_name(queue, id_) for (id_,) in await self.rows(f"SELECT id FROM {queue} WHERE status IN ({marks}) ORDER BY id")]
        return found
