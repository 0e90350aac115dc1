"""`gateway replay`, `release`, `drop` and `resend`: what they touch is what they were told, and more than one row needs `--yes`."""

from __future__ import annotations

import argparse
import asyncio
import sys

import msgspec

from gateway.api.errors import ConfigError
from gateway.cli.commands import config_of, operate, reading
from gateway.cli.output import one_line, plain, print_json
from gateway.service.operations import Operation, operator_name
from gateway.store.decisions import AT_ONCE, Choice, Decided

_SHOWN = 20


def decide(options: argparse.Namespace) -> int:
    """Decide, or say what would be decided; 1 where some of it cannot be done, 2 where it needs `--yes`."""
    choice = _choice(options)
    if bool(options.keys) == choice.filters:
        raise ConfigError([f"gateway {options.action}: give keys, or --status and the like for all that is so"])
    if choice.filters and options.action == "drop" and options.status is None:
        raise ConfigError(["gateway drop: say of which rows: --status dead, held, ready or unknown"])
    said = _looked(options, choice) if options.dry_run else _decided(options, choice)
    asks = not options.dry_run and any(one.would for one in said)
    if options.json:
        print_json(msgspec.to_builtins(said))
    else:
        _print(options.action, said[:_SHOWN] if asks else said)
    if asks:
        _ask(options.action, said)
        return 2
    return 1 if any(one.problem for one in said) else 0


def _choice(options: argparse.Namespace) -> Choice:
    return Choice(
        status=options.status, source=options.source, target=options.target, older_than_s=options.older_than_s, yes=options.yes
    )  # fmt: skip


def _looked(options: argparse.Namespace, choice: Choice) -> list[Decided]:
    """What would be done: a look, which needs no running gateway and holds up none."""
    said: list[Decided] = []
    while True:
        behind = msgspec.structs.replace(choice, after=said[-1].row if said else None)
        part = asyncio.run(reading(config_of(options), lambda reader, at=behind: reader.would(options.action, options.keys, at)))  # type: ignore[misc]
        said += part
        if options.keys or len(part) < AT_ONCE:
            return said


def _decided(options: argparse.Namespace, choice: Choice) -> list[Decided]:
    """What was done, some rows a transaction: the doors wait for no more than one."""
    said: list[Decided] = []
    keys, left = list(options.keys), True
    while left:
        some, keys = (keys[:AT_ONCE], keys[AT_ONCE:]) if options.yes else (keys, [])
        command = Operation(
            action=options.action,
            who=operator_name(),
            keys=some,
            reason=options.reason,
            status=choice.status,
            source=choice.source,
            target=choice.target,
            older_than_s=choice.older_than_s,
            after=said[-1].row if said and not some else None,
            yes=options.yes,
        )
        part = msgspec.convert(operate(options, command), list[Decided])
        said += part
        left = bool(keys) or (not some and options.yes and len(part) >= AT_ONCE)
    return said


def _print(action: str, said: list[Decided]) -> None:
    for one in said:
        if one.problem:
            print(plain(f"{one_line(one.key)}: {one.problem}"))
        elif one.would:
            print(one_line(f"would {action} {one.row}: {one.key}, {one.status}"))
        else:
            after = f"; it waits behind {one.waits_behind}" if one.waits_behind else ""
            print(one_line(f"{action}: {one.row} {one.key}{after}"))
    if not said:
        print(f"nothing to {action}")


def _ask(action: str, said: list[Decided]) -> None:
    count = sum(one.would for one in said)
    more = " or more" if count >= AT_ONCE else ""
    hidden = f"; --dry-run shows the {count - _SHOWN}{more} others" if len(said) > _SHOWN else ""
    print(
        f"gateway: {count}{more} rows, and nothing was done: say --yes to {action} them all, or name one of them{hidden}", file=sys.stderr
    )
