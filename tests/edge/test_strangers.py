"""Strangers at the listeners: they cannot use up what genuine senders need (floods: tests/harness/torture)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.edge import server
from gateway.edge.admission import RefusalLimiter
from gateway.testing import ManualClock
from tests import acme
from tests.command_env import with_callers
from tests.log_lines import log_lines
from tests.raw_http import Reply, Wire, post, received

STRANGER = "127.0.0.2"
SECRET = "constructed-secret-do-not-use"


@asynccontextmanager
async def from_there(port: int, *, address: str = STRANGER, receives: int | None = None) -> AsyncIterator[Wire]:
    """A connection of somebody else, on a socket that takes little where `receives` says how little."""
    sock = socket.socket()
    if receives is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    sock.bind((address, 0))
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def genuine(order: str, *, forwarded: str = "") -> bytes:
    body = acme.body(order)
    return post(body, signature=acme.sign(SECRET, body), headers=f"X-Forwarded-For: {forwarded}\r\n" if forwarded else "")


async def refused(running: Any, kind: str, side: str = "http") -> float:
    _, text = await running.get("/metrics")
    for line in text.splitlines():
        if line.startswith("gateway_http_refused_total") and f'kind="{kind}"' in line and f'side="{side}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


async def status(line: Wire, request: bytes) -> int:
    await line.send(request)
    return (await line.reply() or Reply(0, {}, b"")).status


# --- how many


async def test_what_proves_nothing_does_not_use_up_the_pace_of_its_source(start, erp) -> None:
    running = await start(erp.url, source="max_requests_per_second = 2")
    for _ in range(40):
        assert (await running.deliver(acme.body("o1"), signature="0" * 64))[0] == 401
    assert (await running.deliver(acme.body("o1")))[0] == 200
    assert await received(running, "refused") == await refused(running, "unproven") == 40


def strangers(clock: ManualClock) -> RefusalLimiter:
    return RefusalLimiter(clock, per_address=3, together=10)


def test_an_address_that_proves_nothing_has_no_more_room_until_the_next_second(clock: ManualClock) -> None:
    known = strangers(clock)
    for _ in range(3):
        assert known.exceeded("a") is None
        known.record_refused("a")
    assert (known.exceeded("a"), known.exceeded("b"), known.exceeded(None)) == ("address_rate", None, None)
    clock.advance(known.next_second_s())
    assert known.exceeded("a") is None


def test_a_flood_of_many_leaves_room_for_who_has_proven_something(clock: ManualClock) -> None:
    known = strangers(clock)
    known.record_genuine("vendor")
    for n in range(10):
        known.record_refused(f"stranger {n}")
    assert (known.exceeded("another"), known.exceeded("vendor"), known.exceeded(None)) == ("rate", None, None)
    clock.advance(3600)
    for n in range(10):
        known.record_refused(f"stranger {n}")
    assert known.exceeded("vendor") == "rate"


def test_what_is_genuine_counts_nowhere_here(clock: ManualClock) -> None:
    known = strangers(clock)
    for _ in range(100):
        known.record_genuine("vendor")
    assert known.exceeded("vendor") is None


def test_no_flood_of_addresses_fills_the_memory(clock: ManualClock) -> None:
    known = strangers(clock)
    for n in range(20_000):
        known.record_genuine(str(n))
        known.record_refused(str(n))
        clock.advance(0.01)
    assert len(known._known) == 10_000
    assert len(known._counts) <= 101


FEW = "max_refused_per_second_per_address = 3"


@pytest.fixture
async def stopped_clock(start, erp) -> Any:
    """A gateway whose second does not end before the test says so; the clock is the second thing."""
    running = await start(erp.url, http=FEW)
    admission, clock = running.gateway._door._admission, ManualClock()
    admission._clock = admission.refusals._clock = clock
    return running, clock


async def test_an_address_over_its_limit_waits_for_a_429_and_others_are_served(stopped_clock) -> None:
    running, clock = stopped_clock
    connections = running.gateway.vendors.connections
    async with from_there(running.gateway.vendors.port) as line, from_there(running.gateway.vendors.port) as another:
        assert [await status(line, post(b"x", signature="0" * 64)) for _ in range(3)] == [401] * 3
        waiting = asyncio.create_task(status(another, genuine("o0")))
        await running.until(lambda: is_true(any(connection.state == "paused" for connection in connections._open)))
        async with from_there(running.gateway.vendors.port) as third:
            assert await third.closed() == b""
        assert (await running.deliver(acme.body("o1")))[0] == 200
        assert not waiting.done()
        clock.advance(1)
        assert await waiting == 429
        assert await another.closed() == b""
        assert await status(line, genuine("o2")) == 200
    assert await refused(running, "address_rate") == 2


async def is_true(fact: bool) -> bool:
    return fact


async def test_behind_a_proxy_it_is_whom_the_proxy_names(stopped_clock) -> None:
    running, _ = stopped_clock
    async with from_there(running.gateway.vendors.port, address="127.0.0.1") as proxy:
        for _ in range(3):
            assert await status(proxy, post(b"x", headers="X-Forwarded-For: 192.0.2.1\r\n")) == 401
        assert await status(proxy, genuine("o1", forwarded="192.0.2.2")) == 200
        assert await status(proxy, genuine("o2", forwarded="192.0.2.1, 192.0.2.2")) == 200
        assert await status(proxy, genuine("o3")) == 200
        assert await status(proxy, genuine("o4", forwarded="192.0.2.1")) == 429  # at once: the connection is the proxy's


async def test_a_stranger_that_names_somebody_else_is_not_believed(stopped_clock) -> None:
    running, _ = stopped_clock
    async with from_there(running.gateway.vendors.port) as line:
        for n in range(3):
            assert await status(line, post(b"x", headers=f"X-Forwarded-For: 192.0.2.{n}\r\n")) == 401
    assert running.gateway._door._admission.refusals.exceeded(STRANGER) == "address_rate"
    assert running.gateway._door._admission.refusals.exceeded("192.0.2.1") is None


async def test_guessing_at_tokens_is_slowed_down_too(start, erp) -> None:
    running = await start(erp.url, http=FEW, more=with_callers())
    listener = running.gateway.command_api.listener
    running.gateway.command_api._admission._clock = running.gateway.command_api._admission.refusals._clock = ManualClock()
    async with from_there(listener.port) as line:
        for _ in range(3):
            assert await status(line, post(b"", path="/out/pharmacy/create_order")) == 401
        async with from_there(listener.port) as next_one:
            assert await next_one.closed() == b""
        async with from_there(listener.port, address="127.0.0.3") as other:
            assert await status(other, post(b"", path="/out/pharmacy/create_order")) == 401
    assert (await refused(running, "unproven", "submit"), await refused(running, "address_rate", "submit")) == (4, 1)


# --- lines and counts


async def test_each_kind_of_refusal_is_one_line_a_minute_and_is_counted(start, erp) -> None:
    running = await start(erp.url)
    ways = {
        "malformed": b"\0\r\n\r\n",
        "unknown_address": post(path="/nowhere"),
        "method": b"GET /in/acme HTTP/1.1\r\nHost: x\r\n\r\n",
        "too_long": post(b"", length=10**9),
        "unproven": post(b"{}", signature="0" * 64),
    }
    with log_lines() as lines:
        for kind, request in ways.items():
            for _ in range(5):
                async with from_there(running.gateway.vendors.port, address="127.0.0.1") as line:
                    assert 400 <= await status(line, request) < 500, kind
    assert {kind: await refused(running, kind) for kind in ways} == dict.fromkeys(ways, 5)
    for kind in ways:
        told = [entry for entry in lines if f'"kind":"{kind}"' in entry or (kind == "unproven" and "webhook.refused" in entry)]
        assert len(told) == 1, kind


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/in/acme/", {"path": "/in/acme/", "meant": "/in/acme"}),
        ("/In/Acme", {"path": "/In/Acme", "meant": "/in/acme"}),
        ("//in//acme", {"path": "//in//acme", "meant": "/in/acme"}),
        ("/in/acmee", {"path": "/in/acmee", "meant": "/in/acme"}),
        ("/in/tok3n-of-somebody", {"path": "/in/..."}),
        ("/in/acme/5f0c2b7e9d1a", {"path": "/in/..."}),
        ("/wp-login.php", {"path": "another"}),
    ],
)
async def test_a_path_that_leads_nowhere_is_told_where_it_is_nearly_one_of_ours(start, erp, caplog, path, told) -> None:
    running = await start(erp.url)
    async with from_there(running.gateway.vendors.port, address="127.0.0.1") as line:
        assert await status(line, post(path=path)) == 404
    (record,) = [record for record in caplog.records if record.message == "http.refused"]
    assert {name: value for name, value in vars(record).items() if name in ("path", "meant")} == told


# --- connections


async def test_an_address_has_no_more_than_its_part_of_the_connections(start, erp) -> None:
    running = await start(erp.url, http="max_connections_per_address = 2")
    port = running.gateway.vendors.port
    async with from_there(port) as one, from_there(port) as two:
        async with from_there(port) as three, from_there(port, address="127.0.0.3") as other:
            assert await three.closed() == b""
            for line in (one, two, other):
                assert await status(line, genuine("o1")) == 200
    async with from_there(port, address="127.0.0.1") as one, from_there(port, address="127.0.0.1") as two:
        async with from_there(port, address="127.0.0.1") as three:  # a proxy's connections are everybody's
            for line in (one, two, three):
                assert await status(line, genuine("o1")) == 200
    assert await refused(running, "address_connections") == 1


async def test_where_there_are_too_many_the_address_that_has_most_makes_room(start, erp) -> None:
    running = await start(erp.url, http="max_connections = 4\nmax_connections_per_address = 3")
    port = running.gateway.vendors.port
    async with from_there(port, address="127.0.0.3") as vendor:
        assert await status(vendor, genuine("o1")) == 200  # idle for the longest time
        async with from_there(port) as one, from_there(port) as two, from_there(port) as three:
            async with from_there(port, address="127.0.0.4") as another:
                assert await status(another, genuine("o2")) == 200
                assert await one.closed() == b""
                assert await status(vendor, genuine("o3")) == 200
                assert await status(two, genuine("o4")) == await status(three, genuine("o5")) == 200
    assert await refused(running, "made_room") == 1


async def test_idle_connections_do_not_keep_a_monitor_out(start, erp) -> None:
    running = await start(erp.url)
    lines = [await asyncio.open_connection("127.0.0.1", running.gateway.pages.port) for _ in range(100)]
    try:
        async with from_there(running.gateway.pages.port, address="127.0.0.3") as monitor:
            for path in ("/healthz", "/readyz"):
                assert await status(monitor, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) == 200
        assert (await running.get("/healthz"))[0] == 200
    finally:
        for _, writer in lines:
            writer.transport.abort()


async def test_answers_that_nobody_reads_end_the_connection(start, erp, monkeypatch) -> None:
    monkeypatch.setattr(server, "_drop_unsent_after", lambda *_: None)  # what the kernel would do as well
    running = await start(
        erp.url, http="write_timeout_s = 0.1\nmax_refused_per_second_per_address = 1000000\nmax_refused_per_second = 1000000"
    )
    connections = running.gateway.vendors.connections
    async with from_there(running.gateway.vendors.port, receives=2304) as line:
        sending = asyncio.create_task(line.send(*[post(path="/x") * 1000] * 100))
        await running.until(lambda: an_answer_was_unread(running), 15)
        await running.until(lambda: is_true(not [connection for connection in connections._open if connection.peer == STRANGER]), 15)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert await refused(running, "unread_answers") == 1
    assert (await running.deliver(acme.body("o1")))[0] == 200


async def an_answer_was_unread(running: Any) -> bool:
    return await refused(running, "unread_answers") > 0


# --- bodies


MIB = 1024 * 1024


async def test_all_unfinished_bodies_together_have_a_limit_and_the_largest_go_first(start, erp) -> None:
    running = await start(erp.url, http=f"max_unfinished_bytes = {2 * MIB}\nmax_body_bytes = {MIB}")
    connections, port = running.gateway.vendors.connections, running.gateway.vendors.port
    body = acme.body("o1")
    async with from_there(port, address="127.0.0.3") as vendor:
        await vendor.send(post(body, signature=acme.sign(SECRET, body))[:-1])
        await running.until(lambda: is_true(connections.pending_bytes > 0))
        lines = [from_there(port) for _ in range(6)]
        for line in lines:
            await (await line.__aenter__()).send(post(b"x" * (MIB - 10), length=MIB - 9))
        await running.until(lambda: refused_at_all(running))
        assert 0 < connections.pending_bytes <= 2 * MIB
        assert await status(vendor, body[-1:]) == 200
        for line in lines:
            await line.__aexit__(None, None, None)
    await running.until(lambda: is_true(not connections.pending_bytes and not len(connections)))


async def refused_at_all(running: Any) -> bool:
    return await refused(running, "unfinished_bodies") >= 4


async def test_a_body_that_has_to_go_is_answered_503(start, erp) -> None:
    running = await start(erp.url)
    connections = running.gateway.vendors.connections
    async with from_there(running.gateway.vendors.port) as line:
        await line.send(post(b"x" * 1000, length=2000))
        await running.until(lambda: is_true(connections.pending_bytes > 1000))
        (connection,) = [connection for connection in connections._open if connection.pending_bytes]
        connection.cut_off()
        reply = await line.reply()
        assert reply is not None
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "5", "close")
        assert await line.closed() == b""
    assert await received(running, "refused") == 0


async def test_headers_that_never_end_count_as_well(start, erp) -> None:
    running = await start(erp.url)
    async with from_there(running.gateway.vendors.port) as line:
        await line.send(b"POST /in/acme HTTP/1.1\r\n" + b"X: y\r\n" * 50)
        await running.until(lambda: is_true(running.gateway.vendors.connections.pending_bytes == 324))


async def test_what_is_answered_is_held_no_more(start, erp) -> None:
    running = await start(erp.url)
    connections = running.gateway.vendors.connections
    async with from_there(running.gateway.vendors.port) as line:
        for request in (genuine("o1"), post(b"x"), post(path="/nowhere"), genuine("o2") + genuine("o3")):
            await line.send(request)
            assert await line.reply() is not None
        assert await line.reply() is not None
        await running.until(lambda: is_true(connections.pending_bytes == 0))
    assert len(connections) == 0 or connections.pending_bytes == 0


async def test_large_bodies_are_looked_at_one_at_a_time_and_what_waits_may_have_to_go(start, erp, monkeypatch) -> None:
    running = await start(erp.url)
    door, connections = running.gateway._door, running.gateway.vendors.connections
    body = acme.body("o1") + b" " * 100_000
    async with door._large, from_there(running.gateway.vendors.port) as line:
        await line.send(post(body, signature=acme.sign(SECRET, body)))
        await running.until(lambda: is_true(any(connection.state == "waiting" for connection in connections._open)))
        assert (await running.deliver(acme.body("o2")))[0] == 200  # a small one comes between
        (connection,) = [connection for connection in connections._open if connection.state == "waiting"]
        connection.cut_off()
        assert await line.closed() == b""
    await running.until(lambda: is_true(not connections.pending_bytes))
    assert (await running.deliver(body))[0] == 200
