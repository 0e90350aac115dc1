"""The ways to create an order in the simulated cloud, and what `relatedNotes` make the demo instance do (vendors/pickup_cloud.md 2).

    $input-RRR   $pickup-RRR-PPP   $cancel-RRR-CCC   $fail         one-time orders; seconds after the creation, three digits each
    $pickup-SSS-RRR-PPP   $cancel-SSS-RRR-CCC   $fail              orders on behalf of others; until SSS they are scheduled

Where the pages are silent: a body that breaks a documented rule is a 400 with a .NET problem document; a number that is taken is
refused, or makes a second order, as `duplicates` says; a creation is told to the hub, by default before it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

from aiohttp import web
from msgspec import Struct

from gateway import Status
from gateway.testing import Sent, Wish
from gateway_pickup_cloud.constructed import article, midnight

ORDERS, RECURRENT, ON_BEHALF = "orders", "recurrentorders", "orders/on-behalf-of"
PATHS = {name: f"/api/v2/{name}" for name in (ORDERS, RECURRENT, ON_BEHALF)}

Fault = Literal["lose_answer", "slow", "status"]

_LOOK_S = 0.02
_INT32 = 2**31
_TRIGGER = re.compile(r"\$(input|pickup|cancel)((?:-[0-9]{3})+)")
_TYPE = "https://tools.ietf.org/html/rfc7231#section-6.5.1"


class Armed(Struct, kw_only=True):
    """A fault for the next creations: `lose_answer` closes the connection, `slow` waits `delay_s`, `status` answers that, each
    before or `after` the order is made."""

    fault: Fault
    times: int = 1
    after: bool = True
    status: int = 503
    delay_s: float = 0.0


class Creation(Struct, frozen=True, kw_only=True):
    """Received request that made an order."""

    number: str
    path: str
    request: dict[str, Any]
    headers: dict[str, str]
    pickup_code: str


class Cloud(Protocol):
    """The part of the simulator that creations need."""

    api_key: str

    def create(self, *articles: dict[str, Any], number: str | None = None, state: str = ..., **fields: Any) -> str: ...

    async def move(self, number: str, state: str, *, at: datetime | None = None, target: str = ...) -> None: ...

    async def tell(self, number: str, state: str, *, at: datetime | None = None, target: str = ...) -> None: ...

    def shown(self, number: str) -> dict[str, Any] | None: ...


class Creations:
    """The POST endpoints, with controls for tests.

    Attributes:
        made: Every creation, doubles included.
        mailed: The number of an order for every mail to a patient.
        heard: The status that each request was answered with, 0 where none was.
        duplicates: What a number that is taken is answered, or "twice": a second order in place of the first.
        announces: When the hub tells of a new order, if it does.
        zone: Where "today" is.
        plans: What people will do with an order of this number: seconds after its creation, state, and what else is shown then.
    """

    def __init__(self, cloud: Cloud, now: Callable[[], datetime]) -> None:
        self.made: list[Creation] = []
        self.mailed: list[str] = []
        self.heard: list[int] = []
        self.duplicates: int | Literal["twice"] = 409
        self.announces: Literal["before", "after", "never"] = "before"
        self.zone = ZoneInfo("Europe/Berlin")
        self.plans: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
        self._cloud = cloud
        self._now = now
        self._armed: list[Armed] = []
        self._due: list[tuple[datetime, int, str, str, dict[str, Any]]] = []
        self._count = itertools.count()
        self._one_at_a_time = asyncio.Lock()
        self._clockwork: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def open(self, application: web.Application) -> None:
        """Add the endpoints; the clock runs from now on."""
        for path in PATHS.values():
            application.router.add_post(path, self._create)
        self._clockwork = asyncio.create_task(self._run(), name="demo triggers")

    async def close(self) -> None:
        if self._clockwork is not None:
            self._clockwork.cancel()
            await asyncio.gather(self._clockwork, *self._telling, return_exceptions=True)

    def arm(self, fault: Fault, **more: Any) -> None:
        """Make the next creations fail; see `Armed`."""
        self._armed.append(Armed(fault=fault, **more))

    def doubles(self) -> list[str]:
        """Return the numbers of which more than one order was made."""
        numbers = [one.number for one in self.made]
        return sorted({number for number in numbers if numbers.count(number) > 1})

    async def _run(self) -> None:
        while True:
            await self.catch_up()
            await asyncio.sleep(_LOOK_S)

    async def catch_up(self) -> None:
        """Carry out all steps that are due."""
        async with self._one_at_a_time:
            while self._due and self._due[0][0] <= self._now():
                at, _, number, state, fields = heapq.heappop(self._due)
                shown = self._cloud.shown(number)
                if shown is not None:
                    shown |= fields
                await self._cloud.move(number, state, at=at)

    def wishes(self, number: str, *, unkind: bool) -> list[Wish]:
        """Plan two orders that an ERP creates; their numbers begin with this one."""
        if unkind:
            self.arm("lose_answer")
        today = self._now().astimezone(self.zone)
        once = {"orderNumber": f"{number}/once", "relatedNotes": "$pickup-001-002", "sendCustomerPickupMail": True}
        again = {"orderNumber": f"{number}/again", "startDate": midnight(today), "endDate": midnight(today, 90)}
        self.plans[again["orderNumber"]] = [(1, "READYFORINPUT", {}), (2, "READYFORPICKUP", {})]
        return [
            _wish("create_order", once | {"articles": [article(0, 2), article(1)]}, "picked_up", "by the ERP; mailed to the patient once"),
            _wish("create_recurrent_order", again | {"articles": [article(2, interval=28)]}, "ready_for_pickup", "by the ERP; recurrent"),
        ]

    # --- a request

    async def _create(self, request: web.Request) -> web.StreamResponse:
        armed = self._next()
        body = await request.read()
        if armed is not None and not armed.after and (broken := await self._broken(armed, request)) is not None:
            return broken
        number, answer = await self._answer(request, body)
        if armed is not None and armed.after and number is not None and (broken := await self._broken(armed, request)) is not None:
            return broken
        self.heard.append(answer.status)
        if number is not None and self.announces == "after":
            telling = asyncio.create_task(self._announce(number, later_s=_LOOK_S))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        return answer

    def _next(self) -> Armed | None:
        if not self._armed:
            return None
        armed = self._armed[0]
        armed.times -= 1
        if armed.times <= 0:
            self._armed.pop(0)
        return armed

    async def _broken(self, armed: Armed, request: web.Request) -> web.StreamResponse | None:
        if armed.fault == "slow":
            await asyncio.sleep(armed.delay_s)
            return None
        if armed.fault == "status":
            self.heard.append(armed.status)
            return web.Response(status=armed.status)
        self.heard.append(0)
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)

    async def _answer(self, request: web.Request, body: bytes) -> tuple[str | None, web.Response]:
        """Return the number of the order that was made, and the answer."""
        path = next(name for name, path in PATHS.items() if path == request.path)
        if request.headers.get("x-api-key") != self._cloud.api_key:
            return None, web.Response(status=401)
        if request.content_type != "application/json" and not request.content_type.endswith("+json"):
            return None, web.Response(status=415)
        try:
            said = json.loads(body)
        except ValueError:
            return None, _refused(400, {"$": "not JSON"})
        if problems := dict(_problems(said, path, self._now().astimezone(self.zone).date())):
            return None, _refused(400, problems)
        number = said["orderNumber"]
        if self._cloud.shown(number) is not None and self.duplicates != "twice":
            return None, _refused(self.duplicates, {"OrderNumber": "An order with this number exists already."})
        notes = said.get("relatedNotes") or ""
        if notes == "$fail" and path != RECURRENT:
            return None, web.Response(status=500)
        await self._make(number, path, said, {name.lower(): value for name, value in request.headers.items()})
        return number, web.json_response(self._cloud.shown(number))

    async def _make(self, number: str, path: str, said: dict[str, Any], headers: dict[str, str]) -> None:
        plan = [*_plan(said.get("relatedNotes") or "", path), *self.plans.get(number, ())]
        is_scheduled = path == RECURRENT or any(following == "READYFORINPUT" for _, following, _ in plan)
        fields = {name: said.get(name) or "" for name in ("relatedNotes", "dosageInformation")}
        self._cloud.create(
            *said["articles"],
            number=number,
            state="SCHEDULED" if is_scheduled else "READYFORINPUT",
            requestCustomerToFillData=said.get("customerSelfRegistration", False),
            **fields,
        )
        shown, now = self._cloud.shown(number), self._now()
        assert shown is not None
        if path != RECURRENT:
            shown["articles"] = said["articles"]
        code = shown["pickupCode"]
        self.made.append(Creation(number=number, path=path, request=said, headers=headers, pickup_code=code))
        if said.get("sendCustomerPickupMail"):
            self.mailed.append(number)
        for after_s, following, more in plan:
            heapq.heappush(self._due, (now + timedelta(seconds=after_s), next(self._count), number, following, more))
        if self.announces == "before":
            await self._announce(number)

    async def told(self) -> None:
        """Wait until the hub has pushed what follows the answers."""
        await asyncio.gather(*self._telling)

    async def _announce(self, number: str, later_s: float = 0.0) -> None:
        await asyncio.sleep(later_s)
        shown = self._cloud.shown(number)
        if shown is not None:
            with contextlib.suppress(ConnectionError):
                await self._cloud.tell(number, shown["state"], at=datetime.fromisoformat(shown["creationDate"]))


def _wish(command: str, body: dict[str, Any], status: Status, note: str) -> Wish:
    number = body["orderNumber"]
    sent = Sent(
        order_ref=number,
        order_number=number,
        door="realtime",
        answer="taken",
        expected="placed",
        lines=len(body["articles"]),
        total=None,
        status=status,
        note=note,
    )
    return Wish(command=command, body=body, sent=sent)


def _plan(notes: str, path: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Seconds after the creation, state, and what else is shown then. Notes that are no trigger, or have invalid numbers: nothing."""
    found = _TRIGGER.fullmatch(notes)
    if found is None or path == RECURRENT:
        return
    what, seconds = found[1], [int(one) for one in found[2].split("-")[1:]]
    if len(seconds) != (1 if what == "input" else 2) + (path == ON_BEHALF) or (what == "input" and path == ON_BEHALF):
        return
    if path == ON_BEHALF:
        yield seconds.pop(0), "READYFORINPUT", {}
    ready, end = seconds[0], seconds[1] if len(seconds) > 1 else None
    if what == "cancel" and end is not None and end < ready:  # never loaded
        yield end, "CANCELED", {"cancellationReason": "constructed"}
        return
    is_overdue = what == "pickup" and end is not None and end < ready
    yield ready, "READYFORPICKUP", {"isOverdue": True} if is_overdue else {}
    if end is not None and not is_overdue:
        yield end, "PICKEDUP" if what == "pickup" else "CANCELED", {}


