"""The command API for tests: a gateway with two callers and a pharmacy whose vendor is the test itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import aiohttp

from gateway.api.commands import Codes
from gateway.store.outcome import Settlement
from gateway.store.submissions import SubmissionEnd, SubmissionRow
from tests.bad_commands import good

ERP, TILL = "token-of-the-erp-constructed", "token-of-the-till-constructed"
FAST = "max_requests_per_second = 1000"
CODES = Codes(number="WEB/2026 00042#ä", pickup="customer_" + 32 * "A", storage="pickup_" + 32 * "B")


def caller(name: str, token: str, *commands: str, more: str = "") -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[submit.callers.{name}]\ntoken_sha256 = "{digest}"\ncommands = {json.dumps(commands)}\n{more}\n'


def with_callers(*callers: str, submit: str = "", source: str = "", base_url: str = "http://127.0.0.1:1") -> str:
    """What a configuration has more; the ERP may do everything at the pharmacy, the till create orders at the kiosk alone."""
    given = callers or (caller("erp", ERP, "pharmacy/*", more=FAST), caller("till", TILL, "kiosk/create_order", more=FAST))
    about = f'connector = "pharma"\nsettings.base_url = "{base_url}"\n{source}'
    sources = "\n".join(f"[sources.{name}]\n{about}" for name in ("pharmacy", "kiosk"))
    return f'[submit]\nlisten = "127.0.0.1:0"\n{submit}\n{"".join(given)}\n{sources}\n'


class Caller:
    """Somebody with a token."""

    def __init__(self, running: Any, token: str | None = ERP) -> None:
        self.url = f"http://127.0.0.1:{running.gateway.command_api.listener.port}"
        self.session: aiohttp.ClientSession = running.session
        self.token = token

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any, Any]:
        """Status, decoded answer, headers; `headers` may take one away with None."""
        given = {"Authorization": None if self.token is None else f"Bearer {self.token}", **more.pop("headers", {})}
        headers = {name: value for name, value in given.items() if value is not None}
        async with self.session.request(method, self.url + path, headers=headers, **more) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if "json" in answer.content_type and body else body, answer.headers

    async def submit_command(
        self, body: Any = None, key: str | None = "k1", *, to: str = "pharmacy/create_order", wait: object = None, **headers: str | None
    ) -> tuple[int, Any, Any]:
        """One command; `body` is sent as it is where it is bytes."""
        sent = body if isinstance(body, bytes) else json.dumps(good("create_order") if body is None else body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        prefer = None if wait is None else f"wait={wait}"
        given = {"Idempotency-Key": key, "Content-Type": "application/json", "Prefer": prefer, **named}
        return await self.ask("POST", f"/out/{to}", data=sent, headers=given)


async def vendor_says(running: Any, end: Settlement, made: SubmissionEnd | None = None, source: str = "pharmacy") -> SubmissionRow:
    """Do what the submit step does with the one command that waits."""
    (row,) = await running.gateway._store.lease_submissions(source, 10)
    await running.gateway._store.start_submission(row)
    await running.gateway._store.settle_submission(row, end, made)
    return row


DONE = Settlement(status="done", outcome="submitted")
DEAD = Settlement(status="dead", outcome="refused", reason="the vendor refuses it: no such pharmacy")
HELD = Settlement(status="held", outcome="held", reason="a person decides")
ANSWER = b'{"orderNumber":"WEB/2026 00042#\\u00e4","state":"READYFORINPUT","total":1.50}'
