"""An ERP that answers each order as it was told to, and notes every promise that an arrival breaks."""

from __future__ import annotations

import asyncio
from typing import Literal, get_args

import msgspec
from aiohttp import web
from msgspec import Struct

Answer = Literal["ok", "lost", "half", "not_taken", "unclear", "busy", "refused", "throttled", "hold", "stall", "stall_not_taken"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
LATE: tuple[Answer, ...] = ("ok", "lost", "refused", "busy", "throttled")
STALLS: tuple[Answer, ...] = ("stall", "stall_not_taken")
_TAKES = ("ok", "lost", "half", "unclear", "stall")


class Arrived(Struct, frozen=True):
    """A message: which version of which order it is, and what it says."""

    key: str
    ref: str
    version: int
    content: int

    @property
    def n(self) -> int:
        return int(self.key.rsplit("/", 1)[1])


class ScriptedErp:
    """`answers` says by order what the next requests hear; whatever is not in it hears `ok`.

    Attributes:
        taken: What it has, by key, in the order in which it came.
        made: How often it made an order of a key: more than once only where it recognises no repeat.
        problems: Promises that were broken.
        closed: Keys whose delivery the gateway has committed as done: they may not come again.
        stalled: Requests of the workers of now that wait for their answer, by key.
    """

    def __init__(self, *, honours_key: bool) -> None:
        self._honours_key = honours_key
        self.answers: dict[str, Answer] = {}
        self.taken: dict[str, Arrived] = {}
        self.made: dict[str, int] = {}
        self.problems: list[str] = []
        self.closed: set[str] = set()
        self.stalled: dict[str, asyncio.Future[Answer]] = {}
        self._orphans: list[asyncio.Future[Answer]] = []
        self.stalls = asyncio.Event()
        self._bodies: dict[str, bytes] = {}
        self._keys: dict[tuple[str, int], str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Every request of the target."""
        if request.method == "GET":
            return await self._look(request)
        body = await request.read()
        message = msgspec.json.decode(body)
        order = message["order"]
        came = Arrived(message["key"], order["order_ref"], order["revision"], int(order["lines"][0]["quantity"]))
        self._judge(came, body, request.headers.get("Idempotency-Key"))
        answer = self.answers.get(came.ref, "ok")
        known = came.key in self.taken and self._honours_key
        if answer in _TAKES and not known:
            self.taken.setdefault(came.key, came)
            self.made[came.key] = self.made.get(came.key, 0) + 1
        if answer in STALLS:
            future = self.stalled[came.key] = asyncio.get_running_loop().create_future()
            self.stalls.set()
            answer = await future
            if answer == "ok" and came.key not in self.taken:
                answer = "not_taken"
        return self._answer(request, answer, came.key, known)

    def _judge(self, came: Arrived, body: bytes, header: str | None) -> None:
        if header != came.key:
            self.problems.append(f"{came.key} came under the key {header}")
        if self._bodies.setdefault(came.key, body) != body:
            self.problems.append(f"one key, two contents: {came.key}")
        if self._keys.setdefault((came.ref, came.version), came.key) != came.key:
            self.problems.append(f"a second message: version {came.version} of {came.ref} as {came.key}")
        later = [one.key for one in self.taken.values() if one.ref == came.ref and (one.n > came.n or one.version > came.version)]
        if later:
            self.problems.append(f"overtaken: {came.key} comes after {later[0]}")
        if came.key in self.closed:
            self.problems.append(f"{came.key} comes again after its delivery was committed")

    async def _look(self, request: web.Request) -> web.Response:
        key = request.query["name"]
        answer = self.answers.get(key.split("/")[1], "ok")
        if answer in ("busy", "throttled", "hold", "lost"):
            return self._answer(request, answer, key)
        rows = [{"id": key, "number": key}] if key in self.taken else []
        return web.json_response({"value": rows})

    def _answer(self, request: web.Request, answer: Answer, key: str, known: bool = False) -> web.Response:
        if answer in ("lost", "not_taken", "half"):
            if answer == "half" and request.transport is not None:
                request.transport.write(b'HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n{"id')
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=500)
        status = {"busy": 503, "refused": 422, "throttled": 429, "hold": 401, "unclear": 504}.get(answer, 409 if known else 201)
        headers = {"Retry-After": "30"} if answer == "throttled" else {}
        return web.json_response({"id": key, "number": key}, status=status, headers=headers)

    def end_stalls(self, answer: Answer) -> None:
        """Answer everything that waits for its answer."""
        self.orphan()
        for future in self._orphans:
            if not future.done():
                future.set_result(answer)
        self._orphans.clear()

    def orphan(self) -> None:
        """Other workers have taken over; who asked still waits."""
        self._orphans += self.stalled.values()
        self.stalled.clear()
