"""Apicbase on loopback, as its documents describe it (vendors/apicbase.md): webhooks, tokens, the list, the marks.

    APICBASE_WEBHOOK_SECRET=constructed python -m gateway_apicbase.simulator --gateway http://127.0.0.1:8080/in/apicbase

It lets customers place orders at the gateway and prints what they hear. Where the documents are silent, the shape of the
list's envelope and of a mark's body, it does what is assumed there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import json
import math
import os
import secrets as random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from msgspec import Struct

from gateway import Door
from gateway.testing import LoopbackServer, Sent, demonstrate
from gateway_apicbase.constructed import CUSTOMERS, SANDBOX, line, purchase_order, written
from gateway_apicbase.settings import LIST_PATH

Answer = Literal["taken", "refused", "failed"]

_MARKS = ("fetched_by_supplier", "viewed_by_supplier")
_TOKEN_S = 604_800
_PATIENCE = 40
_PAUSE_S = 0.5


class Listed(Struct):
    """Order that Apicbase counts as sent. `raw`, which may be malformed, replaces its JSON in the list."""

    order: dict[str, Any]
    ordered_at: datetime
    marks: dict[str, str]
    raw: bytes | None = None

    def text(self) -> bytes:
        marks: dict[str, Any] = {}
        for mark in _MARKS:
            marks |= {mark: mark in self.marks, f"{mark}_at": self.marks.get(mark)}
        return self.raw if self.raw is not None else json.dumps(self.order | marks).encode()


class ApicbaseSimulator(LoopbackServer):
    """`gateway.testing.Simulator` for Apicbase, with controls for tests.

    Attributes:
        listed: What the list holds, by id.
        asked: The query of every list request that was answered.
        token_requests: The content type of every token request.
        limit_per_minute: One call more is a 429.
        names_wait: Whether a 429 says how long, in `Retry-After`.
        ignores: Query parameters that mean nothing to it; `ordering` makes the list newest first.
        page_parameter: The name of the page selector.
        shows: Which of `count` and `next` the envelope has.
        next_host: The host in `next` links, where it is not our own.
        between_pages: Called one by one, each after one page of the list.
    """

    title = "Apicbase"
    doors: Sequence[Door] = ("webhook", "poll")

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), prefix: str | None = None) -> None:
        self.webhook_secret = "constructed-secret-do-not-use"  # noqa: S105 - it guards nothing
        self.client_id, self.client_secret = "supplier-1", "constructed-client-secret"
        self.listed: dict[str, Listed] = {}
        self.asked: list[dict[str, str]] = []
        self.token_requests: list[str] = []
        self.limit_per_minute = 100
        self.names_wait = True
        self.ignores: set[str] = set()
        self.page_parameter = "page"
        self.shows = {"count", "next"}
        self.next_host: str | None = None
        self.between_pages: list[Callable[[], object]] = []
        self.acknowledging = True
        self._now = now
        self._prefix = random.token_hex(4) if prefix is None else prefix
        self._placed = 0
        self._tokens: dict[str, float] = {}
        self._calls: deque[float] = deque()
        self._faults: deque[tuple[int, dict[str, str]]] = deque()
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/oauth/token/", self._token)
        application.router.add_get(f"/{LIST_PATH}", self._list)
        application.router.add_patch(f"/{LIST_PATH}", self._mark)
        application.router.add_patch(f"/{LIST_PATH}{{id}}/", self._mark)
        return application

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        await super().start(host, port)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        await super().stop()

    def source(self, secrets: Path) -> dict[str, Any]:
        (secrets / "apicbase-webhook").write_text(self.webhook_secret + "\n")
        (secrets / "apicbase-client").write_text(self.client_secret + "\n")
        settings = self.settings() | {
            "webhook_secrets": [{"file": str(secrets / "apicbase-webhook")}],
            "client_secret": {"file": str(secrets / "apicbase-client")},
        }
        return {"connector": "apicbase", "settings": settings}

    def settings(self) -> dict[str, Any]:
        """Return its `[sources.NAME.settings]` without the secrets."""
        return {
            "currency": "EUR",
            "base_url": self.address,
            "token_url": f"{self.address}/oauth/token/",
            "client_id": self.client_id,
            "poll_interval_s": 5,
            "refuse": ["unknown_customer", "empty_order"],
            "known_customers": [*CUSTOMERS, SANDBOX],
            "sandbox_customers": [SANDBOX],
            "mark_fetched": "stored",
            "mark_viewed": "delivered",
            "mark_body": "list",
        }

    # --- what people do

    @property
    def acknowledged(self) -> Collection[str]:
        return {id for id, listed in self.listed.items() if "viewed_by_supplier" in listed.marks}

    async def place(self, gateway_url: str, source: str, door: Door | None = None) -> Sent:
        n = self._placed
        lines = [(n % 5, 1 + n % 7), ((n + 2) % 5, 2)][: 1 + n % 2]
        order = self.new(lines=lines, customer=CUSTOMERS[n % len(CUSTOMERS)])
        if door == "poll" or (door is None and n % 3 == 2):
            self.enlist(order)
            return _sent(order, "poll", "taken", "placed")
        answer = await self.press_send(f"{gateway_url}/in/{source}", order, as_utf8=n % 3 == 1)
        return _sent(order, "webhook", answer, "placed")

    async def script(self, gateway_url: str, source: str) -> Sequence[Sent]:
        url, done = f"{gateway_url}/in/{source}", []

        async def webhook(order: dict[str, Any], expected: Literal["placed", "nothing"], note: str, *, as_utf8: bool = False) -> None:
            answer = await self.press_send(url, order, as_utf8=as_utf8)
            done.append(_sent(order, "webhook", answer, expected, note))

        def poll(order: dict[str, Any], expected: Literal["placed", "held"], note: str, status: str = "ORDERED") -> None:
            self.enlist(order | {"status": status})
            done.append(_sent(order, "poll", "taken", expected, note))

        await webhook(self.new(order_remarks="Laat bij achterdeur – bel 2× “Zoë”\nniet vóór 07:00"), "placed", "accents; listed as well")
        await webhook(self.new(lines=[(2, 6)]), "placed", "sent as UTF-8, signed over its ASCII form", as_utf8=True)
        again = self.new(lines=[(1, 12)])
        await self.press_send(url, again)
        await webhook(again, "placed", "the answer got lost, so it is sent twice")
        empty = self.new(lines=[])
        await webhook(empty, "nothing", "an empty order, refused")
        edited = empty | {"packages": [line(3, 2)], "theoretical_price": "8.40"}
        await webhook(edited, "placed", "the refused one, edited and sent again")
        await webhook(self.new(customer="UNKNOWN-9"), "nothing", "a customer nobody knows, refused")
        odd = {"owned_by": None, "packages": [line(0, 6), line(0, 1) | {"total_theoretical_price": "12,35"}], "theoretical_price": "86.42"}
        await webhook(self.new(**odd), "placed", "one article twice, a comma in a price, no user")
        await webhook(self.new(customer=SANDBOX), "placed", "a test order with production credentials")
        poll(self.new(customer="UNKNOWN-9"), "held", "a customer nobody knows; a clerk must tell them")
        poll(self.new(status="DELIVERED", lines=[(4, 1)]), "placed", "marked as delivered before we asked", "DELIVERED")
        poll(self.new(expected_delivery_date="2026-11-02", lines=[(4, 2), (1, 1)]), "placed", "a delivery date without a time")
        return done

    def new(self, **fields: Any) -> dict[str, Any]:
        """Make an order that is not sent yet; see `constructed.purchase_order`."""
        self._placed += 1
        fields = {"ordered_on": self._now()} | fields
        return purchase_order(f"{self._prefix}{self._placed:04x}", number=f"PO-{self._prefix}-{self._placed:05}", **fields)

    def enlist(self, order: dict[str, Any], *, raw: bytes | None = None) -> str:
        """Put an order, as sent, on the list; its id."""
        at = datetime.fromisoformat(order["ordered_on"])
        self.listed[order["id"]] = Listed(order=dict(order), ordered_at=at, marks={}, raw=raw)
        return str(order["id"])

    def deliver(self, id: str) -> None:
        """Mark an order as delivered, as the customer does."""
        self.listed[id].order["status"] = "DELIVERED"

    async def press_send(self, url: str, order: dict[str, Any], *, as_utf8: bool = False) -> Answer:
        """Send an order as the customer does, and again while there is an error that is not about the order."""
        for _ in range(_PATIENCE):
            status = await self.post(url, order, as_utf8=as_utf8)
            if 200 <= status < 300:
                self.enlist(order)
                return "taken"
            if 400 <= status < 500:
                return "refused"
            await asyncio.sleep(_PAUSE_S)
        return "failed"

    async def post(self, url: str, order: dict[str, Any], *, as_utf8: bool = False) -> int:
        """Send a webhook, always signed over its ASCII form; return the status, or 0 if there was no answer."""
        assert self._session is not None
        ascii_form = json.dumps(order).encode()
        body = json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode() if as_utf8 else ascii_form
        headers = {"X-APIC-WEBHOOK-SIGNATURE": self.sign(ascii_form), "Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    def sign(self, message: bytes) -> str:
        return hmac.new(self.webhook_secret.encode(), message, "sha256").hexdigest()

    # --- the API

    def expire_tokens(self) -> None:
        """End all tokens."""
        self._tokens.clear()

    def answer_next(self, status: int, times: int = 1, **headers: str) -> None:
        """Answer the next calls, tokens excepted, with this status."""
        self._faults.extend([(status, headers)] * times)

    async def _token(self, request: web.Request) -> web.Response:
        self.token_requests.append(request.content_type)
        if (late := self._too_many()) is not None:
            return late
        given = dict(await (request.json() if request.content_type == "application/json" else request.post()))
        wanted = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": "supplier",
        }
        if given != wanted:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = f"constructed-token-{len(self.token_requests)}"
        self._tokens[token] = time.monotonic() + _TOKEN_S
        return web.json_response({"access_token": token, "expires_in": _TOKEN_S, "token_type": "Bearer", "scope": "supplier"})

    def _refused(self, request: web.Request) -> web.Response | None:
        if (late := self._too_many()) is not None:
            return late
        if self._faults:
            status, headers = self._faults.popleft()
            return web.json_response({"detail": "An error on demand."}, status=status, headers=headers)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0) <= time.monotonic():
            return web.json_response({"detail": "Authentication credentials were not provided."}, status=401)
        return None

    def _too_many(self) -> web.Response | None:
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - 60:
            self._calls.popleft()
        if len(self._calls) < self.limit_per_minute:
            self._calls.append(now)
            return None
        wait = {"Retry-After": str(math.ceil(self._calls[0] + 60 - now) if self._calls else 60)} if self.names_wait else {}
        return web.json_response({"detail": "Request was throttled."}, status=429, headers=wait)

    async def _list(self, request: web.Request) -> web.Response:
        if (refusal := self._refused(request)) is not None:
            return refusal
        query = {name: value for name, value in request.query.items() if name not in self.ignores}
        self.asked.append(dict(request.query))
        found = self._found(query)
        size = min(int(query.get("page_size", 10)), 200)
        page = int(query.get(self.page_parameter, 1))
        part = found[(page - 1) * size : page * size]
        if page > 1 and not part:
            return web.json_response({"detail": "Invalid page."}, status=404)
        following = dict(request.query) | {self.page_parameter: str(page + 1)}
        link = f"{self.next_host or self.address}/{LIST_PATH}?{urlencode(following)}" if page * size < len(found) else None
        envelope = {name: value for name, value in (("count", len(found)), ("next", link)) if name in self.shows}
        head = json.dumps(envelope | {"previous": None}).encode().removesuffix(b"}")
        body = head + b', "results": [' + b", ".join(listed.text() for listed in part) + b"]}"
        if self.between_pages:
            self.between_pages.pop(0)()
        return web.Response(body=body, content_type="application/json")

    def _found(self, query: dict[str, str]) -> list[Listed]:
        found = [entry for entry in self.listed.values() if entry.order["status"] == query.get("status", entry.order["status"])]
        if "ordered_on__gt" in query:
            after = datetime.fromisoformat(query["ordered_on__gt"])
            found = [entry for entry in found if entry.ordered_at > after]
        return sorted(found, key=lambda entry: entry.ordered_at, reverse=query.get("ordering") != "ordered_on")

    async def _mark(self, request: web.Request) -> web.Response:
        if not self.acknowledging:
            return web.json_response({"detail": "Service unavailable."}, status=503)
        if (refusal := self._refused(request)) is not None:
            return refusal
        body = await request.json()
        rows: list[dict[str, Any]] = body if isinstance(body, list) else [{"id": request.match_info.get("id")} | body]
        if any(row.get(mark) is False for row in rows for mark in _MARKS):
            return web.json_response({"detail": "A mark cannot be taken back."}, status=400)
        marked = [self._marked(row) for row in rows if row["id"] in self.listed]
        if isinstance(body, list):
            return web.json_response(marked)
        return web.json_response(marked[0]) if marked else web.json_response({"detail": "Not found."}, status=404)

    def _marked(self, row: dict[str, Any]) -> dict[str, Any]:
        for mark in _MARKS:
            if row.get(mark) is True:
                self.listed[row["id"]].marks.setdefault(mark, written(self._now()))
        marks = self.listed[row["id"]].marks
        return {"id": row["id"]} | {mark: mark in marks for mark in _MARKS} | {f"{mark}_at": at for mark, at in marks.items()}


def _sent(
    order: dict[str, Any], door: Literal["webhook", "poll"], answer: Answer, expected: Literal["placed", "nothing", "held"], note: str = ""
) -> Sent:
    return Sent(
        order_ref=order["id"],
        order_number=order["order_number"],
        door=door,
        answer=answer,
        expected=expected,
        lines=len(order["packages"]),
        total=order["theoretical_price"],
        note=note,
    )


async def _serve(options: argparse.Namespace) -> None:
    simulator = ApicbaseSimulator()
    simulator.webhook_secret = os.environ.get(options.secret_env, simulator.webhook_secret)
    simulator.client_secret = os.environ.get(options.client_secret_env, simulator.client_secret)
    host, _, port = options.listen.rpartition(":")
    await simulator.start(host, int(port))
    gateway_url, _, source = options.gateway.rpartition("/in/")
    print(f"simulated Apicbase at {simulator.address}; settings of the source, beside the two secrets:")
    await demonstrate(simulator, simulator.settings(), script=options.script, every_s=options.every, gateway_url=gateway_url, source=source)


def main() -> None:
    """Run the simulator from the command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway_apicbase.simulator", description="A simulated Apicbase.")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080/in/apicbase", metavar="URL", help="where webhooks go")
    parser.add_argument("--listen", default="127.0.0.1:9101", metavar="ADDRESS:PORT", help="where its API listens")
    parser.add_argument("--secret-env", default="APICBASE_WEBHOOK_SECRET", metavar="NAME", help="variable with the webhook secret")
    parser.add_argument("--client-secret-env", default="APICBASE_CLIENT_SECRET", metavar="NAME", help="variable with the client secret")
    parser.add_argument("--every", type=float, default=5, metavar="SECONDS", help="between two orders")
    parser.add_argument("--script", action="store_true", help="first the special cases, each once")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
