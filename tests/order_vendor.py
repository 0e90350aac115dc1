"""A vendor that takes orders, and a connector that creates them there: what commands are tried with.

`Registry` is the vendor: it does what its next `behaviour` says, and counts what it has really created.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Raw, Struct

from gateway import (
    Api,
    Codes,
    Command,
    Description,
    Event,
    Line,
    Order,
    Page,
    Submission,
    Submitted,
    TransientError,
    VendorClient,
    decimal,
    hookimpl,
)

faults: dict[str, Callable[[], Any]] = {}


class Registry:
    """One vendor on loopback. `behaviours`: what becomes of the next requests to create,
    as in `do`, `do, hang` (it is done, and no answer comes), `not, reset` or `503`; `looks`: the same for those that ask."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.asked: list[str] = []
        self.seen = 0
        self.behaviours: list[str] = []
        self.looks: list[str] = []
        self.let_go = asyncio.Event()
        self._server: TestServer | None = None

    async def start(self, port: int | None = None) -> None:
        application = web.Application()
        application.router.add_post("/orders", self._create)
        application.router.add_get("/orders/{number}", self._get)
        self._server = TestServer(application, port=port)
        await self._server.start_server()

    async def stop(self) -> None:
        self.let_go.set()
        if self._server is not None:
            await self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return str(self._server.make_url("")).rstrip("/")

    async def _create(self, request: web.Request) -> web.StreamResponse:
        order = await request.json()
        self.seen += 1
        behaviour = self.behaviours.pop(0) if self.behaviours else "do"
        does, _, then = behaviour.partition(", ")
        if does == "do":
            self.created.append(order["number"])  # every time: a second one mails the patient again
        return await self._answered(request, then or does, order["number"])

    async def _get(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["number"]
        self.asked.append(number)
        behaviour = self.looks.pop(0) if self.looks else "do"
        if behaviour != "do":
            return await self._answered(request, behaviour, number)
        if number not in self.created:
            return web.json_response({"problem": "no such order"}, status=404)
        return web.json_response(answer(number))

    async def _answered(self, request: web.Request, how: str, number: str) -> web.StreamResponse:
        if how == "hang":
            await self.let_go.wait()
        if how in ("hang", "reset"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if how.isdigit():
            return web.json_response({"problem": "no"}, status=int(how), headers={"Retry-After": "77"} if how == "429" else {})
        if how == "too long":
            return web.Response(body=b" " * 2_000_000)
        return web.json_response(answer(number), status=201)


def answer(number: str) -> dict[str, str]:
    """What the vendor says of an order."""
    return {"number": number, "pickup": f"P-secret-{number}", "storage": f"S-secret-{number}"}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: str = "http://127.0.0.1:1"
    blind: bool = False


class NewOrder(Struct, frozen=True):
    """An order to create."""

    number: str
    qty: int = 1


class Question(Struct, frozen=True):
    """An order to ask for."""

    number: str


def subject(body: Any) -> str:
    return str(body.number)


async def look_up(submission: Submission, client: VendorClient, settings: Settings) -> Submitted | None:
    found = await client.request("GET", f"/orders/{submission.body.number}", accept=[404], headers=_signed(submission))
    return None if found.status == 404 else created(submission.body, found.body)


@hookimpl
def describe() -> Description:
    return Description(
        title="A vendor that takes orders",
        settings=Settings,
        api=lambda s: Api(base_url=s.base_url, timeout_s=0.5, max_response_bytes=1_000_000),
        commands={
            "create_order": Command(title="Create an order.", body=NewOrder, subject=subject, unique=True, look_up=look_up),
            "send_note": Command(title="Send a note.", body=NewOrder),
            "get_order": Command(title="Ask for an order.", body=Question, subject=subject, repeatable=lambda s: True),
            # The known-bad mutant: nothing is looked up, it is done again.
            "create_blindly": Command(title="Create an order.", body=NewOrder, subject=subject, unique=True, repeatable=lambda s: True),
        },
    )


@hookimpl
async def submit(submission: Submission, client: VendorClient) -> Submitted:
    if "before" in faults:
        faults["before"]()
    if submission.command == "get_order":
        found = await client.request("GET", f"/orders/{submission.body.number}", headers=_signed(submission))
        return Submitted(answer=found.body)
    said = await client.request("POST", "/orders", json=submission.body, headers=_signed(submission))
    if "after" in faults:
        faults["after"]()
    return Submitted(answer=said.body) if submission.command == "send_note" else created(submission.body, said.body)


def _signed(submission: Submission) -> dict[str, str]:
    return {"X-Submission": submission.id}


def created(body: NewOrder, said: bytes) -> Submitted:
    """The answer, its codes, and the order as an event."""
    try:
        codes = msgspec.json.decode(said, type=Codes)
    except msgspec.MsgspecError as error:
        raise TransientError("the answer is no order") from error
    event = Event(key=f"created-{body.number}", order_ref=body.number, document=msgspec.json.encode({"request": body, "answer": Raw(said)}))
    return Submitted(answer=said, codes=codes, events=[event])


@hookimpl
async def poll() -> Page:
    return Page()


@hookimpl
def normalize(event: Event, document: bytes) -> Order:
    request = msgspec.json.decode(document)["request"]
    line = Line(line_number=1, article_number="A-1", quantity=decimal(request["qty"]))
    return Order(order_number=event.order_ref, lines=(line,))
