"""What each command of the command line does; `cli.py` says how it is called."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import getpass
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from gateway.assembly import Assembly, assemble
from gateway.clock import SystemClock
from gateway.config import Config, load
from gateway.discovery import installed
from gateway.errors import ConfigError, GatewayError
from gateway.operations import Operations
from gateway.orders import json_schema
from gateway.outbound.vendor import HttpVendorClient
from gateway.runtime import vendor_session
from gateway.store.base import Decided
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reading import SqliteReader, as_text
from gateway.target.http import HttpTarget
from gateway.web.admin import Command
from gateway.web.status import status as status_of

T = TypeVar("T")
Options = argparse.Namespace

_CONTROL_TIMEOUT_S = 60.0


# --- the configuration


def check(options: Options) -> int:
    """Report every problem; with --online sign in everywhere."""
    assembly = assemble(options.config)
    doors = sum(len(part.doors) for part in assembly.sources.values())
    print(f"{options.config}: {len(assembly.sources)} sources with {doors} doors, {len(assembly.targets)} targets, no problem found")
    return asyncio.run(_online(assembly)) if options.online else 0


async def _online(assembly: Assembly) -> int:
    failed = 0
    clock = SystemClock()
    for name, part in assembly.sources.items():
        if part.api is None:
            print(f"sources.{name}: is never called")
            continue
        session = vendor_session(part.api, private=part.settings.allow_private_addresses)
        try:
            await HttpVendorClient(part.api, session, clock).sign_in()
            print(f"sources.{name}: signed in")
        except GatewayError as error:
            failed += 1
            print(f"sources.{name}: {error}")
        finally:
            await session.close()
    for name, settings in assembly.targets.items():
        target = HttpTarget(name, settings, clock)
        await target.open()
        try:
            answer = await target.probe()
            refused = answer.status in (401, 403)
            failed += refused
            print(f"targets.{name}: reached, answers HEAD with {answer.status}" + (": check its credentials" if refused else ""))
        except GatewayError as error:
            failed += 1
            print(f"targets.{name}: {error}")
        finally:
            await target.close()
    return 1 if failed else 0


def schema(_: Options) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0


def plugins(options: Options) -> int:
    """List connectors; 1 where one is broken."""
    found = installed()
    if options.json:
        rows = [{n: v for n, v in msgspec.structs.asdict(p).items() if n != "module"} for p in found.values()]
        _print_json(rows)
    else:
        _table(
            ("connector", "distribution", "version", "doors", "title or problem"),
            [
                (p.name, p.distribution, p.version, " ".join(p.doors), f"BROKEN: {p.problem}" if p.problem else p.title)
                for p in found.values()
            ],
        )
        for plugin in found.values():
            if plugin.trace:
                print(f"\n{plugin.name}:\n{plugin.trace}")
    return 1 if any(p.problem for p in found.values()) else 0


# --- looking


def status(options: Options) -> int:
    """Print how things are; 1 where something is down."""
    said = asyncio.run(_status(_config(options)))
    if options.json:
        _print_json(said)
        return 0
    print(f"running since {said['started_at']}" if said["running"] else "not running")
    print()
    _table(
        ("source", "doors", "last message"),
        [(n, "  ".join(f"{d} {s}" for d, s in v["doors"].items()), v["last_message_at"] or "-") for n, v in said["sources"].items()],
    )
    print()
    _table(("target", "state", "reason"), [(n, v["state"], v.get("reason") or "-") for n, v in said["targets"].items()])
    print()
    words = ("ready", "leased", "held", "dead", "done")
    queues = ("inbox", "outbox", "acknowledgements")
    _table(("queue", *words), [(q, *(str(said[q][w]) for w in words)) for q in queues])
    for reason in said["reasons"]:
        print(f"\nDOWN {reason.get('source') or 'target ' + reason['target']} {reason.get('door', '')}: {reason['reason']}")
    return 1 if said["reasons"] else 0


async def _status(config: Config) -> dict[str, Any]:
    if _is_running(config):
        answer: dict[str, Any] = await _ask(config, "GET", "/api/status")
        return answer
    known = installed()
    doors = {name: known[s.connector].doors if s.connector in known else () for name, s in config.sources.items()}

    async def read(reader: SqliteReader) -> dict[str, Any]:
        return await status_of(reader, vitals=None, doors=doors, targets=list(config.targets))

    return await _reading(config, read)


def sources(options: Options) -> int:
    """List the sources."""
    config = _config(options)
    said = asyncio.run(_status(config))
    rows = [
        {
            "source": name,
            "connector": source.connector,
            "on_revision": source.on_revision,
            **said["sources"].get(name, {"doors": {}, "last_message_at": None}),
        }
        for name, source in config.sources.items()
    ]
    if options.json:
        _print_json(rows)
    else:
        _table(
            ("source", "connector", "on_revision", "doors", "last message"),
            [
                (
                    r["source"],
                    r["connector"],
                    r["on_revision"],
                    "  ".join(f"{d} {s}" for d, s in r["doors"].items()),
                    r["last_message_at"] or "-",
                )
                for r in rows
            ],
        )
    return 0


def listing(options: Options) -> int:
    """List rows of a queue."""
    rows = _read(options, lambda reader: reader.rows(options.queue, status=options.status, name=options.name, limit=options.limit))
    if options.json:
        _print_json(rows)
    else:
        shown = [
            (r["row"], r["at"], r["key"], r["name"], r["status"], str(r["attempts"]), r["outcome"] or "-", r["reason"] or "") for r in rows
        ]
        _table(("row", "came", "key", "source" if options.queue == "inbox" else "target", "status", "tries", "outcome", "reason"), shown)
    return 0


def orders(options: Options) -> int:
    """List orders."""
    rows = _read(options, lambda reader: reader.orders(source=options.source, limit=options.limit))
    if options.json:
        _print_json(rows)
    else:
        shown = [(r["source"], r["order_ref"], str(r["versions"]), str(r["messages"]), r["newest_message"] or "-") for r in rows]
        _table(("source", "order", "versions", "messages", "newest message"), shown)
    return 0


def show(options: Options) -> int:
    """Show everything of a key; 1 where there is nothing."""
    rows = _read(options, lambda reader: reader.show(options.key))
    for row in rows:
        body = row.pop("body", None)
        if options.body:
            row["body"] = as_text(body)
    if options.json:
        _print_json(rows)
    else:
        for row in rows:
            print(f"{row['row']}  {row['key']}  {row['status']}" + (f" ({row['outcome']})" if row["outcome"] else ""))
            for name in ("source", "order_ref", "door", "name", "kind", "at", "due_at", "attempts", "reason"):
                if row[name] is not None:
                    print(f"    {name.replace('name', 'for'):10} {row[name]}")
            for tried in row["tried"]:
                said = f"  {tried['http_status'] or ''} {tried['detail'] or ''}".rstrip()
                print(f"    try {tried['attempt']:<6} {tried['at']}  {tried['outcome']}{said}  ({tried['duration_ms']} ms)")
            for decided in row["decided"]:
                print(f"    decided    {decided['at']}  {decided['action']} by {decided['who']}  {decided['reason'] or ''}")
            if row.get("body"):
                print("\n" + row["body"] + "\n")
    if not rows:
        raise GatewayError(f"{options.key}: no such key; `gateway inbox` and `gateway outbox` list what there is")
    return 0


# --- deciding


def replay(options: Options) -> int:
    """Replay dead letters."""
    if bool(options.keys) == bool(options.status):
        raise ConfigError(["gateway replay: give keys, or --status dead for all"])
    keys = list(options.keys)
    if options.status:

        async def dead(reader: SqliteReader) -> list[str]:
            rows = [
                r
                for q in ("inbox", "outbox", "acknowledgements")
                for r in await reader.rows(q, status="dead", name=options.source, limit=100_000)
            ]
            return [row["row"] for row in rows]

        keys = _read(options, dead)
    if options.dry_run:
        for key in keys:
            print(f"would replay {key}")
        return 0
    return _decide(options, Command(action="replay", who=_who(), keys=keys))


def decide(options: Options) -> int:
    """Release or drop."""
    return _decide(options, Command(action=options.action, who=_who(), keys=list(options.keys), reason=options.reason))


def _decide(options: Options, command: Command) -> int:
    decided = msgspec.convert(_operate(options, command), list[Decided])
    if options.json:
        _print_json(msgspec.to_builtins(decided))
    else:
        for one in decided:
            after = f"; it waits behind {one.waits_behind}" if one.waits_behind else ""
            print(f"{one.key}: {one.problem}" if one.problem else f"{command.action}: {one.queue} {one.key}{after}")
    return 1 if any(one.problem for one in decided) else 0


def purge(options: Options) -> int:
    """Erase old bodies."""
    days = options.older_than_days if options.older_than_days is not None else _config(options).store.keep_bodies_days
    erased = _operate(options, Command(action="purge", who=_who(), days=days))
    print(json.dumps({"erased": erased}) if options.json else f"{erased} rows: bodies erased, keys kept")
    return 0


def resume(options: Options) -> int:
    """Resume a source."""
    _operate(options, Command(action="resume", who=_who(), name=options.source))
    print(f"resumed: {options.source}")
    return 0


def target(options: Options) -> int:
    """Hold or release a target."""
    _operate(options, Command(action=f"target-{options.action}", who=_who(), name=options.name, reason=options.reason))
    print(f"{options.action}: {options.name}")
    return 0


def migrate(options: Options) -> int:
    """Open the store for writing once: that brings it up to date."""
    config = _config(options)
    if _is_running(config):
        raise GatewayError("the gateway is running; it brought the store up to date when it started")
    asyncio.run(_on_store(config, lambda operations: asyncio.sleep(0)))
    print(f"{config.database} is up to date")
    return 0


# --- underneath


def _config(options: Options) -> Config:
    """The configuration without the connectors' own settings, whose secrets may only be there for the service.

    A file that somebody is editing does not keep others from looking at the running gateway: only what says where its
    data are has to be right.
    """
    config, report = load(options.config)
    if report.tables & {"gateway", "store"}:
        raise ConfigError(report.problems)
    return config


def _read(options: Options, read: Callable[[SqliteReader], Awaitable[T]]) -> T:
    return asyncio.run(_reading(_config(options), read))


async def _reading(config: Config, read: Callable[[SqliteReader], Awaitable[T]]) -> T:
    reader = SqliteReader(config.database)
    await reader.open()
    try:
        return await read(reader)
    finally:
        await reader.close()


def _operate(options: Options, command: Command) -> Any:
    config = _config(options)
    if _is_running(config):
        answer = asyncio.run(_ask(config, "POST", "/control", msgspec.to_builtins(command)))
        return answer["result"]

    async def operate(operations: Operations) -> Any:
        return msgspec.to_builtins(await operations(command))

    return asyncio.run(_on_store(config, operate))


async def _on_store(config: Config, work: Callable[[Operations], Awaitable[T]]) -> T:
    clock = SystemClock()
    if not config.database.exists():
        raise GatewayError(f"there is no {config.database} yet; it is made when the gateway is first started")
    store = SqliteStore(config.database, clock=clock)
    await store.open()
    try:
        return await work(Operations(store, clock, None))
    finally:
        await store.close()


def _is_running(config: Config) -> bool:
    """Whether a process has the data directory. Looks only: makes no file, and holds no lock that a start could meet."""
    try:
        descriptor = os.open(config.gateway.data_dir / "gateway.lock", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise GatewayError(f"{config.gateway.data_dir}: {error.strerror}; run this as root (sudo) or as the service's user") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _control(config: Config) -> Path:
    return config.gateway.data_dir / "control.sock"


async def _ask(config: Config, method: str, path: str, body: Any = None) -> Any:
    connector = aiohttp.UnixConnector(path=str(_control(config)))
    timeout = aiohttp.ClientTimeout(total=_CONTROL_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            async with session.request(method, f"http://gateway{path}", json=body) as response:
                answer = await response.json()
    except (aiohttp.ClientError, TimeoutError, PermissionError) as error:
        raise GatewayError(
            f"the gateway runs, and its control socket {_control(config)} does not answer ({type(error).__name__}); "
            "run this as root (sudo) or as the service's user, or wait until it has started"
        ) from error
    if response.status != 200:
        raise GatewayError(answer.get("problem", f"the gateway answers {response.status}"))
    return answer


def _who() -> str:
    """The person behind the command: who called sudo, where somebody did."""
    with suppress(KeyError, OSError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return f"uid {os.getuid()}"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        print("nothing")
        return
    widths = [max(len(str(row[n])) for row in (heads, *rows)) for n in range(len(heads))]
    for row in (heads, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
