"""Hostile orders through a whole request, over real HTTP, against an ERP that reads every part of it as a server would."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from aiohttp import web

from gateway.api.order import encode
from gateway.config.decode import decode
from gateway.config.report import Report
from gateway.targets.builder import Builder
from gateway.targets.examples import read_sample
from gateway.targets.request import Refused
from gateway.targets.sender import AuthSender
from gateway.targets.settings import TargetSettings
from gateway.testing import ManualClock
from tests.scripted_erp import erp

NASTY = [
    "O'Neill",
    "' or 1 eq 1 or '' eq '",
    "%27 or 1 eq 1",
    "%2527",
    "a/b",
    "..%2f..%2fadmin",
    "../../admin",
    "..\\..\\admin",
    "?x=1&y=2#z",
    ";drop",
    "a b+c",
    '"]]]},"x":[["',
    "{base}",
    "{order.notes}",
    "$filter",
    "é\U0001f600\u00a0",
    "100%",
    "a&$top=0",
    "-",
    "\u2024\u2024/",
    "x" * 500,
]
TOML = """
url = "{base}/c/{order.order_number|path}/lines?key='{order.order_number|odata}'"
vars = { base = "BASE" }
headers = { X-Ref = "{order.order_number}" }
[query]
"$filter" = "ref eq '{order.order_number|odata}' and open eq true"
filters = '[["po_no","=",{order.order_number|json}]]'
b = "{order.order_number|b64url_json}"
[body]
mapping = "erp.jsonata"
examples = ["order.json"]
"""


def message(order: dict[str, Any]) -> bytes:
    return encode(read_sample(json.dumps(order)).message)


def settings(folder: Path, url: str) -> TargetSettings:
    (folder / "erp.jsonata").write_text('{"n": order.order_number, "lines": [order.lines.{"a": article_number}]}')
    (folder / "order.json").write_text("{}")
    report = Report({}, folder / "gateway.toml")
    made = decode(TargetSettings, tomllib.loads(TOML.replace("BASE", url)), ("targets", "erp"), report)
    assert made is not None, report.problems
    return made


@pytest.mark.parametrize("number", NASTY, ids=range(len(NASTY)))
async def test_no_order_number_breaks_out_of_any_place(tmp_path: Path, number: str) -> None:
    seen: list[dict[str, Any]] = []

    async def door(request: web.Request) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        seen.append(
            {"path": path, "query": parse_qsl(query, keep_blank_values=True), "ref": request.headers["X-Ref"], "body": await request.json()}
        )
        return web.Response(status=201)

    async with erp(door) as peer:
        made = settings(tmp_path, peer.url)
        sender = AuthSender("erp", made, ManualClock())
        await sender.open()
        try:
            builder = Builder(made, sender, ManualClock())
            order = {"order_number": number, "lines": [{"line_number": 1, "article_number": number}]}
            assert (await sender.send(await builder.request(builder.context(message(order))))).status == 201
        finally:
            await sender.close()
    (found,) = seen
    first, c, segment, last = found["path"].split("/")
    assert (first, c, unquote(segment), last) == ("", "c", number, "lines")
    query = found["query"]
    assert [name for name, _ in query] == ["key", "$filter", "filters", "b"]
    values = dict(query)
    assert values["key"] == "'" + number.replace("'", "''") + "'"
    assert values["$filter"] == "ref eq '" + number.replace("'", "''") + "' and open eq true"
    assert json.loads(values["filters"]) == [["po_no", "=", number]]
    assert found["ref"].encode("utf-8", "surrogateescape").decode() == number
    assert found["body"] == {"n": number, "lines": [{"a": number}]}


@pytest.mark.parametrize("number", ["..", ".", " ", "a\r\nX-Admin: 1", "a\0", "a\x0bb"])
async def test_what_cannot_be_carried_is_refused_and_nothing_is_sent(tmp_path: Path, number: str) -> None:
    made = settings(tmp_path, "https://erp.example")
    builder = Builder(made, None, ManualClock())
    order = {"order_number": number, "lines": [{"line_number": 1, "article_number": "x"}]}
    if number == " ":  # a blank is a blank, in a segment of its own
        assert "/c/%20/lines" in builder.create(builder.context(message(order))).url
        return
    with pytest.raises(Refused):
        builder.create(builder.context(message(order)))
