"""The driver of `tests.journey` with more to break: connectors of the torture, a resolver that can fail, and a quicker pace.

    python -m tests.harness.torture.driver CONFIG [--mutant NAME]

`TORTURE_HOSTS` names a file with the host names that can be resolved, all of them to this machine; `TORTURE_LIMIT_S` is what the
door's limits for slow senders are cut to, `TORTURE_HTTP` changes of [http] as JSON. Pauses between two tries that are built in, and
how long a resolved name is remembered, are cut to a fraction, so that a round takes a second.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
from msgspec.structs import replace

from gateway.api.errors import TransientError
from gateway.clock import Clock, SystemClock
from gateway.edge import admission, connections, request_limits, server
from gateway.edge.poller import Poller
from gateway.edge.webhook import WebhookDoor
from gateway.engine import acknowledge, prepare_outcome
from gateway.engine.breaker import once_then
from gateway.engine.target_health import TargetHealth
from gateway.outbound import session, vendor
from gateway.outbound.oauth2 import TokenSource
from gateway.plugin import task_guard
from gateway.plugin.connector import Connector
from gateway.plugin.crash_record import CrashRecord
from gateway.plugin.discovery import Plugin, installed
from gateway.service import retention
from gateway.service.assembly import Assembly, assemble
from gateway.service.maintenance import Maintenance
from gateway.store.sqlite import SqliteStore
from gateway.targets import sender
from tests import acme
from tests.harness.torture import everyway, mutants, namesakes, rogue, timed
from tests.journey import driver

SUFFIX = ".torture.test"


HTTP: dict[str, Any] = {}
"""What is changed in [http]."""


def assembled(path: Path) -> Assembly:
    modules = {"acme": acme, "everyway": everyway, "namesakes": namesakes, "rogue": rogue, "timed": timed}
    made = {name: Plugin(name=name, distribution=name, version="1", module=module) for name, module in modules.items()}
    assembly = assemble(path, {**installed(), **made})
    return replace(assembly, config=replace(assembly.config, http=replace(assembly.config.http, **HTTP)))


def resolve_by(hosts: Path) -> None:
    """A resolver that knows what is in the file."""
    original = socket.getaddrinfo

    def ask(host: Any, *arguments: Any, **named: Any) -> Any:
        if not str(host).endswith(SUFFIX):
            return original(host, *arguments, **named)
        if host not in hosts.read_text().split():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return original("127.0.0.1", *arguments, **named)

    socket.getaddrinfo = ask


def quicken() -> None:
    """The pauses that no setting changes."""
    acknowledge._BASE_S, acknowledge._CAP_S = 0.05, 0.3
    prepare_outcome._BASE_S, prepare_outcome._CAP_S = 0.05, 0.3
    original = aiohttp.TCPConnector.__init__

    def forgetful(self: aiohttp.TCPConnector, **named: Any) -> None:
        original(self, **{**named, "ttl_dns_cache": 0})

    aiohttp.TCPConnector.__init__ = forgetful  # type: ignore[method-assign]


# --- known-bad mutants


def no_timeouts() -> None:
    """Known-bad mutant: a client that waits for as long as it takes."""
    session._timeout = lambda connect_s, answer_s: aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)  # type: ignore[assignment]


def follow_redirects() -> None:
    """Known-bad mutant: a client that goes where it is sent, order and all."""
    original = aiohttp.ClientSession.request

    def obedient(self: aiohttp.ClientSession, *arguments: Any, **named: Any) -> Any:
        return original(self, *arguments, **{**named, "allow_redirects": True})

    aiohttp.ClientSession.request = obedient  # type: ignore[method-assign]


def marks_unheard() -> None:
    """Known-bad mutant: the vendor counts as told, whatever became of telling it."""
    original = acknowledge.Acknowledge._settlement

    def sure(self: Any, row: Any, confirmed: bool, *arguments: Any) -> Any:
        return original(self, row, True, *arguments)

    acknowledge.Acknowledge._settlement = sure  # type: ignore[method-assign, assignment]


def hold_untold() -> None:
    """Known-bad mutant: a target that refuses everything is never tried again by itself, and looks well, so that nobody releases it."""
    original = TargetHealth.show

    def shown(self: Any) -> None:
        if self.breaker.kind == "paused":
            self._metrics.health.set_target(self._target.name, "up")
        else:
            original(self)

    TargetHealth.show = shown  # type: ignore[method-assign]
    TargetHealth._pauses = lambda *_: once_then(math.inf, math.inf)  # type: ignore[method-assign]


def no_resync() -> None:
    """Known-bad mutant: what a hub pushed meanwhile is not asked for after a connection."""

    async def done(self: Any) -> None:
        return None

    Poller.resync = done  # type: ignore[method-assign]


def loop_blocked() -> None:
    """Known-bad mutant: a wait on the event loop where the network fails."""
    original = session.exchange

    async def blocking(*arguments: Any, **named: Any) -> Any:
        try:
            return await original(*arguments, **named)
        except TransientError:
            time.sleep(2.5)
            raise

    vendor.exchange = blocking  # type: ignore[attr-defined]
    sender.exchange = blocking  # type: ignore[attr-defined]


def jumps_unnoticed() -> None:
    """Known-bad mutant: what is due stays where the clock was."""

    async def unmoved(*_: Any) -> None:
        return None

    Maintenance._check_clock = unmoved  # type: ignore[method-assign, assignment]


class _Exchanged:
    """Durations by the time of day, and the time of day by the steady clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now() - timedelta(seconds=clock.monotonic())

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self._clock.monotonic())

    def monotonic(self) -> float:
        return self._clock.now().timestamp()


