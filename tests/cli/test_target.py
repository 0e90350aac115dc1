"""`gateway target check|map|send --dry-run`: what an integrator sees before the first order goes, and that nothing is created."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec import Struct

from gateway.cli import main as cli
from tests.scripted_erp import Erp, erp

TOML = """
[gateway]
data_dir = "data"
[sources.broken]
connector = "there is none"
[targets.erp]
url = "{base}/orders"
vars = { base = "BASE", company = "7" }
auth = { kind = "basic", username = "gateway", password = { file = "secret" } }
headers = { X-Company = "{company}" }
[targets.erp.body]
mapping = "erp.jsonata"
examples = ["order.json"]
[targets.erp.lookups.products]
url = "{base}/products"
query = { sku = "{codes|json}" }
codes = "order.lines.article_number"
code = "sku"
[targets.erp.preflight]
url = "{base}/orders"
query = { ref = "{order.order_number}" }
found = "$count(body) > 0"
id = "body[0].id"
[targets.erp.idempotency]
strategy = "lookup"
"""
MAPPING = """{"ref": $req(order.order_number, "order number"), "remark": $req(order.notes, "remark"),
  "lines": [order.lines.{"product": $lookup_id("products", article_number).id, "price": $dec(unit_price)}]}"""
ORDER: dict[str, Any] = {"order_number": "PO-1", "notes": "x", "lines": [{"line_number": 1, "article_number": "A-1", "unit_price": "1.50"}]}


class Result(Struct):
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`await run("map", "erp", FILE)`, in a thread of this process."""

    async def call(*arguments: str) -> Result:
        def work() -> int:
            try:
                return cli.main(["target", *arguments, "--config", str(tmp_path / "gateway.toml")])
            except SystemExit as end:
                return int(end.code or 0)

        capsys.readouterr()
        code = await asyncio.to_thread(work)
        out, err = capsys.readouterr()
        assert "Traceback" not in err + out
        assert "s3cret" not in err + out
        return Result(code, out, err)

    return call


class Shop:
    """An ERP with one article."""

    def __init__(self) -> None:
        self.refuses = False
        self.orders: list[Any] = []

    async def __call__(self, request: web.Request) -> web.Response:
        if self.refuses or not request.headers.get("Authorization", "").startswith("Basic "):
            return web.Response(status=401)
        if request.path == "/products":
            return web.json_response([{"sku": sku, "id": 71} for sku in json.loads(request.query["sku"]) if sku == "A-1"])
        return web.json_response(self.orders)


@pytest.fixture
async def shop(tmp_path: Path) -> Any:
    shop = Shop()
    async with erp(shop) as peer:
        write(tmp_path, peer.url)
        yield shop, peer


def write(folder: Path, url: str = "https://erp.example", **changes: str) -> None:
    text = TOML.replace("BASE", url)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "gateway.toml").write_text(text)
    (folder / "secret").write_text("s3cret")
    (folder / "erp.jsonata").write_text(MAPPING)
    (folder / "order.json").write_text(json.dumps({"order": ORDER, "lookup": {"products": {"A-1": {"id": 1}}}}))


def saved(folder: Path, **changes: Any) -> str:
    (folder / "mine.json").write_text(json.dumps({**ORDER, **changes}))
    return str(folder / "mine.json")


def never_created(peer: Erp) -> bool:
    return all(line.split(" ")[0] in ("GET", "HEAD") for line, _, _ in peer.heard)


# --- map


async def test_map_prints_the_exact_request_with_its_secrets_masked_and_sends_nothing(run: Run, shop: Any, tmp_path: Path) -> None:
    said = await run("map", "erp", str(tmp_path / "order.json"))
    assert (said.code, said.err) == (0, "")
    head, _, body = said.out.partition("\n\n")
    assert head.splitlines()[0] == f"POST {shop[1].url}/orders"
    assert "Authorization: Basic ***" in head
    assert "X-Company: 7" in head
    assert "Idempotency-Key: preview/preview/1" in head
    assert body == '{"ref":"PO-1","remark":"x","lines":[{"product":1,"price":1.50}]}\n'
    assert shop[1].heard == []


async def test_map_names_everything_that_is_missing(run: Run, shop: Any, tmp_path: Path) -> None:
    said = await run("map", "erp", saved(tmp_path, notes=None, order_number=""))
    assert said.code == 1
    assert said.err.splitlines() == [
        "missing: there is no order number",
        "missing: there is no remark",
        'missing: line 1: products: "A-1" has not been looked up',
    ]
    assert shop[1].heard == []


async def test_map_as_json(run: Run, tmp_path: Path) -> None:
    write(tmp_path)
    said = json.loads((await run("map", "erp", str(tmp_path / "order.json"), "--json")).out)
    assert said["problems"] == []
    assert (said["method"], said["url"]) == ("POST", "https://erp.example/orders")
    assert json.loads(said["body"])["lines"] == [{"product": 1, "price": 1.5}]
    assert said["headers"]["Authorization"] == "Basic ***"


