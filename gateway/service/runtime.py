"""Runtime of one configuration: its sources, its targets, and their tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.api.errors import PluginError, StoreBusy
from gateway.api.urls import is_literal
from gateway.api.vendor_client import Api
from gateway.clock import Clock
from gateway.edge.poller import Poller
from gateway.edge.realtime import Realtime
from gateway.edge.signalr import Session
from gateway.engine.acknowledge import Acknowledge
from gateway.engine.batch_worker import BatchWorker, retry_commit
from gateway.engine.deliver import Deliver
from gateway.engine.prepare import Prepare
from gateway.engine.submit import Submit
from gateway.health import PLUGIN
from gateway.metrics import Metrics
from gateway.outbound.jwks_cache import KeySet
from gateway.outbound.session import AddressCheck, any_unicast, global_only, open_session
from gateway.outbound.vendor import HttpVendorClient
from gateway.plugin.hook_runner import HookRunner
from gateway.plugin.source import Destination, Source
from gateway.service.assembly import Assembly, BrokenSource, CheckedSource
from gateway.store.base import Store
from gateway.targets.http import HttpTarget

log = logging.getLogger("gateway")

_VENDOR_CONNECTIONS = 8
_CLOSE_HUB_S = 2.0
_BUSY_S = 1.0


def vendor_session(api: Api, *, private: bool) -> aiohttp.ClientSession:
    """Open a session for a vendor's API. Host names may resolve only to public addresses unless `private` is set."""
    return open_session(
        allowed=_allowed(api.base_url, private=private), connections=_VENDOR_CONNECTIONS, connect_timeout_s=min(10.0, api.timeout_s)
    )


def keys_session(url: str, *, private: bool) -> aiohttp.ClientSession:
    """Open a session for a vendor's public keys."""
    return open_session(allowed=_allowed(url, private=private), connections=1, connect_timeout_s=5.0)


def hub_session(url: str, *, private: bool) -> aiohttp.ClientSession:
    """Open a session for a vendor's hub."""
    return open_session(allowed=_allowed(url, private=private), connections=_VENDOR_CONNECTIONS, connect_timeout_s=10.0, upgrades=True)


def _allowed(url: str, *, private: bool) -> AddressCheck:
    return any_unicast if private or is_literal(urlsplit(url).hostname or "") else global_only


