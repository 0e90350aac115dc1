"""Polling against a list that is a model in memory, with every combination of what a list may do, drawn from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import gateway_apicbase
import msgspec
import pytest
from gateway_apicbase.paging import Cursor, Round, Sweep
from msgspec import Struct

from gateway import Event, Response, VendorClient

START = datetime(2024, 3, 31, 12, tzinfo=UTC)


class Order(Struct):
    id: str
    at: datetime
    status: str = "ORDERED"


class Model:
    """The vendor's list: answers a query, and then, maybe, something happens to it."""

    def __init__(self, chance: random.Random, *, ordered: bool, distinct: bool) -> None:
        self.chance, self.ordered = chance, ordered
        self.largest = chance.choice([1, 2, 3, 5, 10])
        self.shows_next, self.shows_count, self.moves = chance.random() < 0.5, True, 0
        step_s = 1 if distinct else 0
        self.orders = [Order(f"o{n}", START + timedelta(seconds=n * step_s + chance.randrange(3) * (1 - step_s))) for n in range(40)]

    async def request(self, _: str, __: str, *, params: dict[str, str], accept: Any) -> Response:
        after = datetime.fromisoformat(params["ordered_on__gt"])
        found = [order for order in self.orders if order.status == params["status"] and order.at > after]
        found.sort(key=lambda order: order.at, reverse=not self.ordered)
        size, page = min(self.largest, int(params["page_size"])), int(params.get("page", 1))
        part = found[(page - 1) * size : page * size]
        if page > 1 and not part:
            assert 404 in accept
            return Response(status=404, headers={}, body=b"{}")
        rows = [{"id": order.id, "status": order.status, "ordered_on": order.at.isoformat()} for order in part]
        envelope: dict[str, Any] = {"results": rows, "count": len(found)}
        if self.shows_next:
            envelope["next"] = f"https://elsewhere.example/?page={page + 1}" if page * size < len(found) else None
        self._move()
        return Response(status=200, headers={}, body=json.dumps(envelope).encode())

    def _move(self) -> None:
        if self.moves and self.chance.random() < 0.3:
            self.moves -= 1
            if self.chance.random() < 0.5:
                self.orders.append(Order(f"o{len(self.orders)}", START + timedelta(hours=1, seconds=len(self.orders))))
            else:
                self.chance.choice(self.orders).status = "DELIVERED"


async def round_(model: Model, settings: Any) -> set[str]:
    """One round's orders."""
    cursor, seen = None, set[str]()
    for _ in range(2000):
        page = await gateway_apicbase.poll(cursor, START, START + timedelta(hours=2), cast(VendorClient, model), settings)
        seen |= {event.key for event in page.events if isinstance(event, Event)}
        cursor = page.cursor
        if not page.more:
            return seen
    raise AssertionError("polling finds no end")


@pytest.mark.parametrize("seed", range(60))
async def test_a_quiet_list_is_read_whole_in_one_round(settings: Callable[..., Any], seed: int) -> None:
    chance = random.Random(seed)
    model = Model(chance, ordered=chance.random() < 0.5, distinct=chance.random() < 0.5)
    if not model.shows_next:
        model.largest = 10  # without `next`, a page below the vendor's ten is the last one
    for order in chance.sample(model.orders, 10):
        order.status = "DELIVERED"
    assert await round_(model, settings()) == {order.id for order in model.orders}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("seed", range(60))
async def test_orders_that_come_and_leave_meanwhile_hide_no_other(settings: Callable[..., Any], seed: int, ordered: bool) -> None:
    model = Model(random.Random(seed), ordered=ordered, distinct=True)
    model.shows_next, model.moves = True, 4
    there = {order.id for order in model.orders}
    assert await round_(model, settings()) >= there


def test_a_cursor_stays_small(settings: Callable[..., Any]) -> None:
    """The core takes 64 KiB; the longest `next` that is followed is 2000 characters."""
    sweep = Sweep(status="DELIVERED", lower=START, after=START, query={"cursor": "a" * 2000}, last=START, before="f" * 32, first="f" * 32)
    cursor = Cursor(watermark=START, round=Round(started_at=START, sweep=sweep, newest=START))
    assert len(cursor.text()) < 4096
    assert msgspec.json.decode(cursor.text(), type=Cursor) == cursor
