"""The gateway as a process that tests can kill at exact moments, and break in known ways.

    python -m tests.journey.driver CONFIG [--die-after METHOD:COUNT] [--mutant NAME]

Reads lines from standard input: each starts one gateway in a forked child and prints its pid. Forking from a process that
has imported everything makes a start cheap enough for hundreds of kills; nothing is open in the parent. `dying` arms
`--die-after`, `stopped` stops before anything is done, until SIGCONT; `exit PID` prints how a child ended.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from gateway.api.commands import Command
from gateway.api.errors import ConfigError, GatewayError
from gateway.edge import webhook
from gateway.engine import submit_outcome
from gateway.log import set_up
from gateway.plugin.connector import Connector
from gateway.plugin.discovery import Plugin, installed
from gateway.service.assembly import Assembly, assemble
from gateway.service.gateway import Gateway
from gateway.store.arrivals import Accepted
from gateway.store.sqlite import SqliteStore, inbox
from gateway.store.sqlite import accept as accepting
from tests import acme


def assembled(path: Path) -> Assembly:
    plugins = {**installed(), "acme": Plugin(name="acme", distribution="acme", version="1", module=acme)}
    return assemble(path, plugins)


def die_after(method: str, count: int) -> None:
    """SIGKILL ourselves right after the nth commit of a transition, before anybody has heard of it."""
    original = getattr(SqliteStore, method)
    left = count

    async def dying(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal left
        result = await original(self, *arguments, **named)
        if result is not None and not result:
            return result  # an empty lease changed nothing
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(SqliteStore, method, dying)


def answer_before_commit() -> None:
    """Known-bad mutant: the sender hears "stored" while the commit is still to come."""
    original = webhook.WebhookDoor._store_events

    async def hasty(self: Any, source: Any, events: Any, status: int, word: Any) -> web.Response:
        task = asyncio.create_task(original(self, source, events, status, word))
        self.__dict__.setdefault("hasty", set()).add(task)
        return web.json_response({"status": "stored", "key": events[0].key})

    async def slow(self: Any, *arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(0.02)  # a disk of the cheap kind
        return await accept(self, *arguments, **named)

    accept = SqliteStore.accept
    SqliteStore.accept = slow  # type: ignore[method-assign]
    webhook.WebhookDoor._store_events = hasty  # type: ignore[method-assign]


def no_unique_index() -> None:
    """Known-bad mutant: a look says whether an order is new, and then it is inserted; no index decides."""
    accepting.repeated = accepting.why_earlier = lambda *_: None  # type: ignore[attr-defined, assignment]
    accept = SqliteStore.accept

    async def look_then_insert(self: Any, source: str, door: Any, events: Any, **named: Any) -> Any:
        for event in events:
            known = await self._run(
                lambda db, ref=event.order_ref: db.execute("SELECT content FROM orders WHERE order_ref = ?", (ref,)).fetchone()
            )
            if known and known[0] == event.content:
                return [Accepted(key=event.key, outcome="repeat")]
        return await accept(self, source, door, events, **named)

    SqliteStore.accept = look_then_insert  # type: ignore[method-assign]


def forget_order() -> None:
    """Known-bad mutant: messages of one order do not wait for each other, and a first try may come late."""
    prepare_all = inbox.prepare_all  # type: ignore[attr-defined]

    def eager(db: Any, made: Any, now_ms: int, *more: Any) -> None:
        prepare_all(db, made, now_ms, *more)
        for one in made:
            late_ms = now_ms + (300 if one.n == 1 else 0)
            db.execute("UPDATE outbox SET due_at_ms = ? WHERE status = 'ready' AND key = ?", (late_ms, one.key))

    inbox.prepare_all = eager  # type: ignore[attr-defined, assignment]


def new_key_each_time() -> None:
    """Known-bad mutant: a retry goes out under another key."""
    from gateway.targets import attempt

    original = attempt.with_message_headers  # type: ignore[attr-defined]

    def fresh(request: Any, row: Any, *more: Any) -> Any:
        made = original(request, row, *more)
        key = f"{made.headers['Idempotency-Key']}-{row.attempts}"
        return replace(made, headers={**made.headers, "Idempotency-Key": key}) if row.attempts > 1 else made

    attempt.with_message_headers = fresh  # type: ignore[attr-defined, assignment]


def preflight_skipped() -> None:
    """Known-bad mutant: nobody asks the ERP; what it has is never seen."""
    from gateway.targets import attempt_io
    from gateway.targets.preflight import Seen

    async def skipped(*_: Any) -> Seen:
        return Seen(found=False)

    attempt_io.look = skipped  # type: ignore[attr-defined, assignment]


def look_up_left_out() -> None:
    """Known-bad mutant: nobody asks the vendor what became of a command; it is just said again."""
    original = Connector.commands

    def blind(self: Connector) -> dict[str, Command]:
        return {name: replace(command, look_up=None) for name, command in original(self).items()}

    Connector.commands = blind  # type: ignore[method-assign]
    Connector.is_repeatable = lambda self, command: True  # type: ignore[method-assign]


def normal_synchronous() -> None:
    """Known-bad mutant: a commit that does not wait for the disk, as most programs have it."""
    from gateway.store.sqlite import connection

    full = ("synchronous", "FULL", 2)
    assert full in connection._PRAGMAS
    connection._PRAGMAS = tuple(("synchronous", "NORMAL", 1) if pragma == full else pragma for pragma in connection._PRAGMAS)


def ends_in_peace() -> None:
    """Known-bad mutant: a store that cannot be trusted any more ends the process as if nothing had happened."""
    Gateway._store_failed = lambda self, error: self.end(0)  # type: ignore[method-assign]
    Gateway._task_died = lambda self, name, error: self.end(0)  # type: ignore[method-assign]


def writer_dies_of_a_full_disk() -> None:
    """Known-bad mutant: where the disk is full, the thread that writes raises and is gone."""
    from gateway.store.sqlite.writer import Writer

    def raises(self: Any, db: Any, waiting: Any) -> bool:
        if "full" in str(waiting.error):
            raise waiting.error
        return False

    Writer._made_room = raises  # type: ignore[method-assign]


_MUTANTS = [answer_before_commit, no_unique_index, forget_order, new_key_each_time, preflight_skipped]
_MUTANTS += [normal_synchronous, ends_in_peace, writer_dies_of_a_full_disk, look_up_left_out]
MUTANTS = {mutant.__name__: mutant for mutant in _MUTANTS}


def child(config: Path) -> int:
    set_up("json")
    try:
        return asyncio.run(Gateway(config, assembled(config), assembled=assembled).run())
    except GatewayError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


def bury(ended: dict[int, int]) -> None:
    """Note how children have ended: the exit code, or minus the signal."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--die-after")
    parser.add_argument("--mutant", choices=MUTANTS)
    options = parser.parse_args()
    if options.mutant:
        MUTANTS[options.mutant]()
    ended: dict[int, int] = {}
    signal.signal(signal.SIGCHLD, lambda *_: bury(ended))
    submit_outcome.CERTAIN_AFTER_S = 0.3  # a test waits for it
    for line in sys.stdin:
        if line.startswith("exit "):
            print(ended.get(int(line.split()[1])), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            if line.strip() == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if line.strip() == "dying" and options.die_after:
                method, _, count = options.die_after.partition(":")
                die_after(method, int(count or 1))
            os._exit(child(options.config))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
