"""What each command of the command line does; `cli.py` says how it is called."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, get_args

import msgspec

from gateway.api.errors import ConfigError, GatewayError
from gateway.api.messages import Door
from gateway.api.order import Kind, json_schema
from gateway.cli.output import one_line, plain, print_json, print_table
from gateway.cli.reconcile import reconcile
from gateway.cli.running_gateway import ask, is_running
from gateway.clock import SystemClock
from gateway.config.settings import Config, load
from gateway.service.operations import Operation, Operations, operator_name
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.new_store import is_empty, missing
from gateway.store.sqlite.reader import SqliteReader, as_text
from gateway.store.sqlite.row_names import NOTHING
from gateway.store.targets import Moved
from gateway.store.waiting import Side, Sides, sides_of
from gateway.web.status import room
from gateway.web.status import status as status_of

T = TypeVar("T")
Options = argparse.Namespace

_SIDES_S = 2.0
_NOT_RELOADED = "nothing was reloaded: a gateway that runs goes on with its configuration from before"
_BODIES = ("body", "fetched", "answer")
RESTORED = "what is from before is looked up, or held for you, before it is sent; when that is done: gateway restore --finish"


# --- the configuration


def schema(_: Options) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0


# --- looking


def status(options: Options) -> int:
    """Print how things are; 1 where something is down."""
    said = asyncio.run(_status(config_of(options)))
    if options.json:
        print_json(said)
        return 0
    print(f"running since {said['started_at']}" if said["running"] else "not running")
    print()
    shown = [(name, "  ".join(_doors(source)), source["last_message_at"]) for name, source in said["sources"].items()]
    print_table(("source", "doors", "last message"), shown)
    print()
    print_table(("target", "state", "reason"), [(name, one["state"], _why(one)) for name, one in said["targets"].items()])
    print()
    words, queues = ("ready", "leased", "unknown", "held", "dead", "done"), ("inbox", "outbox", "acknowledgements", "submit")
    print_table(("queue", *words), [(queue, *(said[queue].get(word) for word in words)) for queue in queues])
    if said["waiting"]:
        print()
        still = [(w["queue"], w["name"], w["status"], w["rows"], w["row"], w["waits"]) for w in said["waiting"]]
        print_table(("does not move", "for", "status", "rows", "oldest", "why"), still)
    print(f"\n{room(said['disk'])}")
    if said["restored_at"]:
        print(f"\nRESTORED at {said['restored_at']}: {RESTORED}")
    for reason in said["reasons"]:
        where = " ".join(
            filter(None, (reason.get("source") or next(iter(reason)), reason.get("door") or reason.get("hook") or reason.get("target")))
        )
        print(f"\nDOWN {where}: " + one_line(f"{reason['store']}: {reason['reason']}" if "store" in reason else _why(reason)))
    return 1 if said["reasons"] else 0


def _why(one: dict[str, Any]) -> str | None:
    """A reason, and when it is tried again."""
    return f"{one['reason']} (tried again {one['next_at']})" if one.get("next_at") else one.get("reason")


def _doors(source: dict[str, Any]) -> list[str]:
    return [f"{door} {state}" for door, state in source["doors"].items()]


async def _status(config: Config) -> dict[str, Any]:
    if is_running(config):
        answer: dict[str, Any] = await ask(config, "GET", "/api/status")
        return answer
    doors = {name: source.doors or get_args(Door) for name, source in config.sources.items()}  # no plugin is imported to look

    async def read(reader: SqliteReader) -> dict[str, Any]:
        return await status_of(reader, metrics=None, doors=doors, sources=list(config.sources), targets=list(config.targets))

    return await reading(config, read)


def sources(options: Options) -> int:
    """List the sources."""
    config = config_of(options)
    said = asyncio.run(_status(config))
    reasons = {one["source"]: one["reason"] for one in said["reasons"] if "source" in one}
    rows = [
        {
            "source": name,
            "connector": source.connector,
            "on_revision": source.on_revision,
            **said["sources"].get(name, {"doors": {}, "last_message_at": None}),
            "reason": reasons.get(name),
        }
        for name, source in config.sources.items()
    ]
    if options.json:
        print_json(rows)
    else:
        shown = [(r["source"], r["connector"], r["on_revision"], "  ".join(_doors(r)), r["last_message_at"]) for r in rows]
        print_table(("source", "connector", "on_revision", "doors", "last message"), shown)
        for row in rows:
            if row["reason"]:
                print("\n" + one_line(f"DOWN {row['source']}: {row['reason']}"))
    return 0


def listing(options: Options) -> int:
    """List rows of a queue."""
    rows = _explained(
        options, lambda reader, **by: reader.rows(options.queue, status=options.status, name=options.name, limit=options.limit, **by)
    )
    if options.json:
        print_json(rows)
    else:
        name = {"inbox": "source", "outbox": "target", "submit": "command"}[options.queue]
        shown = [
            (r["row"], r["at"], r["key"], r["name"], r["status"], r["attempts"], r["outcome"], r["waits"] or r["reason"]) for r in rows
        ]
        print_table(("row", "came", "key", name, "status", "tries", "outcome", "reason"), shown)
    return 0


def orders(options: Options) -> int:
    """List orders."""
    rows = _explained(options, lambda reader, **by: reader.orders(source=options.source, limit=options.limit, **by))
    if options.json:
        print_json(rows)
    else:
        shown = [(r["source"], r["order_ref"], r["versions"], r["messages"], r["newest_message"], r["waits"]) for r in rows]
        print_table(("source", "order", "versions", "messages", "newest message", "waits"), shown)
    return 0


def show(options: Options) -> int:
    """Show everything of a key; 1 where there is nothing."""
    rows = _explained(options, lambda reader, **by: reader.show(options.key, **by))
    for row in rows:
        bodies = {name: row.pop(name) for name in _BODIES if name in row}
        if options.body:
            row.update({name: as_text(body) for name, body in bodies.items()})
    if not rows:
        raise GatewayError(f"{one_line(options.key)}: {NOTHING}")
    if options.json:
        print_json(rows)
    else:
        print("\n\n".join(_everything(row) for row in rows))
    return 0


def _everything(row: dict[str, Any]) -> str:
    """One row for people."""
    name = {"inbox": "", "outbox": "target", "acknowledgements": "stage", "submit": "command"}[row["queue"]]
    facts = {**row, name: row["name"], "came": row["at"], "due": row["due_at"], "tries": row["attempts"]}
    facts["its order"] = " ".join(filter(None, (row.get("erp_number"), row.get("erp_id") and f"({row['erp_id']})"))) or None
    facts["codes"] = row.get("codes")
    names = ("source", "order_ref", "door", name, "kind", "caller", "came", "due", "tries", "its order", "codes", "reason", "waits")
    lines = [f"{row['row']}  {row['key']}  {row['status']}" + (f" ({row['outcome']})" if row["outcome"] else "")]
    lines += [f"    {fact:10} {one_line(facts[fact])}" for fact in names if fact and facts.get(fact) is not None]
    for tried in row["tried"]:
        first, *more = str(tried["detail"] or "").split("\n")  # what differs from the version before stands on lines of its own
        answer = " ".join(one_line(part) for part in (tried["http_status"], first) if part)
        lines.append(f"    try {tried['attempt']:<6} {tried['at']}  {tried['outcome']}  {tried['duration_ms']} ms  {answer}".rstrip())
        lines += [f"    {'':10} {one_line(line)}" for line in more]
    for decided in row["decided"]:
        lines.append(
            f"    decided    {decided['at']}  {decided['action']} by {one_line(decided['who'])}: {one_line(decided['reason'] or '-')}"
        )
    return "\n".join(lines) + "".join(f"\n\n{plain(row[name])}" for name in _BODIES if row.get(name))


# --- operating


def purge(options: Options) -> int:
    """Erase old bodies."""
    days = options.older_than_days if options.older_than_days is not None else config_of(options).store.keep_bodies_days
    erased = operate(options, Operation(action="purge", who=operator_name(), days=days))
    _done(options, {"erased": erased}, f"{erased} rows: bodies erased, keys kept")
    return 0


def resume(options: Options) -> int:
    """Resume a source."""
    operate(options, Operation(action="resume", who=operator_name(), name=options.source))
    _done(options, {"resumed": options.source}, f"resumed: {options.source}")
    return 0


def reload(options: Options) -> int:
    """Reload the configuration of the running gateway and wait for the outcome; 1 where it was refused."""
    try:
        if not is_running(config_of(options)):
            _signal_main()
            raise GatewayError("no gateway runs on gateway.data_dir; it reads its configuration when it starts")
        operate(options, Operation(action="reload", who=operator_name()))
    except ConfigError as error:  # it does not say where the gateway is: the gateway finds the same, and says so from then on
        _signal_main()
        raise GatewayError("\n".join((*error.problems, _NOT_RELOADED))) from error
    except GatewayError as error:
        raise GatewayError(f"{error}\n{_NOT_RELOADED}") from error
    print("reloaded")
    return 0


def _signal_main() -> None:
    """SIGHUP for the process that systemd runs ExecReload for."""
    main = os.environ.get("MAINPID", "")
    if main.isdigit() and int(main) > 1:
        os.kill(int(main), signal.SIGHUP)


def clock(options: Options) -> int:
    """A person says that the clock is right."""
    was_in_doubt = operate(options, Operation(action="confirm-clock", who=operator_name()))
    print("confirmed: what is old is let go of again" if was_in_doubt else "the clock is not in doubt")
    return 0


def target(options: Options) -> int:
    """Hold or release a target, or compare what is there."""
    if options.action == "reconcile":
        return reconcile(options)
    operate(options, Operation(action=f"target-{options.action}", who=operator_name(), name=options.name, reason=options.reason))
    _done(options, {options.action: options.name}, f"{options.action}: {options.name}")
    return 0


def target_move(options: Options) -> int:
    """Give what waits for a target that is configured no more to another one; 1 where some of it cannot go."""
    command = Operation(
        action="target-move", who=operator_name(), name=options.name, to=options.to, same_erp=options.same_erp, dry_run=True
    )
    moved = msgspec.convert(operate(options, command), list[Moved])
    going = [one for one in moved if one.problem is None]
    if len(going) > 1 and not (options.yes or options.dry_run):
        raise ConfigError([f"gateway target move: {len(going)} rows would go; --dry-run shows them, --yes moves them"])
    if not options.dry_run:
        command.dry_run = False
        moved = msgspec.convert(operate(options, command), list[Moved])
    if options.json:
        print_json(msgspec.to_builtins(moved))
    else:
        verb = "would move" if options.dry_run else "moved"
        for one in moved:
            print(
                one_line(
                    f"{one.row} {one.key}: {one.problem}" if one.problem else f"{verb} {one.row} {one.key} ({one.status}) to {options.to}"
                )
            )
        if not moved:
            print(f"nothing waits for {options.name}")
    return 1 if any(one.problem for one in moved) else 0


def _done(options: Options, as_json: dict[str, Any], as_text: str) -> None:
    print(json.dumps(as_json) if options.json else as_text)


def migrate(options: Options) -> int:
    """Open the store for writing once: that brings it up to date."""
    config = config_of(options)
    if is_running(config):
        raise GatewayError("the gateway is running; it brought the store up to date when it started")
    asyncio.run(_on_store(config, lambda operations: asyncio.sleep(0)))
    print(f"{config.database} is up to date")
    return 0


# --- underneath


def config_of(options: Options) -> Config:
    """The configuration without the connectors' own settings, whose secrets may only be there for the service.

    A file that somebody is editing does not keep others from looking at the running gateway: only what says where its
    data are has to be right.
    """
    config, report = load(options.config)
    if report.tables & {"gateway", "store"}:
        raise ConfigError(report.problems)
    return config


def _explained(options: Options, read: Callable[..., Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Rows with what each of them waits for. Where that may be a target, a running gateway is asked how it is."""
    config = config_of(options)

    async def work(reader: SqliteReader) -> list[dict[str, Any]]:
        rows = await read(reader)
        return await read(reader, sides=await _sides(config)) if any(row["waits"] for row in rows) else rows

    return asyncio.run(reading(config, work))


