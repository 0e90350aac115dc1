"""`gateway sources` and `gateway resume`."""

from __future__ import annotations

import asyncio

from gateway.cli.access import config_of, operate
from gateway.cli.arguments import Commands, Options, utf8
from gateway.cli.output import one_line, print_json, print_result, print_table
from gateway.cli.status import door_states, read_status
from gateway.service.operations import Operation, operator_name


def register(commands: Commands) -> None:
    commands.add("sources", "list the configured sources and the state of their doors", sources)
    again = commands.add("resume", "open the doors of a source again and poll at once", resume, example="gateway resume reps")
    again.add_argument("source", type=utf8, metavar="SOURCE")


def sources(options: Options) -> int:
    config = config_of(options)
    found = asyncio.run(read_status(config))
    reasons = {one["source"]: one["reason"] for one in found["reasons"] if "source" in one}
    rows = [
        {
            "source": name,
            "connector": source.connector,
            "on_revision": source.on_revision,
            **found["sources"].get(name, {"doors": {}, "last_message_at": None}),
            "reason": reasons.get(name),
        }
        for name, source in config.sources.items()
    ]
    if options.json:
        print_json(rows)
        return 0
    shown = [(r["source"], r["connector"], r["on_revision"], "  ".join(door_states(r)), r["last_message_at"]) for r in rows]
    print_table(("source", "connector", "on_revision", "doors", "last message"), shown)
    for row in rows:
        if row["reason"]:
            print("\n" + one_line(f"DOWN {row['source']}: {row['reason']}"))
    return 0


def resume(options: Options) -> int:
    operate(options, Operation(action="resume", who=operator_name(), name=options.source))
    return print_result(options, {"resumed": options.source}, f"resumed: {options.source}")
