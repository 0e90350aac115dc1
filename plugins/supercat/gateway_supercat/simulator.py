"""Simulator of SuperCat on loopback, as its documents describe it (vendors/supercat.md): the list, the marks, a single order.

    SUPERCAT_PASSWORD=constructed python -m gateway_supercat.simulator --listen 127.0.0.1:9103

Reps submit orders, and it lists all that were never marked, in one answer. Where the documents are silent it does the worst for a
gateway: newest first, no record ever expires, and bad sign-ins lock the account.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import uuid
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from msgspec import Struct

from gateway import Door
from gateway.testing import LoopbackServer, Sent, demonstrate
from gateway_supercat.constructed import EXAMPLE, PROMOTION, line, record

Fault = Literal["failure", "error", "page", "sign_in", "redirect", "truncated", "broken_off", "no_data", "bare", "unavailable"]

_FIRST_ID = 1_000_000
_PATIENCE_S = 60.0
_SIGN_IN = '<html><title>eCat</title><form><input name="login"><input type="password" name="password"></form></html>'
_NO_MORE = "constructed: temporarily unavailable"


class Submitted(Struct):
    """Order record on the server. `raw` replaces its JSON in the list, to test invalid records."""

    record: dict[str, Any]
    marked_by: Literal["gateway", "another"] | None = None
    raw: bytes | None = None

    def text(self) -> bytes:
        return self.raw if self.raw is not None else json.dumps(self.record, ensure_ascii=False).encode()


class SupercatSimulator(LoopbackServer):
    """Simulator of SuperCat (`gateway.testing.Simulator`), with controls for tests.

    Attributes:
        submitted: All records by id.
        asked: Number of list requests with good credentials.
        posted: Bodies of all mark requests.
        refuses: Order numbers, each with how many of its next marks fail.
        forgets: Order numbers that a mark's answer leaves out.
        locks_after: Number of bad sign-ins that lock the account.
        after_id: The `start.after_id` of its source.
    """

    title = "SuperCat eCat"
    doors: Sequence[Door] = ("poll",)

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), org: str = "demo", history: int = 2) -> None:
        self.org = org
        self.username, self.password = "gateway", "constructed-password"
        self.submitted: dict[int, Submitted] = {}
        self.asked = 0
        self.posted: list[list[str]] = []
        self.refuses: dict[str, int] = {}
        self.forgets: set[str] = set()
        self.locks_after = 3
        self.bad_sign_ins = 0
        self.acknowledging = True
        self._now = now
        self._placed = 0
        self._next_id = _FIRST_ID - history
        self._faults: dict[str, deque[Fault]] = {"GET": deque(), "POST": deque()}
        self._news = asyncio.Event()
        self.history = [self.submit() for _ in range(history)]
        self.after_id = self._next_id - 1

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/{org}/ext/v2/orders/new_orders", self._list)
        application.router.add_post("/{org}/ext/v2/orders/new_orders", self._mark)
        application.router.add_get("/{org}/ext/v2/orders/{id}.json", self._single)
        return application

    def source(self, secrets: Path) -> dict[str, Any]:
        (secrets / "supercat").write_text(self.password + "\n")
        (secrets / "supercat.jsonata").write_text(EXAMPLE.read_text("utf-8"), "utf-8")
        files = {"password": {"file": str(secrets / "supercat")}, "mapping": str(secrets / "supercat.jsonata")}
        return {"connector": "supercat", "settings": self.settings() | files}

    def settings(self) -> dict[str, Any]:
        """Return its `[sources.NAME.settings]` without the password and the mapping."""
        return {
            "base_url": self.address,
            "org": self.org,
            "username": self.username,
            "poll_interval_s": 1,
            "mark": "delivered",
            "start": {"after_id": self.after_id},
            "currency": "USD",
        }

    def submit(self, *, again: int | None = None, version: int | None = None, **fields: Any) -> int:
        """Submit an order as a rep does; return its id.

        Args:
            again: Id of a record whose order is submitted again, with the same uuid and the next dash suffix.
            version: Another dash suffix.
            fields: See `constructed.record`.
        """
        id = self._next_id
        self._next_id += 1
        name: dict[str, Any] = {"number": f"6385-{self._now():%m%d%y}-{id % 100_000:03}", "uuid": str(uuid.uuid4()).upper()}
        if again is not None:
            first = self.submitted[again].record
            family = [one.record for one in self.submitted.values() if one.record["uuid"] == first["uuid"]]
            name = {"uuid": first["uuid"], "number": f"{family[0]['order_number']}-{len(family) if version is None else version}"}
        elif version is not None:
            name["number"] += f"-{version}"
        self.submitted[id] = Submitted(record=record(id, **(name | fields)))
        return id

    def edit(self, id: int, /, **fields: Any) -> None:
        """Change the content of a record under its id."""
        self.submitted[id].record |= fields

    def reflag(self, id: int) -> None:
        """Remove a mark, as another user can."""
        self.submitted[id].marked_by = None

    def another_poller(self) -> list[int]:
        """Poll and mark as another integration does; return the ids."""
        taken = [id for id, one in self.submitted.items() if one.marked_by is None]
        for id in taken:
            self.submitted[id].marked_by = "another"
        return taken

    def fail_next(self, *faults: Fault, method: Literal["GET", "POST"] = "GET") -> None:
        """Arm faults for the next calls."""
        self._faults[method].extend(faults)

    def unlock(self) -> None:
        """Unlock the account, as SuperCat does after some minutes."""
        self.bad_sign_ins = 0

    @property
    def acknowledged(self) -> Collection[str]:
        return {one.record["uuid"].lower() for one in self.submitted.values() if one.marked_by == "gateway"}

    async def place(self, gateway_url: str, source: str, door: Door | None = None) -> Sent:
        self._placed += 1
        n = self._placed
        if door is None and n % 5 == 0:
            return self.sent(self.submit(again=self._next_id - 1, lines=[line(n % 5, 1)]), "held", "submitted again: a person decides")
        lines = [line(n % 5, 1 + n % 7), line((n + 2) % 5, 2)][: 1 + n % 2]
        return self.sent(self.submit(lines=lines, customer=n % 3, placeholder_ship_date="4/2/24"))

    async def script(self, gateway_url: str, source: str) -> Sequence[Sent]:
        done = [self.sent(id, "nothing", "from before the start: marked, not forwarded") for id in self.history]

        def add(id: int, expected: Literal["placed", "nothing", "held"], note: str) -> int:
            done.append(self.sent(id, expected, note))
            return id

        notes = [line(0, 2, note="Laat bij “achterdeur”\n\tvóór 07:00 🛋"), line(2, 3)]
        custom = {"freight_terms": "Prepaid – NYC only"}
        add(self.submit(lines=notes, placeholder_po="PO 7\t日本", placeholder_custom=custom), "placed", "accents, tabs, line breaks")
        add(self.submit(lines=[line(0, 2), PROMOTION], placeholder_season="Fall"), "placed", "a promotion, and a field nobody mapped")
        odd = add(self.submit(placeholder_ship_date="4/2/24"), "placed", "its id is a text, its date is m/d/yy")
        self.edit(odd, id=str(odd))
        add(self.submit(number=None), "nothing", "no order number: a dead letter")
        original = self.submit()
        self.submit(again=original, lines=[line(0, 4)])
        add(original, "nothing", "waits for the version that came with it")
        add(self._next_id - 1, "held", "submitted again before anybody asked")
        add(self.submit(version=2), "held", "a version of something that nobody has seen")
        refused = add(self.submit(lines=[line(3, 1)]), "placed", "the first mark for it is refused")
        self.refuses[self.submitted[refused].record["order_number"]] = 1
        first = add(self.submit(lines=[line(0, 2)]), "placed", "submitted again when the ERP had it")
        await self._marked(first)
        add(self.submit(again=first, lines=[line(1, 1)], customer=1), "held", "the same order emptied, and filled with another")
        self.fail_next("failure", "page", "redirect", "truncated")
        last = add(self.submit(lines=[line(4, 1)]), "placed", "after four polls that failed, each in its way")
        await self._marked(last)
        return done

    def sent(self, id: int, expected: Literal["placed", "nothing", "held"] = "placed", note: str = "") -> Sent:
        """Return a record in the form that the demo compares."""
        made = self.submitted[id].record
        return Sent(
            order_ref=made["uuid"].lower(),
            order_number=made["order_number"] or "-",
            door="poll",
            answer="taken",
            expected=expected,
            lines=len(made["placeholder_lines"]),
            total=made["placeholder_total"],
            note=note,
        )

    async def _marked(self, id: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while self.submitted[id].marked_by is None:
                    self._news.clear()
                    await self._news.wait()

    def _refused(self, request: web.Request) -> web.StreamResponse | None:
        pair = f"{self.username}:{self.password}".encode()
        wanted = f"Basic {base64.b64encode(pair).decode()}"
        if request.headers.get("Authorization") != wanted or request.match_info["org"] != self.org:
            self.bad_sign_ins += 1
        elif self.bad_sign_ins < self.locks_after:
            self.bad_sign_ins = 0
            return None
        return web.json_response(_answer(None, status="failure", error="constructed: sign in"), status=401)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refused(request)) is not None:
            return refusal
        self.asked += 1
        waiting = [one.text() for _, one in sorted(self.submitted.items(), reverse=True) if one.marked_by is None]
        orders = b"[" + b", ".join(waiting) + b"]"
        return await self._said(request, b'{"status": "success", "error": null, "data": ' + orders + b"}", orders)

    async def _mark(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refused(request)) is not None:
            return refusal
        if not self.acknowledging:
            return web.json_response(_answer(None, status="error", error=_NO_MORE), status=503)
        numbers: list[str] = await request.json()
        self.posted.append(numbers)
        if self._faults["POST"]:
            return await self._said(request, json.dumps(_answer({})).encode(), b"{}")
        return web.json_response(_answer({number: self._received(number) for number in numbers if number not in self.forgets}))

    def _received(self, number: str) -> dict[str, Any]:
        if self.refuses.get(number):
            self.refuses[number] -= 1
            return {"success": False, "error": "constructed: could not be updated"}
        named = [one for one in self.submitted.values() if one.record["order_number"] == number]
        for one in named:
            one.marked_by = one.marked_by or "gateway"
        self._news.set()
        return {"success": True} if named else {"success": False, "error": "constructed: no such order"}

    async def _single(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refused(request)) is not None:
            return refusal
        found = self.submitted.get(int(request.match_info["id"]) if request.match_info["id"].isdigit() else 0)
        if found is None:
            return web.json_response(_answer(None, status="failure", error="constructed: no such order"), status=404)
        return web.Response(body=found.text(), content_type="application/json")

    async def _said(self, request: web.Request, body: bytes, data: bytes) -> web.StreamResponse:
        """Return the answer, or the fault that is armed for it."""
        waiting = self._faults[request.method]
        match waiting.popleft() if waiting else None:
            case "failure":
                return web.json_response(_answer(None, status="failure", error=_NO_MORE))
            case "error":
                return web.json_response(_answer(None, status="error", error=_NO_MORE), status=500)
            case "page":
                return web.Response(text="<!DOCTYPE html><h1>We are back soon</h1>", content_type="text/html")
            case "sign_in":
                return web.Response(text=_SIGN_IN, content_type="text/html")
            case "redirect":
                return web.Response(status=302, headers={"Location": "https://elsewhere.example/maintenance?ticket=constructed"})
            case "truncated":
                return web.Response(body=body[: len(body) // 2], content_type="application/json")
            case "broken_off":
                return await _broken_off(request, body)
            case "no_data":
                return web.json_response({"status": "success", "error": None})
            case "bare":
                return web.Response(body=data, content_type="application/json")
            case "unavailable":
                return web.Response(status=503)
        return web.Response(body=body, content_type="application/json")


async def _broken_off(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response


def _answer(data: Any, *, status: str = "success", error: str | None = None) -> dict[str, Any]:
    return {"status": status, "error": error, "data": data}


async def _serve(options: argparse.Namespace) -> None:
    simulator = SupercatSimulator(org=options.org)
    simulator.password = os.environ.get(options.password_env, simulator.password)
    host, _, port = options.listen.rpartition(":")
    await simulator.start(host, int(port))
    print(f"simulated SuperCat at {simulator.address}; settings of the source, beside password and mapping:")
    await demonstrate(simulator, simulator.settings() | {"mapping": str(EXAMPLE)}, script=options.script, every_s=options.every)


def main() -> None:
    """Run the simulator from the command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway_supercat.simulator", description="A simulated SuperCat eCat.")
    parser.add_argument("--listen", default="127.0.0.1:9103", metavar="ADDRESS:PORT", help="where its API listens")
    parser.add_argument("--org", default="demo", metavar="NAME", help="the organisation's short name")
    parser.add_argument("--password-env", default="SUPERCAT_PASSWORD", metavar="NAME", help="variable with the password")
    parser.add_argument("--every", type=float, default=5, metavar="SECONDS", help="between two orders")
    parser.add_argument("--script", action="store_true", help="first the special cases, each once; it waits for a gateway")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
