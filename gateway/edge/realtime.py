"""Realtime door: connect to a vendor's hub, listen, resync, and reconnect for ever.

A hub replays nothing. So each push is committed as it comes, and after every connect the source's poller runs a round that
begins after the listening has begun. The door is up when both are well. The session knows the hub's protocol.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Protocol

import msgspec

from gateway.api.errors import PluginError
from gateway.api.subscription import Reconnect, Subscription
from gateway.clock import Clock
from gateway.edge.push_buffer import PushBuffer
from gateway.edge.reconnect import Backoff, Disconnected
from gateway.edge.tasks import cancel, run_together, wait_for_first
from gateway.metrics import Metrics
from gateway.plugin.source import Source
from gateway.store.base import Store

log = logging.getLogger("gateway.realtime")

_MOST_NAMES = 100


class Session(Protocol):
    """Connection to a hub, for one try."""

    async def run(self) -> None:
        """Connect and listen until the connection ends. Always raises Disconnected."""


Dial = Callable[[Subscription, "Realtime"], Session]


class Realtime:
    """Realtime door of one source, and the `HubListener` of its sessions; `run()` is its task.

    Args:
        dial: Makes a session.
        resync: Returns when a whole round of the poller, begun after the call, has succeeded.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        metrics: Metrics,
        clock: Clock,
        *,
        dial: Dial,
        resync: Callable[[], Awaitable[None]],
        backoff: Backoff | None = None,
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._clock = clock
        self._dial = dial
        self._resync = resync
        self._backoff = backoff or Backoff()
        self._buffer = PushBuffer(source, store, metrics, clock)
        self._resumed = asyncio.Event()
        self._online_at: float | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._heads: Mapping[str, bytes] = {}
        self._unknown: set[str] = set()
        self._not_found = 0
        self._listening: asyncio.Task[None] | None = None
        self._accepting: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """Reconnect now if it waits: the credentials changed, or an operator asks for it."""
        self._resumed.set()

    async def run(self) -> None:
        """Listen until `stop`. Raises StoreFailed."""
        name = self._source.name
        self._metrics.health.set_door(name, "realtime", "down", "connecting", starting=True)
        self._metrics.realtime.watch(name, self._clock)
        self._listening = asyncio.create_task(self._listen(), name=f"realtime listen {name}")
        self._accepting = asyncio.create_task(self._buffer.run(), name=f"realtime accept {name}")
        try:
            await run_together((self._listening, self._accepting))
        finally:
            self._metrics.realtime.state.labels(name).set(0)

    async def stop(self, timeout_s: float) -> None:
        """Disconnect, then store what was received, both within `timeout_s`. The next resync brings the rest."""
        if self._listening is None or self._accepting is None:
            return
        drained = asyncio.create_task(self._buffer.drained(), name=f"realtime drain {self._source.name}")
        try:
            async with asyncio.timeout(timeout_s):
                self._listening.cancel()
                await asyncio.wait([self._listening])
                await asyncio.wait([drained, self._accepting], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            log.warning("realtime.cut_short", extra={"source": self._source.name})
        finally:
            drained.cancel()
            self._accepting.cancel()

    # --- HubListener

    def on_connected(self) -> None:
        self._resumed.clear()
        self._not_found = 0
        self._online_at = self._clock.monotonic()
        self._metrics.realtime.state.labels(self._source.name).set(2)
        self._metrics.realtime.connects.labels(self._source.name, "online").inc()
        self._metrics.health.set_door(self._source.name, "realtime", "down", "connected; the poller fetches what was missed", starting=True)
        log.info("realtime.online", extra={"source": self._source.name})
        self._catching_up = asyncio.create_task(self._catch_up(), name=f"resync {self._source.name}")

    def on_activity(self) -> None:
        self._metrics.realtime.on_message(self._source.name)

    async def on_call(self, target: str, arguments: bytes) -> None:
        self._metrics.realtime.on_event(self._source.name)
        head = self._heads.get(target)
        if head is None:
            head = _head(target)
            self._warn_of_unknown(target)
        await self._buffer.put(b"%b%b}" % (head, arguments))

    async def on_bad_record(self, record: bytes, reason: str) -> None:
        await self._buffer.put(record, broken=reason)

    def _warn_of_unknown(self, target: str) -> None:
        if target not in self._unknown and len(self._unknown) < _MOST_NAMES:
            self._unknown.add(target)
            log.warning("realtime.unknown_target", extra={"source": self._source.name, "target_name": target[:100]})

    # --- the loop

    async def _listen(self) -> None:
        name = self._source.name
        while True:
            self._resumed.clear()
            self._online_at = None
            self._metrics.realtime.state.labels(name).set(1)
            reconnect, ended = await self._try()
            online_s = 0.0 if self._online_at is None else self._clock.monotonic() - self._online_at
            wait_s = self._backoff.after(ended, online_s, reconnect)
            self._report(ended, online_s, wait_s)
            await self._pause(wait_s)

    async def _try(self) -> tuple[Reconnect, Disconnected]:
        reconnect = Reconnect()
        try:
            subscription = self._source.connector.subscribe()
            reconnect, named = subscription.reconnect, {**{v: v for v in subscription.targets.values()}, **subscription.targets}
            self._heads = {wire: _head(canonical) for wire, canonical in named.items()}
            await self._dial(subscription, self).run()
        except Disconnected as ended:
            return reconnect, ended
        except PluginError as error:
            log.error("plugin.failed", exc_info=error, extra={"source": self._source.name})
            return reconnect, Disconnected("connector", str(error))
        except Exception as error:  # reconnect after an unexpected error, too
            log.error("realtime.failed", exc_info=error, extra={"source": self._source.name})
            return reconnect, Disconnected("internal", f"{type(error).__name__} in the gateway itself; see its log")
        finally:
            await self._stop_catching_up()
        return reconnect, Disconnected("internal", "the session ended without a reason")

    async def _catch_up(self) -> None:
        began = self._clock.monotonic()
        await self._resync()
        took_s = self._clock.monotonic() - began
        self._metrics.realtime.resync.labels(self._source.name).set(took_s)
        self._metrics.health.set_door(self._source.name, "realtime", "up")
        log.info("realtime.resynced", extra={"source": self._source.name, "duration_s": round(took_s, 3)})

    async def _stop_catching_up(self) -> None:
        if self._catching_up is not None:
            await cancel([self._catching_up])
            self._catching_up = None

    def _report(self, ended: Disconnected, online_s: float, wait_s: float) -> None:
        name, metrics = self._source.name, self._metrics
        reason = ended.reason
        if ended.cause == "not_found":
            self._not_found += 1
            if self._not_found > 1:
                reason += "; again and again, so check its address"
        else:
            self._not_found = 0
        if self._online_at is None:
            metrics.realtime.connects.labels(name, ended.cause).inc()
        else:
            metrics.realtime.ended.labels(name, ended.cause).inc()
        metrics.realtime.state.labels(name).set(3)
        metrics.health.set_door(name, "realtime", "down", reason, next_at=self._clock.now() + timedelta(seconds=wait_s))
        log.log(
            logging.WARNING if ended.cause == "close_no_reconnect" or self._not_found == 2 else logging.INFO,
            "realtime.ended",
            extra={
                "source": name,
                "cause": ended.cause,
                "reason": reason,
                "online_s": round(online_s, 1),
                "next_s": round(wait_s, 1),
            },
        )

    async def _pause(self, wait_s: float) -> None:
        """Wait, at most until `resume`."""
        await wait_for_first([asyncio.create_task(self._clock.sleep(wait_s)), asyncio.create_task(self._resumed.wait())])


def _head(target: str) -> bytes:
    """Return the start of a call's JSON under this name."""
    return b'{"target":%b,"arguments":' % msgspec.json.encode(target)
