"""An order from the webhook into an ERP that wants a request of its own: ids, sessions that end, wrong passwords, missing articles."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.service.operations import Operation
from tests import acme
from tests.scripted_erp import Erp, erp

MAPPING = (
    '{"ref": order.order_number, "lines": [order.lines.{"product": $lookup_id("products", article_number).id, "price": $dec(unit_price)}]}'
)
TARGET = """
vars = { base = "BASE" }
auth = { kind = "session", url = "{base}/Login", secrets = { password = { file = "password" } }, body = '{"Password": secret.password}' }
retry = { base_s = 0.05, cap_s = 0.2 }
concurrency = 16
[targets.erp.body]
mapping = "erp.jsonata"
examples = ["order.json"]
[targets.erp.lookups.products]
url = "{base}/products"
query = { sku = "{codes|json}" }
codes = "order.lines.article_number"
code = "sku"
cache_ttl_s = 0
negative_ttl_s = 60
"""


class SmallErp:
    """Cookie sessions that end after some requests, articles with ids, orders."""

    def __init__(self) -> None:
        self.articles = {"A-1": 71}
        self.password = "right"
        self.orders: list[dict[str, Any]] = []
        self.logins = 0
        self.refused_logins = 0
        self.good_for = 10_000
        self.left = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if request.path == "/Login":
            if json.loads(await request.read()) != {"Password": self.password}:
                self.refused_logins += 1
                return web.Response(status=401)
            self.logins, self.left = self.logins + 1, self.good_for
            answer = web.json_response({})
            answer.set_cookie("B1SESSION", f"s{self.logins}")
            return answer
        if request.cookies.get("B1SESSION") != f"s{self.logins}" or self.left <= 0:
            return web.Response(status=401)
        self.left -= 1
        if request.path == "/products":
            return web.json_response(
                [{"sku": sku, "id": self.articles[sku]} for sku in json.loads(request.query["sku"]) if sku in self.articles]
            )
        self.orders.append(json.loads(await request.read()))
        return web.json_response({"id": len(self.orders)}, status=201)


@pytest.fixture
async def small(tmp_path: Path) -> Any:
    (tmp_path / "erp.jsonata").write_text(MAPPING)
    (tmp_path / "password").write_text("right")
    order = {"order_number": "1", "lines": [{"line_number": 1, "article_number": "A-1", "unit_price": "1"}]}
    (tmp_path / "order.json").write_text(json.dumps({"order": order, "lookup": {"products": {"A-1": {"id": 1}}}}))
    small = SmallErp()
    async with erp(small) as peer:
        yield small, peer


async def begin(start: Any, peer: Erp) -> Any:
    return await start(f"{peer.url}/orders", target=TARGET.replace("BASE", peer.url))


async def test_an_order_reaches_an_erp_that_wants_ids(start: Any, small: Any) -> None:
    running = await begin(start, small[1])
    await running.deliver(acme.body("PO-1", price="12.3450"))
    await running.until(lambda: has(running, "done"))
    assert small[0].orders == [{"ref": "PO-1", "lines": [{"product": 71, "price": 12.345}]}]
    assert b'"price":12.3450' in small[1].heard[-1][2]


async def test_an_unknown_article_is_a_dead_letter_that_names_it_and_goes_once_it_is_there(start: Any, small: Any) -> None:
    """erp_targets.md 7, test 9. The look-up remembers for a minute that the article is missing, and a replay asks all the same."""
    erp_, peer = small
    erp_.articles.clear()
    running = await begin(start, peer)
    await running.deliver(acme.body("PO-1"))
    await running.until(lambda: has(running, "dead"))
    (row,) = await running.rows("outbox", status="dead")
    assert row["reason"] == 'line 1: products: the ERP has no "A-1"'
    assert erp_.orders == []
    erp_.articles["A-1"] = 71
    await running.gateway._operations(Operation(action="replay", who="a test", keys=[row["key"]]))
    await running.until(lambda: has(running, "done"))
    assert erp_.orders == [{"ref": "PO-1", "lines": [{"product": 71, "price": 1.5}]}]


async def test_sessions_that_end_in_mid_run_lose_and_double_nothing(start: Any, small: Any) -> None:
    """erp_targets.md 7, test 5."""
    erp_, peer = small
    erp_.good_for = 41
    running = await begin(start, peer)
    await asyncio.gather(*(running.deliver(acme.body(f"PO-{n}")) for n in range(200)))
    await running.until(lambda: has(running, "done", 200), timeout_s=30)
    assert sorted(order["ref"] for order in erp_.orders) == sorted(f"PO-{n}" for n in range(200))
    assert erp_.logins <= 400 / 41 + 2
    assert erp_.refused_logins == 0


async def test_a_wrong_password_holds_the_target_and_the_right_one_lets_it_go(start: Any, small: Any, tmp_path: Path) -> None:
    """erp_targets.md 7, test 6."""
    erp_, peer = small
    (tmp_path / "password").write_text("wrong")
    running = await begin(start, peer)
    await asyncio.gather(*(running.deliver(acme.body(f"PO-{n}")) for n in range(50)))

    async def held() -> bool:
        return (await running.get("/api/status"))[1]["targets"]["erp"]["state"] == "paused"

    await running.until(held)
    await asyncio.sleep(0.5)
    assert 1 <= erp_.refused_logins <= 2
    assert (await running.rows("outbox", status="dead")) == []
    (tmp_path / "new").write_text("right")
    os.replace(tmp_path / "new", tmp_path / "password")
    await running.until(lambda: has(running, "done", 50), timeout_s=20)
    assert len(erp_.orders) == 50
    assert erp_.refused_logins <= 2


async def test_a_mapping_that_changes_for_the_worse_is_not_used(start: Any, small: Any, tmp_path: Path) -> None:
    erp_, peer = small
    running = await begin(start, peer)
    (tmp_path / "new").write_text('{"ref": order.order_number, "lines": order.lines.{"price": $dec(unit_price)}}')
    os.replace(tmp_path / "new", tmp_path / "erp.jsonata")
    await asyncio.sleep(2.5)
    await running.deliver(acme.body("PO-1"))
    await running.until(lambda: has(running, "done"))
    assert erp_.orders[0]["lines"] == [{"product": 71, "price": 1.5}]


async def has(running: Any, status: str, count: int = 1) -> bool:
    return len(await running.rows("outbox", status=status, limit="1000")) == count
