"""Base of the ERP simulators: listener, customers and articles, orders made, and faults on demand.

An ERP is one class with one method per route. What it makes of an order stands in `made`, one entry per create that it carried
out, so an order that came twice stands there twice, as it would in the real one. `held()` says the same in words that are
the same for every ERP, for tests to compare.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal

from aiohttp import web
from msgspec import Struct

from gateway.testing.loopback import LoopbackServer, cut, half_answer

Fault = Literal["slow", "lose_answer", "reset", "half_answer", "status", "drop_before"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Article(Struct, frozen=True, kw_only=True):
    """Article of an ERP; its quantities have at most `decimals` decimals."""

    id: int
    code: str
    name: str
    unit: int = 1
    decimals: int = 0


class HeldLine(Struct, frozen=True, kw_only=True):
    article: str
    quantity: Decimal
    price: Decimal


class Held(Struct, frozen=True, kw_only=True):
    """An order as the ERP holds it. `reference` is the buyer's order number, `state` the ERP's own word."""

    id: str
    number: str | None
    reference: str
    customer: str
    state: str
    lines: tuple[HeldLine, ...]


class Armed(Struct, kw_only=True):
    """A fault for the next requests of one kind.

    `slow`: work on it `delay_s` late, whether or not anybody still waits, and answer then. `lose_answer`: do it, then close
    without an answer. `reset`: do it, then reset. `half_answer`: do it, and break off inside the answer. `drop_before`: close
    without doing it. `status`: answer this status in the ERP's own words, with `headers`, without doing it.

    Attributes:
        on: The kind of request: `create`, `find`, `step`, `token` ..., as the ERP's routes name them; `any` is each of them.
    """

    fault: Fault
    on: str = "create"
    times: int = 1
    status: int = 503
    delay_s: float = 0.0
    headers: dict[str, str] = {}


class Asked(Struct, frozen=True, kw_only=True):
    """Received request; status 0 means that it got no complete answer. `at_s` counts from the simulator's creation."""

    operation: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    at_s: float


CUSTOMERS = {"C-100": 7, "C-200": 8}
ARTICLES = (
    Article(id=3, code="SKU-1", name="Bolt"),
    Article(id=4, code="SKU-2", name='Nut "M8" \\ 😀'),
    Article(id=5, code="KG-1", name="Flour", unit=2, decimals=3),
)
CURRENCIES = {"EUR": 1, "USD": 2}


class ErpServer(LoopbackServer):
    """The base of the simulators: `await start()`, a port of its own on loopback, `await stop()`.

    Attributes:
        customers, articles, currencies: The master data, by code; add to them, or take away, while it runs.
        made: Every order that it created, in order.
        asked: Every request that it heard.
    """

    title: ClassVar[str]

    def __init__(self) -> None:
        self.customers = dict(CUSTOMERS)
        self.articles = {article.code: article for article in ARTICLES}
        self.currencies = dict(CURRENCIES)
        self.made: list[dict[str, Any]] = []
        self.asked: list[Asked] = []
        self._armed: list[Armed] = []
        self._ids = iter(range(41, 10**9))
        self._started_s = time.monotonic()

    # --- what a simulator says of itself

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        """Return method, path, kind (see `Armed.on`) and handler of each route."""
        raise NotImplementedError

    def held(self) -> list[Held]:
        """Return the orders that it made, in a form common to all ERPs."""
        raise NotImplementedError

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        """Return an error in this ERP's own form."""
        return said(status, {"message": message})

    def operation(self, named: str, request: web.Request, body: bytes) -> str:
        """Return the kind of a request, if one route serves several."""
        return named

    def stranger(self, request: web.Request) -> web.Response | None:
        """Return the error for a request without valid credentials, else None. Routes of the kind `token` check their own."""
        return None

    # --- what a test does to it

    def application(self) -> web.Application:
        application = web.Application(client_max_size=8 * 1024 * 1024, middlewares=[self._gate])
        for method, path, operation, handler in self.routes():
            application.router.add_route(method, path, self._watched(operation, handler))
        return application

    def arm(self, fault: Fault, **more: Any) -> None:
        """Make the next requests fail; see `Armed`."""
        self._armed.append(Armed(fault=fault, **more))

    def disarm(self) -> None:
        """Remove all faults."""
        self._armed.clear()

    def count(self, operation: str) -> int:
        """Return the number of requests for this operation."""
        return sum(asked.operation == operation for asked in self.asked)

    # --- what simulators use

    def new_id(self) -> int:
        return next(self._ids)

    def article(self, id: object) -> Article | None:
        return next((article for article in self.articles.values() if str(article.id) == str(id)), None)

    def customer(self, id: object) -> str | None:
        return next((code for code, known in self.customers.items() if str(known) == str(id)), None)

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request without valid credentials also where there is no route, or none for its method."""
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            if (no := self.stranger(request)) is not None:
                return no
            raise

    def _watched(self, named: str, handler: Handler) -> Handler:
        async def admitted(request: web.Request) -> web.StreamResponse:
            refusal = None if named == "token" else self.stranger(request)
            return await handler(request) if refusal is None else refusal

        async def watched(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            operation = self.operation(named, request, body)
            armed = self._next(operation)
            answer = await self._answered(request, admitted, armed)
            cut = armed is not None and armed.fault in ("drop_before", "lose_answer", "reset", "half_answer")
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.asked.append(
                Asked(
                    operation=operation,
                    method=request.method,
                    path=request.path_qs,
                    headers=headers,
                    body=body,
                    status=0 if cut else answer.status,
                    at_s=time.monotonic() - self._started_s,
                )
            )
            return answer

        return watched

    async def _answered(self, request: web.Request, handler: Handler, armed: Armed | None) -> web.StreamResponse:
        if armed is None:
            return await handler(request)
        if armed.fault == "drop_before":
            return cut(request)
        if armed.fault == "status":
            answer = self.refusal(armed.status, "an error on demand")
            answer.headers.update(armed.headers)
            return answer
        if armed.fault == "slow":
            await asyncio.sleep(armed.delay_s)
        answered = await handler(request)
        if armed.fault == "half_answer":
            return await half_answer(request, answered.status)
        if armed.fault in ("lose_answer", "reset"):
            return cut(request, reset=armed.fault == "reset")
        return answered

    def _next(self, operation: str) -> Armed | None:
        for armed in self._armed:
            if armed.on in (operation, "any"):
                armed.times -= 1
                if armed.times <= 0:
                    self._armed.remove(armed)
                return armed
        return None


def said(status: int, value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer JSON; a Decimal becomes a number with all its digits."""
    return web.Response(status=status, body=written(value).encode(), content_type="application/json", headers=headers)


def written(value: Any) -> str:
    """Write JSON with exact numbers; the standard library has them for integers only."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def read(body: bytes) -> Any:
    """Read JSON with exact numbers. Raises ValueError."""
    return json.loads(body, parse_float=Decimal)


def is_number(value: Any) -> bool:
    """Return True for a JSON number, not for a text or a boolean."""
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)
