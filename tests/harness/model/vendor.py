"""A vendor that does what it is told to, answers as it is told to, and notes every command that it is told a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal, get_args

from aiohttp import web

from gateway.testing import ManualClock
from tests import order_vendor

# What it does, and what its sender hears of that: `do` or `not`, and `slow`: done a while after its sender has heard nothing.
Does = Literal[
    "do", "do, reset", "do, 500", "do, too long", "not, reset", "slow", "503", "429", "401", "400", "409", "do, hang", "not, hang"
]
DOES: tuple[Does, ...] = tuple(one for one in get_args(Does) if not one.endswith("hang"))
HANGS: tuple[Does, ...] = ("do, hang", "not, hang")
Looks = Literal["do", "500", "reset", "400", "429"]
LOOKS: tuple[Looks, ...] = get_args(Looks)
_SLOW_S = 5.0  # a request that is older than CERTAIN_AFTER_S counts as one that will not be done any more


class ScriptedVendor(order_vendor.Registry):
    """`does` and `answers` say by number what becomes of the next commands and questions; whatever is not in them is done.

    Attributes:
        made: How often it did what a submission says, by its id.
        problems: Promises that were broken.
        closed: Submissions whose end the gateway has committed: nothing may come of them any more.
        hanging: Submissions whose answer does not come.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self._slow: list[tuple[float, str, str]] = []
        self._turn: dict[str, str] = {}
        self.does: dict[str, Does] = {}
        self.answers: dict[str, Looks] = {}
        self.made: dict[str, int] = {}
        self.problems: list[str] = []
        self.closed: set[str] = set()
        self.hanging: set[str] = set()
        self.hangs = asyncio.Event()

    def turn(self, does: Mapping[str, Does], answers: Mapping[str, Looks]) -> None:
        """Another round of attempts: of each number one command, or question, may come in it."""
        self.does, self.answers = dict(does), dict(answers)
        self._turn.clear()
        self.do_what_is_slow()

    def do_what_is_slow(self) -> None:
        due = [one for one in self._slow if one[0] <= self._clock.monotonic()]
        self._slow = [one for one in self._slow if one not in due]
        for _, number, id_ in due:
            self._do(number, id_)

    def has(self, id_: str, number: str) -> bool:
        """Whether a person who asks is told that it is there, or on its way."""
        return self.made.get(id_, 0) > 0 or number in self.created or any(id_ == one or number == slow for _, slow, one in self._slow)

    def let_hang_up(self) -> None:
        self.let_go.set()
        self.let_go = asyncio.Event()
        self.hanging.clear()

    def _do(self, number: str, id_: str) -> None:
        self.made[id_] = self.made.get(id_, 0) + 1
        if not number.startswith("note"):
            self.created.append(number)

    def _judge(self, number: str, id_: str) -> None:
        if id_ in self.closed:
            self.problems.append(f"{id_} comes again after its end was committed")
        if not number.startswith("note") and self._turn.setdefault(number, id_) != id_:
            self.problems.append(f"{id_} and {self._turn[number]} are under way for {number} at the same time")

    async def _create(self, request: web.Request) -> web.StreamResponse:
        number, id_ = (await request.json())["number"], request.headers["X-Submission"]
        self._judge(number, id_)
        does, _, then = self.does.get(number, "do").partition(", ")
        if does == "slow":
            self._slow.append((self._clock.monotonic() + _SLOW_S, number, id_))
            then = "reset"
        elif does == "do":
            self._do(number, id_)
        if then == "hang":
            self.hanging.add(id_)
            self.hangs.set()
        return await self._answered(request, then or does, number)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["number"]
        self._judge(number, request.headers["X-Submission"])
        answer = self.answers.get(number, "do")
        if answer != "do":
            return await self._answered(request, answer, number)
        if number not in self.created:
            return web.json_response({"problem": "no such order"}, status=404)
        return web.json_response(order_vendor.answer(number))