@pytest.mark.parametrize(("name", "text"), [("nobody", "there is no target 'nobody'"), ("erpp", "did you mean erp?")])
async def test_a_target_that_there_is_not_is_named(run: Run, tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path)
    said = await run("map", name, str(tmp_path / "order.json"))
    assert said.code == 2
    assert text in said.err or "broken" in said.err


async def test_a_file_that_is_no_order_is_named(run: Run, tmp_path: Path) -> None:
    write(tmp_path)
    for text, problem in (
        ("{", "is not JSON"),
        ('{"lins": []}', "did you mean lines?"),
        ('{"lines": [{"line_number": 0}]}', "is no canonical order"),
    ):
        (tmp_path / "bad.json").write_text(text)
        said = await run("map", "erp", str(tmp_path / "bad.json"))
        assert said.code == 2
        assert problem in said.err
    assert (await run("map", "erp", str(tmp_path / "nowhere.json"))).code == 2


# --- send --dry-run


async def test_a_dry_run_looks_up_and_asks_for_real_and_sends_no_order(run: Run, shop: Any, tmp_path: Path) -> None:
    said = await run("send", "erp", saved(tmp_path), "--dry-run")
    assert said.code == 0
    assert said.out.endswith('{"ref":"PO-1","remark":"x","lines":[{"product":71,"price":1.50}]}\n')
    assert said.err == "preflight: asked, and the ERP does not have this order\n"
    assert never_created(shop[1])
    shop[0].orders = [{"id": 5}]
    assert "the ERP has it: 5" in (await run("send", "erp", saved(tmp_path), "--dry-run")).err


async def test_a_dry_run_names_unknown_articles(run: Run, shop: Any, tmp_path: Path) -> None:
    lines = [{"line_number": 1, "article_number": "A-1"}, {"line_number": 2, "article_number": "A-9"}]
    said = await run("send", "erp", saved(tmp_path, lines=lines), "--dry-run")
    assert said.code == 1
    assert 'missing: line 2: products: the ERP has no "A-9"' in said.err.splitlines()
    assert never_created(shop[1])


async def test_send_without_dry_run_sends_nothing(run: Run, shop: Any, tmp_path: Path) -> None:
    said = await run("send", "erp", saved(tmp_path))
    assert (said.code, shop[1].heard) == (2, [])
    assert "--dry-run" in said.err


async def test_a_dry_run_with_a_wrong_password_says_so_after_one_try(run: Run, shop: Any, tmp_path: Path) -> None:
    shop[0].refuses = True
    said = await run("send", "erp", saved(tmp_path), "--dry-run")
    assert said.code == 1
    assert "does not accept our credentials" in said.err
    assert len(shop[1].heard) == 1


# --- check


async def test_check_signs_in_and_looks_up_and_creates_nothing(run: Run, shop: Any) -> None:
    said = await run("check", "erp")
    assert said.code == 0
    assert said.out.splitlines() == [
        "targets.erp: sign in: basic is sent with the next request",
        "targets.erp: reach: HEAD /orders answers 200",
        "targets.erp: look-up products: asked for 1, the ERP knows 1",
        "targets.erp: preflight: asked, and the ERP does not have this order",
    ]
    assert never_created(shop[1])


async def test_check_with_an_order_of_ones_own_and_a_check_request(run: Run, shop: Any, tmp_path: Path) -> None:
    write(tmp_path, shop[1].url, **{"[targets.erp.body]": '[targets.erp.check]\nurl = "{base}/ping"\n[targets.erp.body]'})
    order = saved(tmp_path, lines=[{"line_number": 1, "article_number": "A-8"}])
    said = await run("check", "erp", "--order", order, "--json")
    steps = {one["step"]: one for one in json.loads(said.out)}
    assert steps["reach"]["said"] == "GET /ping answers 200"
    assert steps["look-up products"]["said"].startswith("asked for 1, the ERP knows 0; not A-8")
    assert said.code == 0


async def test_check_stops_at_a_wrong_password(run: Run, shop: Any) -> None:
    shop[0].refuses = True
    said = await run("check", "erp")
    assert said.code == 1
    assert said.out.splitlines()[-1].startswith("targets.erp: reach: FAILED: the target does not accept our credentials")
    assert len(shop[1].heard) == 1


async def test_check_of_an_erp_that_is_not_there(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "http://127.0.0.1:1")
    said = await run("check", "erp")
    assert said.code == 1
    assert "reach: FAILED: no connection" in said.out


async def test_a_check_request_may_hold_a_secret_in_its_body(run: Run, tmp_path: Path) -> None:
    bodies: list[Any] = []

    async def door(request: web.Request) -> web.Response:
        if request.path == "/jsonrpc":
            bodies.append(await request.json())
        return web.json_response([{"sku": "A-1", "id": 71}] if request.path == "/products" else [])

    async with erp(door) as peer:
        more = 'secrets = { key = { file = "secret" } }\n[targets.erp.check]\nurl = "{base}/jsonrpc"\nmethod = "POST"\n'
        more += "body = '{\"args\": [secret.key, vars.company]}'\n[targets.erp.body]"
        write(tmp_path, peer.url, **{"[targets.erp.body]": more})
        said = await run("check", "erp")
        assert (said.code, bodies) == (0, [{"args": ["s3cret", "7"]}])
