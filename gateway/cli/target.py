"""`gateway target hold|release|move|reconcile|check|map|send`; check, map and send are in target_check.py."""

from __future__ import annotations

import msgspec

from gateway.api.errors import ConfigError
from gateway.cli import target_check
from gateway.cli.access import operate
from gateway.cli.arguments import Commands, Options, count, days, utf8
from gateway.cli.output import one_line, print_json, print_result
from gateway.cli.reconcile import reconcile
from gateway.service.operations import Operation, operator_name
from gateway.store.targets import Moved


def register(commands: Commands) -> None:
    """Add `target` and its actions."""
    target = commands.add("target", "pause, release, check, compare or replace a target", lambda _: 2, json=False)
    actions = Commands(target.add_subparsers(title="actions", required=True, metavar="ACTION"), inherits=True)
    hold = actions.add("hold", "pause the target: send nothing to it until it is released", pause, example="gateway target hold erp")
    hold.add_argument("name", type=utf8, metavar="NAME")
    hold.add_argument("--reason", type=utf8, default="", help="why; it is stored and shown to everybody, so name no person")
    actions.add("release", "send to a paused target again", release).add_argument("name", type=utf8, metavar="NAME")
    moved = actions.add("move", "give the messages for a target that is no longer configured to another target", move)
    moved.add_argument("name", type=utf8, metavar="NAME")
    moved.add_argument("to", type=utf8, metavar="NEW")
    moved.add_argument("--same-erp", action="store_true", help="NEW is the same ERP under another name: it has what NAME was sent")
    moved.add_argument("--dry-run", action="store_true", help="list the messages and move nothing")
    moved.add_argument("--yes", action="store_true", help="required for more than one message")
    compared = actions.add("reconcile", "look up every order in the ERP, and list those that are missing, doubled or wrong", reconcile)
    compared.add_argument("name", type=utf8, metavar="NAME")
    compared.add_argument("--days", type=days, default=1.0, help="how far back; default 1")
    compared.add_argument("--per-minute", type=count, default=120, metavar="COUNT", help="look-ups a minute; default 120")
    target_check.register(actions)


def pause(options: Options) -> int:
    operate(options, Operation(action="target-hold", who=operator_name(), name=options.name, reason=options.reason))
    return print_result(options, {"hold": options.name}, f"paused: {options.name}")


def release(options: Options) -> int:
    operate(options, Operation(action="target-release", who=operator_name(), name=options.name))
    return print_result(options, {"release": options.name}, f"released: {options.name}")


def move(options: Options) -> int:
    """Move messages to another target; 1 if some of them cannot be moved."""
    asked = Operation(action="target-move", who=operator_name(), name=options.name, to=options.to, same_erp=options.same_erp, dry_run=True)
    moved = msgspec.convert(operate(options, asked), list[Moved])
    going = sum(one.problem is None for one in moved)
    if going > 1 and not (options.yes or options.dry_run):
        raise ConfigError([f"gateway target move: {going} rows would go; --dry-run lists them, --yes moves them"])
    if not options.dry_run:
        asked.dry_run = False
        moved = msgspec.convert(operate(options, asked), list[Moved])
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
