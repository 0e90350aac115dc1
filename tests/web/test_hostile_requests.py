"""Requests that nobody meant, drawn over every route of the operators' side and of the control socket: an answer, and never a 5xx.

The pages have no OpenAPI document; what there is to ask is read off the routers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gateway.service.control_socket import socket_path
from gateway.web import admin
from tests import acme

REQUESTS = 250
HEADERS = ("Accept", "Authorization", "Content-Type", "Cookie", "If-None-Match", "Origin", "Range", "X-Forwarded-For")
ACTIONS = ("replay", "release", "drop", "resend", "resume", "target-hold", "target-release", "purge", "finish-restore")
FEW = ["", "0", "1", "50", "1000", "1001", "-1", "1e3", "٣", "dead", "unknown", "acme", "%00", "\0"]
LONG = ["0" * 4500 + "5", "9" * 4500, "0" * 12 + "5", "00000000199999999"]  # more digits than int() takes, or than anybody needs
values = st.sampled_from(FEW) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


class Asked(Struct, frozen=True):
    """One request; `path` is a route with a place to fill."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    body: bytes

    @property
    def target(self) -> str:
        return self.path + ("?" + urlencode(self.query, errors="replace") if self.query else "")


def drawn(paths: list[str], bodies: st.SearchStrategy[bytes], *methods: str) -> list[Asked]:
    """The same requests each time."""
    made: list[Asked] = []
    place = st.sampled_from(["inbox", "outbox", "acknowledgements", "orders", "x", "%2e%2e", "..", "inbox/1"])
    free = st.dictionaries(st.sampled_from(["status", "name", "source", "x"]), values, max_size=3)
    limits = st.fixed_dictionaries({}, optional={"limit": values | st.sampled_from(LONG)})
    queries = st.builds(lambda one, limit: tuple({**one, **limit}.items()), free, limits)
    headers = st.dictionaries(st.sampled_from(HEADERS), printable, max_size=3)
    route = st.builds(lambda path, word: path.replace("{queue}", word), st.sampled_from(paths), place)
    request = st.builds(Asked, st.sampled_from(methods), route, queries, headers, bodies)

    @settings(max_examples=REQUESTS, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(request)
    def draw(one: Asked) -> None:
        made.append(one)

    draw()
    return made


async def send(session: aiohttp.ClientSession, base: str, requests: list[Asked]) -> dict[str, int]:
    """Every answer that is a failure of ours, by what was asked."""
    bad: dict[str, int] = {}
    for one in requests:
        async with session.request(one.method, base + one.target, data=one.body, headers=one.headers, allow_redirects=False) as answer:
            said = await answer.read()
            if answer.status >= 500 and not one.path.startswith("/readyz"):
                bad[f"{one.method} {one.target[:200]}"] = answer.status
            assert b"Traceback" not in said
    return bad


def paths_of(application: Any) -> list[str]:
    return sorted({route.resource.canonical for route in application.router.routes()})


@pytest.fixture
async def stocked(start: Any, erp: Any) -> Any:
    """A gateway with a few rows to ask for."""
    running = await start(erp.url)
    for number in range(3):
        await running.deliver(acme.body(f"o{number}"))
    await running.deliver(b"{")
    await erp.wait_for(3)
    return running


async def hostile_reads(running: Any) -> dict[str, int]:
    requests = drawn(paths_of(running.gateway.pages._answers), st.just(b""), "GET", "GET", "HEAD", "POST", "DELETE")
    return await send(running.session, running.admin_url, requests)


async def test_no_read_is_a_failure_of_ours(stocked: Any) -> None:
    assert await hostile_reads(stocked) == {}
    assert (await stocked.get("/readyz"))[0] == 200


async def test_a_limit_is_a_number_however_it_is_written(stocked: Any) -> None:
    good, bad = ("5", "0005", "1000"), (*LONG, "0", "1001", "٣", "")
    for limit, status in (*((one, 200) for one in good), *((one, 400) for one in bad)):
        assert (await stocked.get(f"/api/inbox?limit={limit}"))[0] == status, limit[:20]


commands = st.fixed_dictionaries(
    {"action": st.sampled_from([*ACTIONS, "x", ""])},
    optional={
        "who": values,
        "keys": st.lists(
            values
            | st.sampled_from(
                ["inbox:1", "inbox:999999999999999999", "outbox:0", "ack:1", "order:/", "number:", "event:@", "acme/o1@9", "/", "@"]
            ),
            max_size=4,
        ),
        "reason": values,
        "name": values,
        "days": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        "status": st.sampled_from(["dead", "held", "done", "x", None]),
        "source": values,
        "target": values,
        "older_than_s": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        "after": values | st.sampled_from(["inbox:0", "ack:999999999999999999", "order:a/b"]),
        "yes": st.booleans(),
        "dry_run": st.booleans(),
    },
)
POISON = [b"", b"{", b"[" * 100_000, b'{"action":"drop","who":"\\ud800"}', b"\xff", b'{"action":"purge","who":"a","days":1e999}']


def control_bodies() -> st.SearchStrategy[bytes]:
    return commands.map(lambda command: json.dumps(command).encode()) | st.sampled_from(POISON) | st.binary(max_size=30)


async def test_no_command_on_the_control_socket_is_a_failure_of_ours(stocked: Any) -> None:
    gateway = stocked.gateway
    connector = aiohttp.UnixConnector(path=str(socket_path(stocked.folder / "data")))
    async with aiohttp.ClientSession(connector=connector) as session:
        requests = drawn(paths_of(gateway._control.listener._answers), control_bodies(), "POST", "POST", "GET")
        requests += drawn(["/control"], control_bodies(), "POST")
        assert await send(session, "http://gateway", requests) == {}
    await stocked.deliver(acme.body("afterwards"))
    assert not stocked.task.done()


async def test_known_bad_mutant_a_limit_that_is_read_carelessly_is_found(stocked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    careless: Callable[[Any], int] = lambda query: int(query.get("limit", "50"))  # noqa: E731
    monkeypatch.setattr(admin, "_limit", careless)
    assert await hostile_reads(stocked)


@pytest.mark.parametrize("days", [1e300, 1e9, 800_000.0, 10**400, -1, -1e300])
async def test_a_purge_of_impossibly_many_days_is_refused(stocked: Any, days: float) -> None:
    connector = aiohttp.UnixConnector(path=str(socket_path(stocked.folder / "data")))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.post("http://gateway/control", json={"action": "purge", "who": "anna", "days": days}) as answer:
            assert answer.status == 400
