"""HTTP target: its connections, and one attempt for each delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.api.errors import Hold, PermanentError
from gateway.clock import Clock
from gateway.outbound.answer import Answer
from gateway.outbound.session import any_unicast, takes_connections
from gateway.store.outcome import Progress
from gateway.store.rows import OutboxRow
from gateway.targets.attempt import Attempt
from gateway.targets.attempt_io import Journal
from gateway.targets.builder import Builder
from gateway.targets.classify import Outcome
from gateway.targets.preflight import Ended, Seen, look
from gateway.targets.request import Request
from gateway.targets.request_settings import address_of
from gateway.targets.sender import AuthSender
from gateway.targets.settings import TargetSettings


class NoJournal:
    """Journal that keeps nothing, for a target that recognises repeats and for tests."""

    async def start_request(self, sha256: bytes | None) -> None:
        pass

    async def finished(self, progress: Progress) -> None:
        pass

    async def claimant(self, erp_id: str) -> str | None:
        return None


class HttpTarget:
    """Client of one ERP. `open()` inside the running loop, `close()` at the end."""

    def __init__(self, name: str, settings: TargetSettings, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._sender = AuthSender(name, settings, clock)
        self._builder = Builder(settings, self._sender, clock)
        self._names = _Names()

    @property
    def records_intent(self) -> bool:
        """Tell whether each request is recorded before it leaves: the ERP makes two orders of two requests."""
        return self.settings.idempotency.strategy != "header"

    def closed_for_s(self) -> float:
        """Return the seconds until the open maintenance window ends; 0 without one."""
        return self.settings.flow.closed_for_s(self._clock.now())

    async def open(self) -> None:
        """Open the connections. Raises ConfigError where a certificate cannot be used."""
        await self._sender.open()

    async def close(self) -> None:
        """Sign out where there is a session, and close the connections."""
        await self._sender.close()

    def reset(self) -> None:
        """Sign in anew, after a secret changed or an operator asked for it."""
        self._sender.reset()

    def once_more(self) -> None:
        """Allow one more request with credentials that were refused."""
        self._sender.once_more()

    async def takes_connections(self) -> bool:
        """Return whether the ERP accepts a connection. Nothing is sent."""
        url, _ = address_of(self.settings.url, self.settings.vars)
        return await takes_connections(url, any_unicast, self.settings.connect_timeout_s)

    async def send(self, row: OutboxRow, journal: Journal | None = None, *, probing: bool = False) -> Outcome:
        """Make one attempt; never raises for what the ERP or the network does.

        Args:
            journal: What has to be durable meanwhile.
            probing: The target counts as down; where it has a look-up, that goes first.
        """
        attempt = Attempt(
            row,
            self.settings,
            builder=self._builder,
            sender=self._sender,
            journal=journal or NoJournal(),
            now=self._clock.now,
            probing=probing,
        )
        if self.settings.idempotency.strategy != "lookup":
            return await attempt.run()
        async with self._names.one_at_a_time(attempt.name()):
            return await attempt.run()

    async def look(self, body: bytes) -> Seen:
        """Ask whether the ERP has the order of a canonical message. Needs a preflight. Raises Ended: it cannot be asked."""
        assert self.settings.preflight is not None
        context = self._builder.context(body)
        try:
            request = self._builder.render(self.settings.preflight, context, where="preflight")
        except (Hold, PermanentError) as error:
            raise Ended(Outcome(meaning="refused", reason=str(error))) from error
        return await look(self.settings.preflight, request, context, self._sender, self._clock.now())

    async def probe(self) -> Answer:
        """Send the harmless request of `check`, else HEAD to the url. Raises what `Sender.send` raises, and Refused."""
        settings = self.settings
        if settings.check_request is not None:
            return await self._sender.send(self._builder.render(settings.check_request, self._builder.without_order(), where="check"))
        url, _ = address_of(settings.url, settings.vars)
        headers = {name: str(value) for name, value in settings.headers.items() if "{" not in value}
        return await self._sender.send(Request(method="HEAD", url=url, headers=headers))


class _Names:
    """Locks by what the ERP would find an order under, whatever rows those are."""

    def __init__(self) -> None:
        self._busy: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def one_at_a_time(self, name: str | None) -> AsyncIterator[None]:
        if name is None:
            yield
            return
        lock, waiting = self._busy.get(name, (asyncio.Lock(), 0))
        self._busy[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._busy.pop(name)
            if waiting > 1:
                self._busy[name] = (lock, waiting - 1)
