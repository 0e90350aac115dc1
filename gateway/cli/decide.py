"""`gateway replay`, `release`, `drop` and `resend`. More than one row needs `--yes`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import msgspec

from gateway.api.errors import ConfigError
from gateway.cli.access import config_of, operate, reading
from gateway.cli.arguments import KEYS, Commands, Options, age_s, utf8
from gateway.cli.output import one_line, plain, print_json
from gateway.service.operations import Operation, operator_name
from gateway.store.decisions import AT_ONCE, Choice, Decided
from gateway.store.row_names import Status

_SHOWN = 20
_ACTIONS: tuple[tuple[str, str, tuple[Status, ...], str], ...] = (
    ("replay", "try dead letters again", ("dead",), "gateway replay --status dead --source apicbase --yes"),
    ("release", "let held rows continue", ("held",), "gateway release inbox:17"),
    ("drop", "end rows without delivering them", ("dead", "held", "ready", "unknown"), 'gateway drop outbox:17 --reason "sent by fax"'),
    ("resend", "send a delivered message to its target again, under the same key", (), 'gateway resend outbox:17 --reason "lost there"'),
)  # fmt: skip


def register(commands: Commands) -> None:
    for action, summary, statuses, example in _ACTIONS:
        made = commands.add(action, summary, decide, example=example)
        made.set_defaults(action=action, reason="", status=None, source=None, target=None, older_than_s=None)
        made.add_argument("keys", nargs="*" if statuses else "+", type=utf8, metavar="KEY", help=KEYS)
        if action in ("drop", "resend"):
            made.add_argument("--reason", type=utf8, required=True, help="why; the audit keeps it for good, so name no person")
        if statuses:
            made.add_argument("--status", choices=statuses, help="instead of keys: all rows with this status")
            made.add_argument("--source", type=utf8, metavar="NAME", help="instead of keys: rows of this source")
            made.add_argument("--target", type=utf8, metavar="NAME", help="instead of keys: messages to this target")
            made.add_argument(
                "--older-than", dest="older_than_s", type=age_s, metavar="AGE", help="only rows older than this: 2d, 3h, 90m, 30s"
            )
        made.add_argument("--dry-run", action="store_true", help="list the rows and change nothing")
        made.add_argument("--yes", action="store_true", help="required for more than one row")


def decide(options: Options) -> int:
    """Carry out the decision, or list its rows; 1 if some rows do not allow it, 2 if it needs `--yes`."""
    choice = _choice(options)
    if bool(options.keys) == choice.filters:
        raise ConfigError([f"gateway {options.action}: give either keys or filters such as --status"])
    if choice.filters and options.action == "drop" and options.status is None:
        raise ConfigError(["gateway drop: --status is required: dead, held, ready or unknown"])
    decided = _preview(options, choice) if options.dry_run else _decided(options, choice)
    asks = not options.dry_run and any(one.would for one in decided)
    if options.json:
        print_json(msgspec.to_builtins(decided))
    else:
        _print(options.action, decided[:_SHOWN] if asks else decided)
    if asks:
        _ask(options.action, decided)
        return 2
    return 1 if any(one.problem for one in decided) else 0


def _choice(options: Options) -> Choice:
    return Choice(
        status=options.status, source=options.source, target=options.target, older_than_s=options.older_than_s, yes=options.yes
    )  # fmt: skip


def _preview(options: Options, choice: Choice) -> list[Decided]:
    """Return the rows that the decision would change. Reads only, so it needs no running gateway and delays none."""
    found: list[Decided] = []
    while True:
        rest = msgspec.structs.replace(choice, after=found[-1].row if found else None)
        part = asyncio.run(reading(config_of(options), lambda reader, rest=rest: reader.would(options.action, options.keys, rest)))  # type: ignore[misc]
        found += part
        if options.keys or len(part) < AT_ONCE:
            return found


def _decided(options: Options, choice: Choice) -> list[Decided]:
    """Carry out the decision, some rows a transaction, so that webhooks wait for no more than one."""
    ask = partial(
        Operation,
        action=options.action,
        who=operator_name(),
        reason=options.reason,
        status=choice.status,
        source=choice.source,
        target=choice.target,
        older_than_s=choice.older_than_s,
        yes=options.yes,
    )
    found: list[Decided] = []
    keys, more = list(options.keys), True
    while more:
        some, keys = (keys[:AT_ONCE], keys[AT_ONCE:]) if options.yes else (keys, [])
        after = found[-1].row if found and not some else None
        part = msgspec.convert(operate(options, ask(keys=some, after=after)), list[Decided])
        found += part
        more = bool(keys) or (not some and options.yes and len(part) >= AT_ONCE)
    return found


def _print(action: str, decided: list[Decided]) -> None:
    for one in decided:
        if one.problem:
            print(plain(f"{one_line(one.key)}: {one.problem}"))
        elif one.would:
            print(one_line(f"would {action} {one.row}: {one.key}, {one.status}"))
        else:
            after = f"; it waits behind {one.waits_behind}" if one.waits_behind else ""
            print(one_line(f"{action}: {one.row} {one.key}{after}"))
    if not decided:
        print(f"nothing to {action}")


def _ask(action: str, decided: list[Decided]) -> None:
    count = sum(one.would for one in decided)
    more = " or more" if count >= AT_ONCE else ""
    hidden = f"; --dry-run lists the other {count - _SHOWN}{more}" if len(decided) > _SHOWN else ""
    print(f"gateway: {count}{more} rows, and nothing was changed: add --yes to {action} all of them, or name one{hidden}", file=sys.stderr)
