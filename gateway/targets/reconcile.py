"""Reconciliation: look up every order in the ERP and find those that are missing, doubled or wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from msgspec import Struct

from gateway.api.errors import GatewayError
from gateway.clock import Clock, to_ms
from gateway.rate_limit import RateLimiter
from gateway.store.reader import Reader
from gateway.targets.http import HttpTarget
from gateway.targets.preflight import Ended, Seen

_PAGE = 200
_TRIES = 3
_PAUSE_S = 5.0
_DELIVERED = ("delivered", "duplicate")


class Finding(Struct, frozen=True, kw_only=True):
    """Order that differs between the gateway and the ERP.

    Attributes:
        what: `missing`: delivered, and the ERP does not have it. `twice`: the ERP has several. `shared`: another of our
            orders is the same one in the ERP. `there`: it waits for a person here, and the ERP has it. `unclear`: it cannot be looked up.
    """

    key: str
    what: str
    erp: tuple[str, ...] = ()
    detail: str | None = None


class Report(Struct, kw_only=True):
    """Result of a reconciliation. `erased`: orders that cannot be looked up, since their contents are gone."""

    looked: int = 0
    erased: int = 0
    findings: list[Finding] = []


async def compare(target: HttpTarget, reader: Reader, clock: Clock, *, days: float, per_minute: int) -> Report:
    """Look for every order of the last `days`, newest first, at most so many a minute.

    Raises:
        GatewayError: The ERP cannot be asked; the remaining orders were not looked up.
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
    """Yield deliveries that are finished or stand still, newest first, a page at a time."""
    before: int | None = None
    while rows := await reader.deliveries(target, before=before, limit=_PAGE):
        for row in rows:
            if row["created_at_ms"] < since_ms:
                return
            yield row
        before = rows[-1]["id"]


async def _look(target: HttpTarget, row: dict[str, Any], clock: Clock) -> Seen:
    """Look an order up. Raises Ended for a failure of this order, GatewayError for one that concerns all of them."""
    for tries in range(1, _TRIES + 1):
        try:
            return await target.look(row["body"])
        except Ended as ended:
            outcome = ended.outcome
            if outcome.meaning in ("held", "refused"):
                raise
            if outcome.meaning == "paused" or tries == _TRIES:
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
