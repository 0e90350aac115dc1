"""docs/targets.md: the ERP of its example is connected with the very files that it prints."""

from __future__ import annotations

import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.api.order import encode
from gateway.service.assembly import assemble_target
from gateway.targets.builder import Builder
from gateway.targets.examples import read_sample
from gateway.targets.functions import NAMES
from gateway.targets.request import Refused
from gateway.targets.sender import AuthSender
from gateway.targets.templates import _FILTERS
from gateway.testing import ManualClock
from tests.scripted_erp import erp

DOCUMENT = (Path(__file__).parents[2] / "docs" / "targets.md").read_text("utf-8")
FILES = dict(re.findall(r"```\w+ ([\w.]+)\n(.*?)```", DOCUMENT, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "erp-token").write_text("key:s3cret")
    return tmp_path


def test_the_example_is_whole() -> None:
    assert set(FILES) == {"order.json", "erp.jsonata", "erp.schema.json", "gateway.toml"}


async def test_the_documented_erp_gets_the_documented_order(folder: Path) -> None:
    known = {"A-1": 71, "A-2": 72}

    async def products(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token key:s3cret"
        asked = request.query["sku"].split(",")
        return web.json_response({"products": [{"sku": sku, "id": known[sku]} for sku in asked if sku in known]})

    async with erp(products) as peer:
        text = (folder / "gateway.toml").read_text()
        (folder / "gateway.toml").write_text(text.replace("https://erp.example/api", peer.url))
        settings = assemble_target(folder / "gateway.toml", "erp")
        sender = AuthSender("erp", settings, ManualClock())
        await sender.open()
        try:
            builder = Builder(settings, sender, ManualClock())
            message = encode(read_sample((folder / "order.json").read_text()).message)
            request = await builder.request(builder.context(message))
            assert json.loads(request.body or b"", parse_float=Decimal) == {
                "ref": "PO-1",
                "customer": "0010023",
                "date": "2024-04-01",
                "remark": "ring twice",
                "positions": [
                    {"product": 71, "unit": "pc", "quantity": 4, "price": Decimal("12.3450")},
                    {"product": 72, "unit": "kg", "quantity": Decimal("0.125"), "price": 8},
                ],
            }
            assert b"12.3450" in (request.body or b"")
            assert len(peer.heard) == 1
            del known["A-2"]
            with pytest.raises(Refused, match='line 2: products: the ERP has no "A-2"'):
                await Builder(settings, sender, ManualClock()).request(builder.context(message))
        finally:
            await sender.close()


@pytest.mark.parametrize("name", [*NAMES, *sorted(set(_FILTERS) - {"path", "query", "odata", "json", "b64url", "b64url_json"})])
def test_every_function_is_documented(name: str) -> None:
    assert f"`${name}(" in DOCUMENT


@pytest.mark.parametrize("name", sorted(_FILTERS))
def test_every_filter_is_documented(name: str) -> None:
    assert f"{{x\\|{name}}}" in DOCUMENT


def test_the_other_tables_of_the_page_can_be_read() -> None:
    logins = [
        line for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.split("\nauth = ") if "session" in line
    ]
    assert len(logins) == 2
    for text in logins:
        made: Any = tomllib.loads("auth = " + " ".join(text.removeprefix("auth = ").split("\n")))
        assert made["auth"]["kind"] == "session"
