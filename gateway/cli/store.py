"""`gateway migrate`, `purge` and `clock`: what an operator does with the database."""

from __future__ import annotations

import asyncio

from gateway.api.errors import GatewayError
from gateway.cli.access import config_of, on_store, operate
from gateway.cli.arguments import Commands, Options, days
from gateway.cli.output import print_result
from gateway.cli.running_gateway import is_running
from gateway.service.operations import Operation, operator_name


def register(commands: Commands) -> None:
    commands.add("migrate", "bring the database of a stopped gateway up to this version", migrate, json=False)
    erase = commands.add(
        "purge", "erase the stored bodies of finished rows; their keys stay", purge, example="gateway purge --older-than-days 30"
    )
    erase.add_argument("--older-than-days", type=days, default=None, metavar="DAYS", help="default: store.keep_bodies_days")
    time = commands.add("clock", "confirm that the clock of this machine is right", clock, example="gateway clock confirm", json=False)
    time.add_argument("action", choices=["confirm"], help="needed after a jump of more than a day: until then nothing is erased")


def migrate(options: Options) -> int:
    """Open the store for writing once: that brings it up to date."""
    config = config_of(options)
    if is_running(config):
        raise GatewayError("the gateway is running; it brought the store up to date when it started")
    asyncio.run(on_store(config, lambda operations: asyncio.sleep(0)))
    print(f"{config.database} is up to date")
    return 0


def purge(options: Options) -> int:
    keep_days = options.older_than_days if options.older_than_days is not None else config_of(options).store.keep_bodies_days
    erased = operate(options, Operation(action="purge", who=operator_name(), days=keep_days))
    return print_result(options, {"erased": erased}, f"{erased} rows: bodies erased, keys kept")


def clock(options: Options) -> int:
    was_in_doubt = operate(options, Operation(action="confirm-clock", who=operator_name()))
    print("confirmed: the gateway erases old rows again" if was_in_doubt else "the clock is not in doubt")
    return 0