def clocks_exchanged() -> None:
    """Known-bad mutant: the time of day tells how long a token is good, and the steady clock when a signature was made."""
    token, admit, clock = TokenSource.__init__, Connector.admit, _Exchanged(SystemClock())

    def timed_by_day(self: TokenSource, settings: Any, send: Any, clock: Clock) -> None:
        token(self, settings, send, cast(Clock, _Exchanged(clock)))

    def admit_by_the_start(self: Connector, envelope: Any, now: datetime, *arguments: Any) -> Any:
        return admit(self, envelope, clock.now(), *arguments)

    TokenSource.__init__ = timed_by_day  # type: ignore[method-assign]
    Connector.admit = admit_by_the_start  # type: ignore[method-assign, assignment]


def exits_let_through() -> None:
    """Known-bad mutant: what a plugin's own task ends with is not contained."""
    task_guard._contain = lambda coroutine, steps: coroutine


def forgets_ends() -> None:
    """Known-bad mutant: nobody remembers over what the last process ended."""
    CrashRecord._learn = lambda *_: None  # type: ignore[method-assign]


def no_deadlines() -> None:
    """Known-bad mutant: a door that waits for bodies and headers for as long as it takes."""
    HTTP.update(body_timeout_s=3600.0, idle_timeout_s=3600.0)


def pace_before_proof() -> None:
    """Known-bad mutant: what is forged counts against the source, as what is genuine does; 100 a second."""
    original = WebhookDoor._take

    async def paced(self: Any, source: Any, *arguments: Any) -> Any:
        if not self._rate.allows("all", 100):
            return self._busy(source, "too many requests", 1)
        return await original(self, source, *arguments)

    admission.RefusalLimiter.exceeded = lambda self, peer: None  # type: ignore[method-assign]
    WebhookDoor._take = paced  # type: ignore[method-assign, assignment]


def parse_before_proof() -> None:
    """Known-bad mutant: what came is decoded, to see whether its other form was signed."""
    original = Connector.admit

    def curious(self: Any, envelope: Any, *arguments: Any) -> Any:
        if envelope.header("X-Acme-Signature"):
            json.dumps(json.loads(envelope.body))
        return original(self, envelope, *arguments)

    Connector.admit = curious  # type: ignore[method-assign, assignment]


def no_part() -> None:
    """Known-bad mutant: whoever comes first has the connections."""
    connections.Connections.has_room = lambda self, peer, *, is_proxy: len(self) < self.limits.connections  # type: ignore[method-assign]


def no_write_timeout() -> None:
    """Known-bad mutant: an answer waits for its reader for as long as it takes."""
    connections.Connections.drop_unread = lambda self: None  # type: ignore[method-assign]
    server._drop_unsent_after = lambda *_: None


def no_bound() -> None:
    """Known-bad mutant: everybody may send as much as one may."""
    connections.Connections.shed = lambda self: None  # type: ignore[method-assign]


def a_line_each() -> None:
    """Known-bad mutant: each refusal is told."""
    request_limits.LogThrottle.since_last = lambda self, name: 1  # type: ignore[method-assign]
    original = admission.Admission.count

    def told(self: Any, kind: Any, peer: Any) -> None:
        original(self, kind, peer)
        self.note(kind)

    admission.Admission.count = told  # type: ignore[method-assign]


def wall_clock_alone() -> None:
    """Known-bad mutant: what is let go of goes by the wall clock, whatever has really passed."""
    SqliteStore.retention_time = lambda self: self._clock.now()  # type: ignore[method-assign]


MORE_MUTANTS = (
    wall_clock_alone,
    no_timeouts,
    follow_redirects,
    marks_unheard,
    hold_untold,
    no_resync,
    loop_blocked,
    no_deadlines,
    exits_let_through,
    jumps_unnoticed,
    clocks_exchanged,
    forgets_ends,
    pace_before_proof,
    parse_before_proof,
    no_part,
    no_write_timeout,
    no_bound,
    a_line_each,
)


def hurry(seconds: float) -> None:
    """The door's own limits, shorter."""
    HTTP.update(body_timeout_s=seconds, idle_timeout_s=seconds)


def tidy(seconds: float) -> None:
    """Housekeeping, which takes its time, walks over everything every so many seconds."""
    retention._FIRST_WALK_S = retention._EVERY_S = retention._WALK_EVERY_S = seconds


def main() -> None:
    driver.assembled = assembled
    driver.MUTANTS.update({mutant.__name__: mutant for mutant in (*MORE_MUTANTS, *mutants.MUTANTS)})
    if "TORTURE_HOSTS" in os.environ:
        resolve_by(Path(os.environ["TORTURE_HOSTS"]))
    if "TORTURE_LIMIT_S" in os.environ:
        hurry(float(os.environ["TORTURE_LIMIT_S"]))
    if "TORTURE_TIDY_S" in os.environ:
        tidy(float(os.environ["TORTURE_TIDY_S"]))
    HTTP.update(json.loads(os.environ.get("TORTURE_HTTP", "{}")))
    quicken()
    driver.main()


if __name__ == "__main__":
    main()