def _problems(said: Any, path: str, today: date) -> Iterator[tuple[str, str]]:
    """Yield the problems that the vendor's pages rule out."""
    if not isinstance(said, dict):
        yield "$", "must be an object"
        return
    for name in ("orderNumber", "origin", "originOrderNumber") if path == ON_BEHALF else ("orderNumber",):
        if not isinstance(said.get(name), str) or not said[name]:
            yield name, f"The {name} field is required."
    if not isinstance(said.get("articles"), list):
        yield "articles", "The articles field is required."
    for n, one in enumerate(said["articles"] if isinstance(said.get("articles"), list) else ()):
        quantity, interval = one.get("quantityOrdered"), one.get("interval")
        if not isinstance(quantity, int) or not 0 < quantity < _INT32:
            yield f"articles[{n}].quantityOrdered", "The field must be positive."
        if path == RECURRENT and (not isinstance(interval, int) or not 1 <= interval <= 99):
            yield f"articles[{n}].interval", "The field must be between 1 and 99."
    for name, earliest in (("startDate", today), ("endDate", today + timedelta(days=1))) if path == RECURRENT else ():
        try:
            day = datetime.fromisoformat(said[name]).date()
        except (KeyError, TypeError, ValueError):
            yield name, f"The {name} field is not a date."
        else:
            if day < earliest:
                yield name, f"The {name} field must be at least {earliest}."


def _refused(status: int, errors: dict[str, str]) -> web.Response:
    listed = {name: [text] for name, text in errors.items()}
    body = {"type": _TYPE, "title": "One or more validation errors occurred.", "status": status, "errors": listed}
    return web.json_response(body, status=status, content_type="application/problem+json")