class Runtime:
    """Runtime of one assembly: `build`, `start`, `stop`. The process ends when one of its tasks dies.

    Args:
        on_dead: Called with the name of a task that ended by itself.
    """

    def __init__(
        self, assembly: Assembly, store: Store, metrics: Metrics, clock: Clock, on_dead: Callable[[str, BaseException | None], None]
    ) -> None:
        self.assembly = assembly
        self.sources: dict[str, Source] = {}
        self.broken: dict[str, BrokenSource] = dict(assembly.broken)
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._on_dead = on_dead
        self._sessions: list[aiohttp.ClientSession] = []
        self._clients: dict[str, HttpVendorClient] = {}
        self._key_sets: dict[str, KeySet] = {}
        self._targets: dict[str, HttpTarget] = {}
        self.deliver: dict[str, Deliver] = {}
        self.submit: dict[str, Submit] = {}
        self.pollers: dict[str, Poller] = {}
        self.listeners: dict[str, Realtime] = {}
        self._hubs: dict[str, aiohttp.ClientSession] = {}
        self._prepares: dict[str, Prepare] = {}
        self._workers: list[BatchWorker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def build(self) -> None:
        """Make the parts that can fail. Raises ConfigError, StoreError."""
        since = await retry_commit(self._clock, lambda: self._store.register(list(self.assembly.config.sources)))
        for name, settings in self.assembly.targets.items():
            self._targets[name] = HttpTarget(name, settings, self._clock)
            await self._targets[name].open()
        for name, part in self.assembly.sources.items():
            try:
                self.sources[name] = self._source(name, part, since[name])
                self._prepares[name] = Prepare(self.sources[name], self._store, self._metrics, self._clock)
            except PluginError as error:  # the plugin answered differently when it was assembled
                self.sources.pop(name, None)
                self.broken[name] = BrokenSource(doors=part.doors, reason=f"the plugin {part.settings.connector} cannot be used: {error}")

    def _source(self, name: str, part: CheckedSource, since: datetime) -> Source:
        client = None
        if part.api is not None:
            session = vendor_session(part.api, private=part.settings.allow_private_addresses)
            self._sessions.append(session)
            client = self._clients[name] = HttpVendorClient(part.api, session, self._clock)
        if "realtime" in part.doors:
            url = part.connector.subscribe().url
            self._hubs[name] = hub_session(url, private=part.settings.allow_private_addresses)
            self._sessions.append(self._hubs[name])
        return Source(
            name=name,
            vendor=part.settings.connector,
            connector=part.connector,
            doors=part.doors,
            on_revision=part.settings.on_revision,
            earlier_versions=part.settings.earlier_versions,
            destinations=self._destinations(part),
            stages=part.connector.stages(),
            max_body_bytes=part.connector.max_body_bytes(self.assembly.config.http.max_body_bytes),
            max_requests_per_second=part.settings.max_requests_per_second,
            answer_wait_s=part.settings.answer_wait_s if part.settings.answer == "delivered" else 0.0,
            since=since,
            client=client,
            keys=self._keys(name, part),
            hook_runner=HookRunner(self.assembly.crash_record),
        )

    def start(self) -> None:
        """Start every task."""
        for doubtful in self.assembly.warnings:
            log.warning("config.doubtful", extra={"warning": doubtful})
        for name, target in self._targets.items():
            deliver = Deliver(target, self.sources, self._store, self._metrics, self._clock)
            self.deliver[name] = deliver
            self._run(f"deliver {name}", deliver.run)
        for name, source in self.sources.items():
            self._work(BatchWorker("inbox", name, self._prepares[name], self._store, self._clock), f"prepare {name}")
            if source.stages:
                step = Acknowledge(source, self._store, self._metrics, self._clock)
                self._work(BatchWorker("acknowledgements", name, step, self._store, self._clock), f"acknowledge {name}")
            if source.connector.description.commands:
                self.submit[name] = Submit(source, self._store, self._metrics, self._clock)
                self._run(f"submit {name}", self.submit[name].run)
            if "poll" in source.doors:
                self.pollers[name] = Poller(source, self._store, self._metrics, self._clock)
                self._run(f"poll {name}", self.pollers[name].run)
            if "realtime" in source.doors:
                self.listeners[name] = self._listener(source)
                self._run(f"realtime {name}", self.listeners[name].run)
            for door in source.connector.doors:
                if door not in source.doors:
                    self._metrics.health.set_door(name, door, "off")
            if "webhook" in source.doors:
                self._metrics.health.set_door(name, "webhook", "up")
            if name in self._key_sets:
                self._run(f"keys {name}", self._key_sets[name].run)
        for name, one in self.broken.items():
            self._metrics.health.set_broken(name, one.doors, one.reason)
            if one.trace:
                log.error("plugin.broken", extra={"source": name, "reason": one.reason, "trace": one.trace})

    def doors(self) -> dict[str, tuple[str, ...]]:
        """Return the doors of every configured source, as `status` shows them; broken sources are included."""
        doors = {name: (*source.connector.doors, *(("submit",) if name in self.submit else ())) for name, source in self.sources.items()}
        broken = {name: (*one.doors, PLUGIN) for name, one in self.broken.items()}
        return {name: (doors | broken)[name] for name in self.assembly.config.sources}

    def closed(self) -> dict[str, str]:
        """Return the sources whose webhook door is closed, with the reason."""
        return {name: one.reason for name, one in self.broken.items() if "webhook" in one.doors}

    def _listener(self, source: Source) -> Realtime:
        http = self._hubs[source.name]
        return Realtime(
            source,
            self._store,
            self._metrics,
            self._clock,
            dial=lambda subscription, listener: Session(subscription, listener, http, self._clock),
            resync=self.pollers[source.name].resync,
        )

    def resume(self, source: str) -> None:
        """Sign in again and poll at once, after a change of credentials or at an operator's request."""
        if source in self._clients:
            self._clients[source].reset()
        if source in self.pollers:
            self.pollers[source].resume()
        if source in self.listeners:
            self.listeners[source].resume()
        if source in self.submit:
            self.submit[source].resume()
        if (source, "fetch") in self._metrics.health.doors:  # if its rows were dropped, no fetch is left to show that it works
            self._metrics.health.set_door(source, "fetch", "up")

    async def clock_jumped(self) -> None:
        """Read again when each source was first started. Raises StoreError."""
        for name, since in (await self._store.register(list(self.sources))).items():
            if name in self.sources:
                self.sources[name].since = since

    def secrets_changed(self) -> None:
        """Resume sources and release targets after a secret has changed."""
        for name in self.sources:
            self.resume(name)
        for deliver in self.deliver.values():
            deliver.release()

    async def stop(self, timeout_s: float) -> None:
        """Stop polling, let attempts in flight finish for at most `timeout_s`, hand the rest back, close."""
        self._stopping = True
        await asyncio.gather(*(listener.stop(_CLOSE_HUB_S) for listener in self.listeners.values()))
        for task in self._tasks:
            if task.get_name().startswith("poll "):
                task.cancel()
        drains = [deliver.drain(timeout_s) for deliver in self.deliver.values()] + [worker.drain(timeout_s) for worker in self._workers]
        await asyncio.gather(*drains, *(submit.drain(timeout_s) for submit in self.submit.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        for source in self.sources.values():
            source.hook_runner.close()
        for target in self._targets.values():
            await target.close()
        for session in self._sessions:
            await session.close()

    def _keys(self, name: str, part: CheckedSource) -> KeySet | None:
        """Make the set of keys that verify a source's webhooks; its webhook door is up while there are keys."""
        url = part.connector.jwks_url() if "webhook" in part.doors else None
        if url is None:
            return None
        session = keys_session(url, private=part.settings.allow_private_addresses)
        self._sessions.append(session)

        def noted(problem: str | None) -> None:
            self._metrics.health.set_door(name, "webhook", "up" if problem is None else "down", problem)

        self._key_sets[name] = KeySet(url, session, self._clock, noted)
        return self._key_sets[name]

    def _destinations(self, part: CheckedSource) -> tuple[Destination, ...]:
        names = part.settings.targets if part.settings.targets is not None else tuple(self.assembly.targets)
        settings = {name: self.assembly.targets[name] for name in names}
        return tuple(Destination(target=name, accepts=frozenset(one.accepts), wants=one.wants) for name, one in settings.items())

    def _work(self, worker: BatchWorker, name: str) -> None:
        self._workers.append(worker)
        self._run(name, worker.run)

    def _run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(self._restarting(name, work), name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def _restarting(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the task again when it meets a busy store in a place that does not wait for it."""
        while True:
            try:
                return await work()
            except StoreBusy as error:
                log.warning("store.waited_for", extra={"task": name, "reason": str(error)})
                await self._clock.sleep(_BUSY_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._stopping:  # nobody asked it to end, and without it a source or target would stand still
            self._on_dead(task.get_name(), None if task.cancelled() else task.exception())
