"""`gateway inbox`, `outbox`, `submissions` and `orders`: lists, newest first."""

from __future__ import annotations

from gateway.cli.access import explained
from gateway.cli.arguments import Commands, Options, count, utf8
from gateway.cli.output import print_json, print_table
from gateway.store.row_names import Queue, statuses_of

# Queue, command, summary, and what its rows are listed by.
_LISTS: tuple[tuple[Queue, str, str, str], ...] = (
    ("inbox", "inbox", "list the newest rows of the inbox: what arrived from vendors", "source"),
    ("outbox", "outbox", "list the newest rows of the outbox: messages to targets", "target"),
    ("submit", "submissions", "list the newest commands for vendors", "source"),
)


def register(commands: Commands) -> None:
    for queue, name, summary, by in _LISTS:
        listed = commands.add(name, summary, rows, example=f"gateway {name} --status dead --{by} NAME")
        listed.set_defaults(queue=queue)
        listed.add_argument("--status", choices=statuses_of(queue), help="only rows with this status")
        listed.add_argument(f"--{by}", dest="name", type=utf8, metavar="NAME", help=f"only rows of this {by}")
        listed.add_argument("--limit", type=count, default=50, help="at most so many rows; default 50")
    listed = commands.add("orders", "list the newest orders and the state of the newest message of each", orders)
    listed.add_argument("--source", type=utf8, metavar="NAME", help="only orders of this source")
    listed.add_argument("--limit", type=count, default=50, help="at most so many orders; default 50")


def rows(options: Options) -> int:
    found = explained(
        options, lambda reader, **sides: reader.rows(options.queue, status=options.status, name=options.name, limit=options.limit, **sides)
    )
    if options.json:
        print_json(found)
        return 0
    name = {"inbox": "source", "outbox": "target", "submit": "command"}[options.queue]
    shown = [(r["row"], r["at"], r["key"], r["name"], r["status"], r["attempts"], r["outcome"], r["waits"] or r["reason"]) for r in found]
    print_table(("row", "arrived", "key", name, "status", "attempts", "outcome", "reason"), shown)
    return 0


def orders(options: Options) -> int:
    found = explained(options, lambda reader, **sides: reader.orders(source=options.source, limit=options.limit, **sides))
    if options.json:
        print_json(found)
        return 0
    shown = [(r["source"], r["order_ref"], r["versions"], r["messages"], r["newest_message"], r["waits"]) for r in found]
    print_table(("source", "order", "versions", "messages", "newest message", "waits for"), shown)
    return 0