async def _sides(config: Config) -> Sides:
    """Ask a running gateway how its targets and sources are; without an answer nothing is known of them."""
    with suppress(GatewayError):
        if is_running(config):
            return sides_of(await ask(config, "GET", "/api/status", timeout_s=_SIDES_S))
        targets = {name: Side(state="off") for name in config.targets}
        return Sides(running=False, sources=frozenset(config.sources), targets=targets)
    return Sides()


async def reading(config: Config, read: Callable[[SqliteReader], Awaitable[T]]) -> T:
    reader = SqliteReader(config.database)
    await reader.open()
    try:
        return await read(reader)
    finally:
        await reader.close()


def operate(options: Options, command: Operation) -> Any:
    config = config_of(options)
    if is_running(config):
        answer = asyncio.run(ask(config, "POST", "/control", msgspec.to_builtins(command)))
        return answer["result"]

    async def operate(operations: Operations) -> Any:
        return msgspec.to_builtins(await operations(command))

    return asyncio.run(_on_store(config, operate))


async def _on_store(config: Config, work: Callable[[Operations], Awaitable[T]]) -> T:
    clock = SystemClock()
    if is_empty(config.database):
        raise GatewayError(missing(config.database))
    store = SqliteStore(config.database, clock=clock)
    await store.open()
    try:
        accepts = {name: table.get("accepts", get_args(Kind)) for name, table in config.targets.items()}
        return await work(Operations(store, clock, None, accepts))
    finally:
        await store.close()
