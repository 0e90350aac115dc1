"""The listening side under senders that are slow, many, malformed or clever (reliability.md, Input)."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway.edge.client_address import read
from gateway.edge.request_limits import BODY_TIMEOUT_S
from gateway.edge.server import IDLE_TIMEOUT_S, Listener, QuietHandler
from tests import acme
from tests.log_lines import log_lines
from tests.raw_http import Reply, Wire, post, wire

TOKEN = "tok3n-that-nobody-may-repeat"


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError(TOKEN)


@asynccontextmanager
async def listening(handle: Callable[[web.Request], Awaitable[web.StreamResponse]] = echo, **limits: Any) -> AsyncIterator[Listener]:
    application = web.Application()
    application.router.add_route("*", "/in/acme", handle)
    listener = Listener(application, **{"max_connections": 100, "idle_timeout_s": 0.2, **limits})
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close(1)


def connected(listener: Listener) -> list[Any]:
    """The handlers of aiohttp, and what they have inside."""
    assert listener._runner is not None
    assert listener._runner.server is not None
    return list(listener._runner.server.connections)


def seconds() -> float:
    return asyncio.get_running_loop().time()


# --- slow senders


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with listening() as listener, wire(listener.port) as line:
        began = seconds()
        assert await line.closed() == b""
        assert 0.1 < seconds() - began < 2


async def test_headers_that_come_drop_by_drop_do_not_win_time() -> None:
    async with listening() as listener, wire(listener.port) as line:
        began, closed = seconds(), asyncio.ensure_future(line.closed())
        await line.send(b"POST /in/acme HTTP/1.1\r\nHost: gateway\r\n")
        while not closed.done():
            await line.send(b"X: y\r\n")
            await asyncio.wait([closed], timeout=0.02)
        assert seconds() - began < 2


async def test_an_idle_connection_is_closed_and_a_busy_one_kept() -> None:
    async with listening() as listener, wire(listener.port) as line:
        for _ in range(5):
            await line.send(post(b"x"))
            reply = await line.reply()
            assert reply is not None
            assert reply.body == b"x"
        began = seconds()
        assert await line.closed() == b""
        assert 0.1 < seconds() - began < 2


async def test_a_body_that_stops_coming_is_cut_off(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._door._body_timeout_s = 0.1
    with log_lines() as lines:
        async with wire(running.gateway.vendors.port) as line:
            await line.send(post(b'{"id"', length=100))
            assert await line.closed(2) == b""
    assert [entry for entry in lines if "http.refused" in entry and "slow_body" in entry]
    assert await running.rows("inbox") == []


async def test_a_body_that_comes_drop_by_drop_does_not_win_time(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._door._body_timeout_s = 0.1
    async with wire(running.gateway.vendors.port) as line:
        began, closed = seconds(), asyncio.ensure_future(line.closed())
        await line.send(post(b"", length=100000))
        while not closed.done():
            await line.send(b" ")
            await asyncio.wait([closed], timeout=0.01)
        assert seconds() - began < 2


async def test_the_limits_are_in_force_on_a_live_handler(start, erp) -> None:
    """aiohttp takes a misspelt option without a word and then forgets all the others: look at what is connected."""
    running = await start(erp.url)
    for listener in (running.gateway.vendors, running.gateway.pages):
        async with wire(listener.port) as line:
            await line.send(post())
            await line.reply()
            (handler,) = [h for h in connected(listener) if h.transport is not None]
            assert type(handler) is QuietHandler
            assert handler.keepalive_timeout == IDLE_TIMEOUT_S == 15
            assert handler._lingering_time == 2
            transport: Any = handler.transport
            assert transport.max_size == 64 * 1024
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert (handler.max_line_size, handler.max_field_size, handler.max_headers) == (8190, 8190, 128)
            assert handler.access_logger is not None
            assert not handler._logging_enabled
            assert handler._manager is not None
            assert handler._manager.handler_cancellation is False
    assert running.gateway._door._body_timeout_s == BODY_TIMEOUT_S == 10
    limits = running.gateway.vendors.connections.limits
    assert (limits.connections, limits.per_address, limits.unfinished_bytes, limits.write_timeout_s) == (1000, 250, 32 * 2**20, 30)


# --- many senders


async def test_a_connection_too_many_is_closed_where_the_others_are_at_work() -> None:
    working = asyncio.Event()

    async def work(request: web.Request) -> web.Response:
        await working.wait()
        return await echo(request)

    async with listening(work, max_connections=2) as listener:
        async with wire(listener.port) as one, wire(listener.port) as two:
            for line in (one, two):
                await line.send(post(b"x"))
            async with asyncio.timeout(5):
                while sum(handler._request_in_progress for handler in connected(listener)) < 2:
                    await asyncio.sleep(0)
            async with wire(listener.port) as three:
                assert await three.closed() == b""
            working.set()
            for line in (one, two):
                assert (await line.reply() or Reply(0, {}, b"")).body == b"x"


async def test_the_connection_that_is_idle_longest_makes_room_for_another() -> None:
    async with listening(max_connections=2, idle_timeout_s=15) as listener:
        async with wire(listener.port) as one, wire(listener.port) as two:
            for line in (two, one):
                await line.send(post(b"x"))
                assert await line.reply() is not None
            async with wire(listener.port) as three:
                await three.send(post(b"z"))
                assert (await three.reply() or Reply(0, {}, b"")).body == b"z"
            assert await two.closed() == b""
            await one.send(post(b"y"))
            assert (await one.reply() or Reply(0, {}, b"")).body == b"y"


async def test_the_limits_come_from_the_configuration(start, erp) -> None:
    running = await start(erp.url, http=SMALLER)
    vendors, submit = running.gateway.vendors, running.gateway.command_api
    limits = vendors.connections.limits
    assert (limits.connections, limits.per_address, limits.unfinished_bytes, limits.write_timeout_s) == (7, 3, 4_000_000, 5.0)
    assert (vendors._idle_timeout_s, running.gateway._door._body_timeout_s, submit.door._body_timeout_s) == (4.0, 3.0, 3.0)
    strangers = running.gateway._door._admission.refusals
    assert (strangers._together, strangers._per_address) == (20, 10)
    assert running.gateway._door._admission.proxies.is_trusted(read("10.1.2.3"))


SMALLER = """
max_connections = 7
max_connections_per_address = 3
max_unfinished_bytes = 4000000
max_refused_per_second = 20
max_refused_per_second_per_address = 10
idle_timeout_s = 4
body_timeout_s = 3
write_timeout_s = 5
trusted_proxies = ["10.0.0.0/8"]
"""


# --- malformed requests

MALFORMED = {
    "token in a header without a colon": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nAuthorization {TOKEN}\r\n\r\n",
    "token in a header with a NUL": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nAuthorization: {TOKEN}\0\r\n\r\n",
    "token in a header name": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\n{TOKEN}\x7f: x\r\n\r\n",
    "token as the method": f"{TOKEN} /in/acme HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "token in a method with a control character": f"PO\x01{TOKEN} /in/acme HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "token as the version": f"POST /in/acme {TOKEN}\r\nHost: gateway\r\n\r\n",
    "token in a bad address": f"POST http://[{TOKEN}/ HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "token in an address that is not ASCII": f"POST /in/\xff{TOKEN} HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "token as a length": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nContent-Length: {TOKEN}\r\n\r\n",
    "token as a transfer encoding": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: {TOKEN}\r\n\r\n",
    "token as a chunk size": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n{TOKEN}\r\n",
    "token as an expectation": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nExpect: {TOKEN}\r\nContent-Length: 0\r\n\r\n",
    "token as an expectation nowhere": f"POST /{TOKEN} HTTP/1.1\r\nHost: gateway\r\nExpect: {TOKEN}\r\nContent-Length: 0\r\n\r\n",
    "token in a query": f"POST /in/nobody?key={TOKEN} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n",
    "token in a path": f"POST /in/{TOKEN} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n",
    "token as a host": f"POST /in/acme HTTP/1.1\r\nHost: {TOKEN}\r\nContent-Length: 0\r\n\r\n",
    "token in a line that is too long": f"POST /{TOKEN * 400} HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "token in a header that is too long": f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nX: {TOKEN * 400}\r\n\r\n",
    "token in too many headers": "POST /in/acme HTTP/1.1\r\nHost: gateway\r\n" + f"X: {TOKEN}\r\n" * 200 + "\r\n",
    "token in place of HTTP": f"{TOKEN}\r\n\r\n",
}


@pytest.mark.parametrize("side", ["vendors", "pages"])
async def test_what_is_malformed_is_neither_repeated_nor_logged(start, erp, side) -> None:
    running = await start(erp.url)
    port = getattr(running.gateway, side).port
    running.gateway._door._body_timeout_s = 0.2
    with log_lines(level=10) as lines:
        for name, raw in MALFORMED.items():
            async with wire(port) as line:
                await line.send(raw.encode("latin-1"))
                reply = await line.reply()
            if reply is not None:
                assert 400 <= reply.status < 500, name
                assert TOKEN not in repr(reply), name
    assert TOKEN not in "".join(lines)


async def test_an_exception_in_the_gateway_is_a_500_without_its_text() -> None:
    with log_lines() as lines:
        async with listening(fail) as listener, wire(listener.port) as line:
            await line.send(post(path=f"/in/acme?key={TOKEN}", headers=f"Authorization: {TOKEN}\r\n"))
            reply = await line.reply()
    assert reply is not None
    assert (reply.status, reply.body) == (500, b"internal error")
    assert "request.failed" in "".join(lines)
    assert "RuntimeError at" in "".join(lines)
    assert TOKEN not in "".join(lines) + repr(reply)


async def test_no_answer_names_the_software_underneath() -> None:
    async with listening() as listener, wire(listener.port) as line:
        for raw in (post(), post(path="/nowhere"), b"rubbish\r\n\r\n"):
            await line.send(raw)
            reply = await line.reply()
            assert reply is not None
            assert reply.headers["server"] == "order-gateway"


# --- pipelining and smuggling


async def test_pipelined_orders_are_answered_each_and_in_order(start, erp) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.vendors.port) as line:
        await line.send(b"".join(signed(running, f"o{n}") for n in range(30)))
        replies = [await line.reply() for _ in range(30)]
    assert [reply and reply.body for reply in replies] == [f'{{"status":"stored","key":"o{n}"}}'.encode() for n in range(30)]
    await erp.wait_for(30)


def signed(running: Any, order: str) -> bytes:
    body = acme.body(order)
    return post(body, signature=proof(running, body))


def proof(running: Any, body: bytes) -> str:
    return acme.sign((running.folder / "secret").read_text().strip(), body)


FORMS: dict[str, str] = {
    # BODY is a signed order and LEN its length; INNER is a whole signed request with another order.
    "CL.TE": "Content-Length: WHOLE\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nINNER",
    "TE.CL": "Transfer-Encoding: chunked\r\nContent-Length: LEN\r\n\r\nBODY\r\n0\r\n\r\nINNER",
    "TE.TE": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\nINNER",
    "TE in disguise": "Content-Length: LEN\r\nTransfer-Encoding: xchunked\r\n\r\nBODYINNER",
    "TE with a tab": "Content-Length: LEN\r\nTransfer-Encoding:\tchunked\r\n\r\nBODY0\r\n\r\nINNER",
    "TE with a vertical tab": "Content-Length: LEN\r\nTransfer-Encoding: \x0bchunked\r\n\r\nBODYINNER",
    "TE not last": "Transfer-Encoding: chunked, identity\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\nINNER",
    "TE twice in one": "Transfer-Encoding: chunked, chunked\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\nINNER",
    "TE folded": "Content-Length: LEN\r\nTransfer-Encoding:\r\n chunked\r\n\r\nBODY0\r\n\r\nINNER",
    "TE before a space": "Content-Length: LEN\r\nTransfer-Encoding : chunked\r\n\r\nBODY0\r\n\r\nINNER",
    "two lengths": "Content-Length: LEN\r\nContent-Length: 0\r\n\r\nBODYINNER",
    "two equal lengths": "Content-Length: LEN\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "two lengths in one": "Content-Length: LEN, 0\r\n\r\nBODYINNER",
    "a negative length": "Content-Length: -LEN\r\n\r\nBODYINNER",
    "a length with a plus": "Content-Length: +LEN\r\n\r\nBODYINNER",
    "a length with a space": "Content-Length: LEN 0\r\n\r\nBODYINNER",
    "a length with an underscore": "Content-Length: 1_LEN\r\n\r\nBODYINNER",
    "a hexadecimal length": "Content-Length: 0xHEX\r\n\r\nBODYINNER",
    "a length beyond 64 bits": "Content-Length: 18446744073709551616\r\n\r\nBODYINNER",
    "a length in other digits": "Content-Length: \xb2\r\n\r\nBODYINNER",
    "a folded length": "Content-Length:\r\n LEN\r\n\r\nBODYINNER",
    "a length before a space": "Content-Length : LEN\r\n\r\nBODYINNER",
    "a length with a NUL": "Content-Length: LEN\0\r\n\r\nBODYINNER",
    "a folded signature": "X: a\r\n\tX-Acme-Signature: PROOF\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "lines ended by LF": "X: y\nContent-Length: LEN\n\nBODYINNER",
    "lines ended by CR": "X: y\rContent-Length: 0\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "a chunk extension": "Transfer-Encoding: chunked\r\n\r\nHEX;a=b\r\nBODY\r\n0\r\n\r\n",
    "a chunk extension with LF": "Transfer-Encoding: chunked\r\n\r\nHEX;a\nBODY\r\n0\r\n\r\nINNER",
    "a chunk size with a plus": "Transfer-Encoding: chunked\r\n\r\n+HEX\r\nBODY\r\n0\r\n\r\nINNER",
    "a negative chunk": "Transfer-Encoding: chunked\r\n\r\n-HEX\r\nBODY\r\n0\r\n\r\nINNER",
    "a chunk size with 0x": "Transfer-Encoding: chunked\r\n\r\n0xHEX\r\nBODY\r\n0\r\n\r\nINNER",
    "a chunk beyond 64 bits": "Transfer-Encoding: chunked\r\n\r\n10000000000000000HEX\r\nBODY\r\n0\r\n\r\nINNER",
    "a chunk longer than it says": "Transfer-Encoding: chunked\r\n\r\n1\r\nBODY\r\n0\r\n\r\nINNER",
    "a chunk ended by LF": "Transfer-Encoding: chunked\r\n\r\nHEX\nBODY\n0\n\nINNER",
    "a signature in a trailer": "Transfer-Encoding: chunked\r\n\r\nHEX\r\nBODY\r\n0\r\nX-Acme-Signature: PROOF\r\n\r\n",
    "a length in a trailer": "Transfer-Encoding: chunked\r\n\r\nHEX\r\nBODY\r\n0\r\nContent-Length: 5\r\n\r\n",
}
WELL_FORMED = {"a chunk extension"}  # unusual, and one whole signed request


def form(running: Any, raw: str, order: str, version: str) -> bytes:
    body = acme.body(order)
    inner = signed(running, f"{order}-inner")
    signature = "" if "PROOF" in raw else f"X-Acme-Signature: {proof(running, body)}\r\n"
    head, _, rest = raw.partition("\r\n\r\n")
    whole = rest.replace("BODY", body.decode()).replace("INNER", inner.decode())
    text = f"POST /in/acme HTTP/{version}\r\nHost: gateway\r\n{signature}{head}\r\n\r\n{whole}" if rest else ""
    if not rest:  # no CRLF CRLF in it: lines that end otherwise
        text = f"POST /in/acme HTTP/{version}\nHost: gateway\n{signature.strip()}\n{raw}"
        text = text.replace("BODY", body.decode()).replace("INNER", inner.decode())
    text = text.replace("PROOF", proof(running, body)).replace("WHOLE", str(len(whole)))
    return text.replace("LEN", str(len(body))).replace("HEX", f"{len(body):x}").encode("latin-1")


async def answers(line: Wire, raw: bytes) -> list[Reply]:
    await line.send(raw)
    return await line.replies()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_no_form_of_smuggling_makes_two_orders_of_one_signed_request(start, erp, version) -> None:
    running = await start(erp.url)
    running.gateway._door._body_timeout_s = 0.3
    running.gateway.vendors._idle_timeout_s = 0.3

    async def attempt(number: int, raw: str) -> list[int]:
        async with wire(running.gateway.vendors.port) as line:
            return [reply.status for reply in await answers(line, form(running, raw, f"smuggled{number}", version))]

    heard = dict(zip(FORMS, await asyncio.gather(*(attempt(n, raw) for n, raw in enumerate(FORMS.values()))), strict=True))
    keys = {row["key"].removeprefix("acme/") for row in await running.rows("inbox", limit="1000")}
    both = {name: heard[name] for n, name in enumerate(FORMS) if {f"smuggled{n}", f"smuggled{n}-inner"} <= keys}
    outer = {name for n, name in enumerate(FORMS) if f"smuggled{n}" in keys}
    assert not both
    assert not {name: statuses for name, statuses in heard.items() if any(status >= 500 for status in statuses)}
    assert outer == WELL_FORMED
    assert (await running.deliver(acme.body("afterwards")))[0] == 200


async def test_random_bytes_are_never_a_5xx(start, erp) -> None:
    running = await start(erp.url)
    running.gateway.vendors._idle_timeout_s = 0.2
    seeds = [base64.b64encode(bytes(n * m % 256 for m in range(300))) for n in range(1, 40)]
    whole = signed(running, "o1")

    async def attempt(number: int, noise: bytes) -> list[int]:
        cut = number * len(whole) // 40
        async with wire(running.gateway.vendors.port) as line:
            return [reply.status for reply in await answers(line, whole[:cut] + noise + whole[cut:])]

    heard = await asyncio.gather(*(attempt(n, noise) for n, noise in enumerate(seeds)))
    assert all(status < 500 for statuses in heard for status in statuses)
    assert any(heard)
