"""Access of commands to data: through a running gateway, or to the store itself when no gateway runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, get_args

import msgspec

from gateway.api.errors import ConfigError, GatewayError
from gateway.api.order import Kind
from gateway.cli.arguments import Options
from gateway.cli.running_gateway import ask, is_running
from gateway.clock import SystemClock
from gateway.config.settings import Config, load
from gateway.service.operations import Operation, Operations
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.new_store import is_empty, missing
from gateway.store.sqlite.reader import SqliteReader
from gateway.store.waiting import Side, Sides, sides_of

T = TypeVar("T")

_SIDES_S = 2.0


def config_of(options: Options) -> Config:
    """Load the configuration without the connectors' own settings, whose secrets only the service may be able to read.

    Only [gateway] and [store] must be right: a file that is being edited keeps nobody from looking at the running gateway.
    """
    config, report = load(options.config)
    if report.tables & {"gateway", "store"}:
        raise ConfigError(report.problems)
    return config


async def reading(config: Config, read: Callable[[SqliteReader], Awaitable[T]]) -> T:
    """Read from the database, whether or not a gateway runs."""
    reader = SqliteReader(config.database)
    await reader.open()
    try:
        return await read(reader)
    finally:
        await reader.close()


def explained(options: Options, read: Callable[..., Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Read rows with the reason for which each waits. A running gateway is asked for the state of its targets where that matters."""
    config = config_of(options)

    async def work(reader: SqliteReader) -> list[dict[str, Any]]:
        rows = await read(reader)
        return await read(reader, sides=await _sides(config)) if any(row["waits"] for row in rows) else rows

    return asyncio.run(reading(config, work))


async def _sides(config: Config) -> Sides:
    """Ask a running gateway for the state of its targets and sources; an empty answer where it does not reply."""
    with suppress(GatewayError):
        if is_running(config):
            return sides_of(await ask(config, "GET", "/api/status", timeout_s=_SIDES_S))
        targets = {name: Side(state="off") for name in config.targets}
        return Sides(running=False, sources=frozenset(config.sources), targets=targets)
    return Sides()


def operate(options: Options, operation: Operation) -> Any:
    """Carry out an operation and return its result as JSON values. Raises GatewayError."""
    config = config_of(options)
    if is_running(config):
        return asyncio.run(ask(config, "POST", "/control", msgspec.to_builtins(operation)))["result"]

    async def work(operations: Operations) -> Any:
        return msgspec.to_builtins(await operations(operation))

    return asyncio.run(on_store(config, work))


async def on_store(config: Config, work: Callable[[Operations], Awaitable[T]]) -> T:
    """Open the store of a stopped gateway for writing while `work` runs."""
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
