"""`gateway status`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, get_args

from gateway.api.messages import Door
from gateway.cli.access import config_of, reading
from gateway.cli.arguments import Commands, Options
from gateway.cli.backup import RESTORED
from gateway.cli.output import one_line, print_json, print_table
from gateway.cli.running_gateway import ask, is_running
from gateway.config.settings import Config
from gateway.store.sqlite.reader import SqliteReader
from gateway.web.status import room
from gateway.web.status import status as status_of

_STATUSES = ("ready", "leased", "unknown", "held", "dead", "done")
_QUEUES = ("inbox", "outbox", "acknowledgements", "submit")


def register(commands: Commands) -> None:
    commands.add("status", "show the state of sources, targets and queues; exit 1 if something is down", status)


def status(options: Options) -> int:
    """Print the state of everything; 1 if something is down."""
    found = asyncio.run(read_status(config_of(options)))
    if options.json:
        print_json(found)
        return 0
    print(f"running since {found['started_at']}\n" if found["running"] else "not running\n")
    shown = [(name, "  ".join(door_states(source)), source["last_message_at"]) for name, source in found["sources"].items()]
    print_table(("source", "doors", "last message"), shown)
    print()
    print_table(("target", "state", "reason"), [(name, one["state"], _reason(one)) for name, one in found["targets"].items()])
    print()
    print_table(("queue", *_STATUSES), [(queue, *(found[queue].get(word) for word in _STATUSES)) for queue in _QUEUES])
    if found["waiting"]:
        print()
        still = [(w["queue"], w["name"], w["status"], w["rows"], w["row"], w["waits"]) for w in found["waiting"]]
        print_table(("does not move", "for", "status", "rows", "oldest", "why"), still)
    print(f"\n{room(found['disk'])}")
    if found["restored_at"]:
        print(f"\nRESTORED at {found['restored_at']}: {RESTORED}")
    for reason in found["reasons"]:
        where = (reason.get("source") or next(iter(reason)), reason.get("door") or reason.get("hook") or reason.get("target"))
        why = f"{reason['store']}: {reason['reason']}" if "store" in reason else _reason(reason)
        print(f"\nDOWN {' '.join(filter(None, where))}: {one_line(why)}")
    return 1 if found["reasons"] else 0


def _reason(one: Mapping[str, Any]) -> str | None:
    return f"{one['reason']} (tried again {one['next_at']})" if one.get("next_at") else one.get("reason")


def door_states(source: Mapping[str, Any]) -> list[str]:
    """Return `webhook up`, `poll down` and so on."""
    return [f"{door} {state}" for door, state in source["doors"].items()]


async def read_status(config: Config) -> dict[str, Any]:
    """Return what `gateway status --json` prints: from the running gateway, or from the store if none runs."""
    if is_running(config):
        answer: dict[str, Any] = await ask(config, "GET", "/api/status")
        return answer
    doors = {name: source.doors or get_args(Door) for name, source in config.sources.items()}  # no plugin is imported to look

    async def read(reader: SqliteReader) -> dict[str, Any]:
        return await status_of(reader, metrics=None, doors=doors, sources=list(config.sources), targets=list(config.targets))

    return await reading(config, read)
