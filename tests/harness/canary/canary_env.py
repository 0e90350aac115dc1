"""A gateway in a process of its own with all four vendors and an ERP around it, and a canary word in everything that is not a name.

Every free field of every order, every header, query and secret carries WORD; identifiers do not, since logs and pages may say them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from gateway_apicbase import constructed as apicbase
from gateway_pickup_cloud import constructed as pickup
from gateway_supercat import constructed as supercat

from gateway.testing.demo import Demo, simulators
from tests.ports import free_ports

READS = ("inbox", "outbox", "acknowledgements", "orders")
PATHS = ("/", "/metrics", "/readyz", "/healthz", "/api/status", *(f"/api/{read}?limit=1000" for read in READS))
WORD = "kanari7f3aq"
FAULTY = """
import logging
from gateway.plugin.connector import Connector
whole = Connector.read
def read(self, envelope):
    logging.getLogger("gateway").info("webhook.taken", extra={"body": envelope.body.decode("utf-8", "replace")})
    return whole(self, envelope)
Connector.read = read
"""


def word(where: str) -> str:
    """The canary of one place, so that a finding says whose it is."""
    return f"{WORD}-{where}"


class Town(Demo):
    """The demo with other secrets, which keeps what everybody heard."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, simulators(), usual_ports=False)
        self.folder = folder
        self.http_port, self.admin_port, self.out_port = free_ports(3)  # other tests run a demo at the same time
        self.erp.token = word("erp-token")
        self.heard: dict[str, bytes] = {}
        made: Any = self.vendors
        made["apicbase"].webhook_secret = word("apicbase-webhook")
        made["apicbase"].client_secret = word("apicbase-client")
        made["scalepoint"].webhook_secret = word("scalepoint-webhook")
        made["supercat"].password = word("supercat-password")
        made["pickup_cloud"].api_key = word("pickup-key")

    def _configuration(self) -> str:
        text = super()._configuration()
        (self.folder / "erp-token").write_text(word("erp-token"))
        return text

    @property
    def pid(self) -> int:
        return self._pid()

    # --- what vendors, strangers and the ERP do

    async def orders(self) -> int:
        """One or more orders through every door; how many messages the ERP should have."""
        made: Any = self.vendors
        url = f"{self.gateway_url}/in"
        goods = [apicbase.line(0, 2) | {"name": word("apicbase-article"), "remarks": word("apicbase-line")}]
        fields: dict[str, Any] = {
            "order_remarks": word("apicbase-remarks"),
            "owned_by": {"username": word("apicbase-user")},
            "packages": goods,
            word("apicbase-unknown-key"): word("apicbase-unknown-value"),
        }
        assert await made["apicbase"].press_send(f"{url}/apicbase", made["apicbase"].new(**fields)) == "taken"
        made["apicbase"].enlist(made["apicbase"].new(**fields))
        one = made["scalepoint"].new(**{word("scalepoint-key"): word("scalepoint-value")})
        one.order["customer"] = one.order.get("customer", {}) | {"name": word("scalepoint-customer"), "email": word("scalepoint@x")}
        assert await made["scalepoint"].push(f"{url}/scalepoint", one.event) == "taken"
        lines = [supercat.line(0, 2, note=word("supercat-note"))]
        made["supercat"].submit(lines=lines, placeholder_custom={"x": word("supercat-custom")}, placeholder_po=word("supercat-po"))
        article = pickup.article(0) | {"name": word("pickup-article")}
        notes = {"relatedNotes": word("pickup-notes"), "dosageInformation": word("pickup-dosage")}
        number = made["pickup_cloud"].create(article, **notes)
        assert await made["pickup_cloud"].listened()
        await made["pickup_cloud"].tell(number, "READYFORINPUT")
        await self.erp.wait_for(5, 60)
        await made["pickup_cloud"].move(number, "PICKEDUP")  # the newest message of an order that is still open is kept
        return 6

    async def strangers(self, session: aiohttp.ClientSession) -> None:
        """Whatever can be refused, with a canary in each part of it."""
        for source in ("apicbase", "scalepoint", "nobody"):
            for proof in ("X-APIC-WEBHOOK-SIGNATURE", "Authorization"):
                headers = {proof: f"Bearer {word('stranger-proof')}", "X-Other": word("header"), "Cookie": f"a={word('cookie')}"}
                headers |= {"User-Agent": word("agent"), "Referer": f"https://x.example/{word('referer')}"}
                await self._post(session, f"{self.gateway_url}/in/{source}?q={word('query')}", word("body").encode(), headers)
        made: Any = self.vendors
        unreadable = json.dumps({"id": word("x") * 40, "status": word("status"), "packages": word("packages")}).encode()
        package = {"stock_item": {"name": word("article")}}
        for wrong in (word("amount"), [word("list")], f"12,50 {word('comma')}", None, True):
            broken = {"id": "b1", "order_remarks": word("b"), "packages": [package | {"quantity_ordered": wrong}]}
            await self._genuine(session, json.dumps(broken).encode())
        await self._genuine(session, unreadable)
        await self._genuine(session, unreadable[:-20])
        made["apicbase"].enlist(made["apicbase"].new(customer=word("number"), owned_by={"username": word("contact")}))
        unknown = made["apicbase"].new(customer=word("customer"), order_remarks=word("remarks"))
        body = json.dumps(unknown).encode()
        headers = {"X-APIC-WEBHOOK-SIGNATURE": made["apicbase"].sign(body)}
        async with session.post(f"{self.gateway_url}/in/apicbase", data=body, headers=headers) as answer:
            assert answer.status == 422  # its reason is for the customer, and names the number that he gave
        await self._post(
            session, f"{self.gateway_url}/in/scalepoint", b'{"eventType": "' + unreadable, {"Authorization": made["scalepoint"].proof()}
        )
        await self._raw(f"POST /in/apicbase HTTP/1.1\r\nHost: x\r\nAuthorization {word('malformed')}\r\n\r\n".encode())
        await self._raw(f"{word('method')} /{word('path')} HTTP/9\r\n\r\n".encode())

    async def _genuine(self, session: aiohttp.ClientSession, body: bytes) -> None:
        made: Any = self.vendors
        headers = {"X-APIC-WEBHOOK-SIGNATURE": made["apicbase"].sign(body)}
        await self._post(session, f"{self.gateway_url}/in/apicbase?q={word('query')}", body, headers)

    async def _post(self, session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> None:
        async with session.post(url, data=body, headers=headers) as answer:
            said = await answer.read() + repr(dict(answer.headers)).encode()
            self.heard[f"answer to {url.partition('?')[0]} #{len(self.heard)}"] = said

    async def _raw(self, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
        writer.write(data)
        self.heard[f"answer to raw bytes #{len(self.heard)}"] = await reader.read()
        writer.close()

    def unkind(self) -> None:
        """The ERP and the vendors speak of what they were sent, in answers that are no success."""
        made: Any = self.vendors
        said = {"error": word("erp-says")}
        self.erp.arm("status", status=500, body=json.dumps(said), headers={"X-Echo": word("erp-header")})
        self.erp.arm("status", status=503, body=json.dumps(said), headers={"Retry-After": word("erp-retry")})
        made["scalepoint"].answer_next(500, word("scalepoint-says").encode())

    # --- where a word could be

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Every page and reading, and what the process shows of itself."""
        for path in (
            "/",
            "/metrics",
            "/readyz",
            "/healthz",
            "/api/status",
            *(f"/api/{q}?limit=1000" for q in ("inbox", "outbox", "acknowledgements", "orders")),
        ):
            async with session.get(f"http://127.0.0.1:{self.admin_port}{path}") as answer:
                self.heard[f"page {path} #{len(self.heard)}"] = await answer.read() + repr(dict(answer.headers)).encode()
        for name in ("environ", "cmdline"):
            self.heard[f"/proc/PID/{name}"] = Path(f"/proc/{self.pid}/{name}").read_bytes()

    async def command(self, *arguments: str) -> None:
        """A command as an operator runs it, beside the gateway or without it; what it prints is looked at."""
        line = [sys.executable, "-m", "gateway.cli.main", *arguments, "--config", str(self._config)]
        child = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        out, _ = await child.communicate()
        self.heard[f"gateway {' '.join(arguments)} #{len(self.heard)}"] = out

    def files(self, *folders: str) -> dict[str, bytes]:
        """Every file below some folders."""
        found = [file for name in folders for file in sorted((self.folder / name).rglob("*")) if file.is_file()]
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in found}

    async def end(self) -> None:
        """SIGTERM, and no other gateway."""
        self._stopping = True
        assert self._child is not None
        if self._child.returncode is None:
            self._child.send_signal(signal.SIGTERM)
            await self._child.wait()


@asynccontextmanager
async def town(folder: Path, *, faulty: bool = False) -> AsyncIterator[Town]:
    """Everything started; with `faulty`, by a gateway that logs what it reads."""
    (folder / "tmp").mkdir()
    before = dict(os.environ)
    os.environ["TMPDIR"] = str(folder / "tmp")
    if faulty:
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(FAULTY)
        os.environ["PYTHONPATH"] = str(folder / "site")
    made = Town(folder)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        os.environ.clear()
        os.environ.update(before)
