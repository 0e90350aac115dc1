"""A simulator on loopback, and a client that is nothing but aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from yarl import URL

from gateway.testing.erps import ErpServer
from gateway.testing.erps.base import read, written


class Client:
    """Sends JSON with exact numbers; status, headers and body of the answer come back."""

    def __init__(self, session: aiohttp.ClientSession, erp: ErpServer) -> None:
        self.session = session
        self.erp = erp
        self.headers: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method,
            URL(self.erp.address + path, encoded=True),
            data=body if isinstance(body, bytes) else None if body is None else written(body).encode(),
            headers={"Content-Type": "application/json"} | self.headers | named,
            timeout=aiohttp.ClientTimeout(total=5),
        ) as answer:
            raw = await answer.read()
            decoded = read(raw) if "json" in answer.content_type and raw else raw.decode()
            return answer.status, decoded, {name.lower(): value for name, value in answer.headers.items()}

    async def form(self, path: str, **fields: str) -> tuple[int, Any]:
        async with self.session.post(self.erp.address + path, data=fields) as answer:
            return answer.status, await answer.json()


Connect = Callable[[ErpServer], Any]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`client = await connect(Odoo19())`: started, and stopped at the end of the test."""
    started: list[ErpServer] = []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def begin(erp: ErpServer) -> Client:
            await erp.start()
            started.append(erp)
            return Client(session, erp)

        yield begin
        for erp in started:
            await erp.stop()


def lines_of(erp: ErpServer) -> list[list[tuple[str, Decimal, Decimal]]]:
    """What it holds, as (article, quantity, price)."""
    return [[(line.article, line.quantity, line.price) for line in held.lines] for held in erp.held()]
