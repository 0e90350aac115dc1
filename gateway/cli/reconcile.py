"""`gateway target reconcile`: print what differs between the gateway and the ERP."""

from __future__ import annotations

import asyncio

from msgspec import to_builtins

from gateway.api.errors import ConfigError
from gateway.cli.arguments import Options
from gateway.cli.output import print_json, print_table
from gateway.clock import SystemClock
from gateway.did_you_mean import nearest
from gateway.service.assembly import assemble
from gateway.store.sqlite.reader import SqliteReader
from gateway.targets.http import HttpTarget
from gateway.targets.reconcile import Report, compare


def reconcile(options: Options) -> int:
    """Print each order that differs; 1 if there is one."""
    assembly = assemble(options.config)
    settings = assembly.targets.get(options.name)
    if settings is None:
        raise ConfigError([f"{options.config}: there is no target {options.name!r}{nearest(options.name, assembly.targets)}"])
    if settings.preflight is None:
        raise ConfigError(
            [f"{options.config}: targets.{options.name} has no table preflight, which says how the ERP is asked for an order"]
        )
    clock = SystemClock()
    target = HttpTarget(options.name, settings, clock)

    async def work() -> Report:
        reader = SqliteReader(assembly.config.database)
        await reader.open()
        await target.open()
        try:
            return await compare(target, reader, clock, days=options.days, per_minute=options.per_minute)
        finally:
            await target.close()
            await reader.close()

    report = asyncio.run(work())
    if options.json:
        print_json(to_builtins(report))
    else:
        _print(options, report)
        if settings.preflight.id is None:
            print("orders that the ERP has twice cannot be seen: preflight.id is not set")
    return 1 if report.findings else 0


def _print(options: Options, report: Report) -> None:
    if report.findings:
        print_table(("key", "what", "in the ERP", "why"), [(f.key, f.what, " ".join(f.erp), f.detail) for f in report.findings])
    wrong = f"{len(report.findings)} not as they should be" if report.findings else "all of them as they should be"
    print(f"{report.looked} orders of {options.days:g} days looked up at {options.name}: {wrong}")
    if report.erased:
        print(f"{report.erased} more could not be looked up: their contents are erased (store.keep_bodies_days)")
