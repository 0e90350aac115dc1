"""`gateway target reconcile`: ask the ERP for every order that it should have, and name those it has twice or not at all."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from msgspec import Struct, to_builtins

from gateway.api.errors import ConfigError, GatewayError
from gateway.cli.output import print_json, print_table
from gateway.clock import Clock, SystemClock, to_ms
from gateway.did_you_mean import nearest
from gateway.rate_limit import RateLimiter
from gateway.service.assembly import assemble
from gateway.store.reader import Reader
from gateway.store.sqlite.reader import SqliteReader
from gateway.targets.http import HttpTarget
from gateway.targets.preflight import Ended, Seen

_PAGE = 200
_TRIES = 3
_PAUSE_S = 5.0
_DELIVERED = ("delivered", "duplicate")


class Finding(Struct, frozen=True, kw_only=True):
    """One order that is not as it should be.

    Attributes:
        what: `missing`: delivered, and the ERP does not have it. `twice`: the ERP has several. `shared`: another of our
            orders is the same one there. `there`: it waits for a person, and the ERP has it. `unclear`: it cannot be looked up.
    """

    key: str
    what: str
    erp: tuple[str, ...] = ()
    detail: str | None = None


class Report(Struct, kw_only=True):
    """All of it. `erased`: orders whose contents are gone, so that nobody can look for them."""

    looked: int = 0
    erased: int = 0
    findings: list[Finding] = []


def reconcile(options: argparse.Namespace) -> int:
    """Print what is not as it should be; 1 where there is something."""
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
        if report.findings:
            print_table(("key", "what", "in the ERP", "why"), [(f.key, f.what, " ".join(f.erp), f.detail) for f in report.findings])
        wrong = f"{len(report.findings)} not as they should be" if report.findings else "all of them as they should be"
        print(f"{report.looked} orders of {options.days:g} days looked up at {options.name}: {wrong}")
        if report.erased:
            print(f"{report.erased} more could not be looked up: their contents are erased (store.keep_bodies_days)")
        if settings.preflight.id is None:
            print("orders that are there twice cannot be seen: preflight.id is not set")
    return 1 if report.findings else 0


async def compare(target: HttpTarget, reader: Reader, clock: Clock, *, days: float, per_minute: int) -> Report:
    """Look for every order of the last `days`, newest first, at most so many a minute.

    Raises:
        GatewayError: The ERP cannot be asked; nothing is said of the orders that are left.
    """
    report, limiter, owners = Report(), RateLimiter(per_minute, 60.0, clock), dict[str, str]()
    preflight = target.settings.preflight
    assert preflight is not None
    seen_orders: set[int] = set()
    async for row in _rows(reader, target.name, to_ms(clock.now() - timedelta(days=days))):
        if row["order_id"] in seen_orders and preflight.per == "order":
            continue
        if row["body"] is None:
            report.erased += 1
            continue
        seen_orders.add(row["order_id"])
        await limiter.take()
        try:
            seen = await _look(target, row, clock)
        except Ended as ended:
            report.findings.append(Finding(key=row["key"], what="unclear", detail=ended.outcome.reason))
            continue
        report.looked += 1
        finding = _judge(row, seen, owners)
        if finding is not None:
            report.findings.append(finding)
    return report


async def _rows(reader: Reader, target: str, since_ms: int) -> AsyncIterator[dict[str, Any]]:
    """Deliveries that have come to an end or stand still, newest first, a page at a time."""
    before: int | None = None
    while rows := await reader.deliveries(target, before=before, limit=_PAGE):
        for row in rows:
            if row["created_at_ms"] < since_ms:
                return
            yield row
        before = rows[-1]["id"]


async def _look(target: HttpTarget, row: dict[str, Any], clock: Clock) -> Seen:
    """Raises Ended for what is this order's fault, GatewayError for what concerns all of them."""
    for tries in range(1, _TRIES + 1):
        try:
            return await target.look(row["body"])
        except Ended as ended:
            outcome = ended.outcome
            if outcome.meaning in ("held", "refused"):
                raise
            if outcome.meaning == "hold" or tries == _TRIES:
                raise GatewayError(f"{target.name} cannot be asked, stopped at {row['key']}: {outcome.reason}") from ended
            await clock.sleep(outcome.retry_after_s or _PAUSE_S)
    raise AssertionError("the last try ends above")


def _judge(row: dict[str, Any], seen: Seen, owners: dict[str, str]) -> Finding | None:
    key = row["key"]

    def made(what: str, detail: str | None = None) -> Finding:
        return Finding(key=key, what=what, erp=seen.ids or ((seen.number,) if seen.number else ()), detail=detail)

    if row["outcome"] not in _DELIVERED or row["status"] != "done":
        return made("there", f"it is {row['status']} here: {row['reason'] or row['outcome']}") if seen.found else None
    if not seen.found:
        return made("missing", f"delivered as {row['erp_number'] or row['erp_id']}" if row["erp_id"] or row["erp_number"] else "delivered")
    if len(seen.ids) > 1:
        return made("twice")
    other = owners.setdefault(seen.id, key) if seen.id else key
    if other != key:
        return made("shared", f"with {other}")
    return made("unclear", "not all of it is there") if seen.complete is False else None
