"""Composition root: builds the parts of one running gateway, and starts, reloads and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.api.errors import ConfigError, GatewayError, StoreError, StoreFailed
from gateway.clock import Clock, SystemClock
from gateway.edge.admission import SIDES, Admission
from gateway.edge.server import Listener, require_fast_parser
from gateway.edge.webhook import WebhookDoor
from gateway.engine.batch_worker import retry_commit
from gateway.metrics import Metrics
from gateway.plugin.crash_record import CrashRecord
from gateway.plugin.hook_watch import HookWatch
from gateway.plugin.task_guard import make_task
from gateway.service import systemd
from gateway.service.assembly import Assembly, assemble, needs_restart
from gateway.service.command_api import CommandApi
from gateway.service.control_socket import ControlSocket
from gateway.service.maintenance import Maintenance
from gateway.service.operations import Operations, operator_name
from gateway.service.reload import Problems, Reloads
from gateway.service.runtime import Runtime
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.store.waiting import Sides
from gateway.web.admin import Admin
from gateway.web.health import Health
from gateway.web.status import sides, status

log = logging.getLogger("gateway")

ANSWER_S = 3.0
DRAIN_S = 10.0
_SWITCH_S = 0.001
_RESTART = "[gateway], [store], [http], [admin] and the addresses and limits of [submit] change only with a restart; nothing was reloaded"


class Gateway:
    """Running gateway, from start to stop in `run()`."""

    def __init__(
        self,
        config_path: Path,
        assembly: Assembly,
        *,
        clock: Clock | None = None,
        assembled: Callable[[Path], Assembly] = assemble,
        new_store: bool = False,
    ) -> None:
        self._config_path = config_path
        self._new_store = new_store
        self._assembled = assembled
        self._clock = clock or SystemClock()
        self._metrics = Metrics(self._clock)
        self.ready = asyncio.Event()
        self._ending = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._reloads = Reloads(self._reload, self._metrics, lambda error: self._task_died("reload", error))
        self._retiring: Runtime | None = None
        self._exit_code = 0
        config = assembly.config
        self._store = SqliteStore(
            config.database,
            clock=self._clock,
            reserve_bytes=config.store.reserve_bytes,
            on_failed=self._store_failed,
            on_commit=self._metrics.commit.observe,
        )
        self._reader = SqliteReader(config.database)
        self._runtime = Runtime(assembly, self._store, self._metrics, self._clock, self._task_died)
        self._operations = Operations(self._store, self._clock, self._runtime, reload=self._reloads.outcome)
        self._crash_record = assembly.crash_record
        self._hooks = HookWatch(self._crash_record, self._metrics.health.slow_hook)
        self._maintenance = Maintenance(self._store, self._metrics, self._clock, lambda: self._runtime)
        gates = {side: Admission(side, self._metrics, self._clock, config.http) for side in SIDES}
        self._door = WebhookDoor(self._store, self._metrics, self._clock, admission=gates["http"])
        self._admin = Admin(self._reader, self._status, self._sides, allow_remote=config.admin.allow_remote)
        pages = self._admin.application()
        Health(self._reader, self._metrics, self._store.commits, lambda: self._store.refusing, self._configured).add_to(pages)
        self.vendors = Listener(
            self._door.receive,
            max_connections=config.http.max_connections,
            max_per_address=config.http.per_address,
            admission=gates["http"],
        )
        self.pages = Listener(pages, max_connections=64, admission=gates["admin"])
        self.command_api = CommandApi(self._store, self._metrics, self._clock, gates["submit"])
        self._control = ControlSocket(self._admin, self._operations, self.command_api, gates["control"])

    async def run(self) -> int:
        """Start, serve until SIGTERM or SIGINT, drain, and return the exit code. Raises ConfigError and StoreError."""
        sys.setswitchinterval(_SWITCH_S)
        asyncio.get_running_loop().set_task_factory(make_task)
        self._listen_for_signals()
        if not await self._is_up():
            return self._exit_code
        maintenance = asyncio.create_task(self._maintenance.run(), name="maintenance")
        maintenance.add_done_callback(lambda task: None if task.cancelled() else self._task_died("maintenance", task.exception()))
        try:
            await self._log_strays()
            await self._ending.wait()
        finally:
            maintenance.cancel()
            await self._stop()
        return self._exit_code

    def _listen_for_signals(self) -> None:
        """Handle signals before the slow part of a start, so that a SIGTERM stops it and a SIGHUP does not kill it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, self._reloads.ask)

    async def _is_up(self) -> bool:
        """Start; False if a signal stops the start."""
        self._starting = asyncio.create_task(self._start(), name="start")
        try:
            await self._starting
        except asyncio.CancelledError:
            if not self._ending.is_set():
                raise
            return False
        return True

    async def _start(self) -> None:
        config = self._runtime.assembly.config
        await self._store.open(new=self._new_store, waits=True)
        try:
            self._metrics.health.clock_doubt = self._store.clock_doubt()
            if self._new_store:
                await self._store.note(operator_name(), "new-store", str(config.database))
            await self._reader.open()
            self._crash_record.open(config.gateway.data_dir, make=True)
            self._hooks.start()
            self._refuse_unknown(self._runtime.assembly, await self._reader.sources())
            await self._runtime.build()
            self._runtime.start()
            self._open_webhooks()
            self.command_api.serve(self._runtime)
            await self._listen(self.pages, config.admin.address, "admin.listen")
            await self._control.open(config.gateway.data_dir)
            await self._listen(self.vendors, config.http.address, "http.listen")
            await self.command_api.listen(config.submit, self._listen)
        except BaseException:
            await self._stop()
            raise
        gc.collect()
        gc.freeze()  # objects that live as long as the process are left out of collections
        systemd.notify("READY=1", f"STATUS={len(self._runtime.sources)} sources, {len(self._runtime.deliver)} targets")
        self.ready.set()
        self._reloads.begin()
        log.info(
            "gateway.ready",
            extra={"version": __version__, "node": config.node, "pid": os.getpid(), "sources": ",".join(self._runtime.sources)},
        )

    async def _stop(self) -> None:
        systemd.notify("STOPPING=1")
        log.info("gateway.stopping")
        self._door.closing = True
        await self._reloads.end()
        await asyncio.gather(self.vendors.close(ANSWER_S), self.command_api.close(ANSWER_S))
        await asyncio.gather(*(runtime.stop(DRAIN_S) for runtime in (self._retiring, self._runtime) if runtime is not None))
        await self._control.close(self._runtime.assembly.config.gateway.data_dir)
        await self.pages.close(1)
        await self._reader.close()
        await self._store.close()
        self._hooks.stop()
        self._crash_record.close()
        log.info("gateway.stopped", extra={"exit_code": self._exit_code})

    async def _listen(self, listener: Listener, address: tuple[str, int], key: str) -> None:
        try:
            await listener.start(*address)
        except OSError as error:
            raise ConfigError([f"{self._config_path}: {key}: cannot listen on {address[0]}:{address[1]}: {_reason(error)}"]) from error

    def _open_webhooks(self) -> None:
        self._door.sources = {name: source for name, source in self._runtime.sources.items() if "webhook" in source.doors}
        self._door.closed = self._runtime.closed()

    def _refuse_unknown(self, assembly: Assembly, known: Collection[str]) -> None:
        """Raise ConfigError for a connector that is not installed, if its source never ran: that is a mistake in the file."""
        lost = [name for name, one in assembly.broken.items() if one.missing and name not in known]
        if lost:
            raise ConfigError(assembly.problems)

    async def _status(self) -> dict[str, Any]:
        sources, targets = self._configured()
        doors = self._runtime.doors()
        return await status(
            self._reader, metrics=self._metrics, doors=doors, sources=sources, targets=targets, refusing=self._store.refusing
        )

    def _configured(self) -> tuple[Collection[str], Collection[str]]:
        config = self._runtime.assembly.config
        return config.sources.keys(), config.targets.keys()

    async def _log_strays(self) -> None:
        """Log once the rows of sources and targets that are no longer configured; `readyz` and `status` keep showing them."""
        try:
            found = await self._reader.strays(*self._configured())
        except StoreError as error:
            log.warning("rows.not_read", extra={"reason": str(error)})
            return
        for one in found:
            log.warning("rows.stray", extra={"queue": one.queue, "name_of": one.name, "rows": one.rows, "reason": one.reason})

    def _sides(self) -> Sides:
        return sides(self._metrics, sources=list(self._runtime.doors()), targets=list(self._runtime.deliver))

    def end(self, exit_code: int = 0) -> None:
        """Begin to stop; `run` returns the highest exit code."""
        self._exit_code = max(self._exit_code, exit_code)
        if self._starting is not None and not self._ending.is_set():  # a second signal does not interrupt the stop
            self._starting.cancel()
        self._ending.set()

    def _store_failed(self, error: StoreFailed) -> None:
        log.critical("store.failed", extra={"reason": str(error), "advice": "the process stops; check the disk, then start it again"})
        self.end(1)

    def _task_died(self, name: str, error: BaseException | None) -> None:
        if not isinstance(error, StoreFailed):
            log.critical("task.died", exc_info=error, extra={"task": name})
        self.end(1)

    # --- reload

    async def _reload(self) -> Problems:
        """Load the configuration and exchange the runtime; return the problems for which the old one stays."""
        try:
            self._crash_record.reset()  # the operator who reloads has repaired the plugins
            assembly = await asyncio.to_thread(self._assembled, self._config_path)
            if needs_restart(assembly.config, self._runtime.assembly.config):
                raise ConfigError([_RESTART])
            self._refuse_unknown(assembly, self._runtime.doors())
            fresh = Runtime(assembly, self._store, self._metrics, self._clock, self._task_died)
            try:
                await fresh.build()
                self._refuse_loss(fresh)
                await self.command_api.listen(assembly.config.submit, self._listen)
            except BaseException:
                await fresh.close()
                raise
        except GatewayError as error:
            problems = error.problems if isinstance(error, ConfigError) else (str(error),)
            for problem in problems:
                log.error("config.refused", extra={"problem": problem})
            return problems
        await self._exchange(fresh)
        return ()

    def _refuse_loss(self, fresh: Runtime) -> None:
        """Raise ConfigError if a source that works would be replaced by one that is down."""
        lost = [f"sources.{name}: {one.reason}" for name, one in fresh.broken.items() if name in self._runtime.sources]
        if lost:
            raise ConfigError([*lost, "the running configuration works, so nothing was reloaded"])

    async def _exchange(self, fresh: Runtime) -> None:
        old = self._retiring = self._runtime
        self._runtime = fresh
        self._operations.runtime = fresh
        self._open_webhooks()
        self.command_api.serve(fresh)
        await self.command_api.close_if_unused(fresh.assembly.config, ANSWER_S)
        await old.stop(DRAIN_S)
        self._retiring = None
        await retry_commit(self._clock, self._store.release_all_leases)
        self._metrics.health.reset()
        fresh.start()
        log.info("config.reloaded", extra={"sources": ",".join(fresh.sources)})
        await self._log_strays()


def _reason(error: OSError) -> str:
    """Return the reason alone: asyncio repeats the address in its text, and a resolver's numbers are not errno."""
    return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)


async def serve(config_path: Path, *, new_store: bool = False) -> int:
    """Load the configuration and run a gateway; returns the exit code. Raises ConfigError, StoreError."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None)  # a signal during the assembly waits for the gateway's handler, which replaces this
    require_fast_parser()
    crash_record = CrashRecord()

    def assembled(path: Path) -> Assembly:
        return assemble(path, crash_record=crash_record)

    code = await Gateway(config_path, assembled(config_path), assembled=assembled, new_store=new_store).run()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):  # the stop is complete, and a signal must not change the exit code
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return code
