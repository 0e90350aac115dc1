"""The smuggling forms against both listeners: one answer at the most to what is meant to be two requests, and then the end of the line."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests import acme
from tests.edge.test_limits import FORMS, WELL_FORMED, form, signed
from tests.raw_http import wire

# More of them, in the same words (BODY, INNER, LEN, HEX, WHOLE).
MORE: dict[str, str] = {
    "TE in capitals and CL": "TRANSFER-ENCODING: CHUNKED\r\nContent-Length: LEN\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\nINNER",
    "TE with a NUL": "Content-Length: LEN\r\nTransfer-Encoding: chunked\0\r\n\r\nBODYINNER",
    "TE with a comma": "Content-Length: LEN\r\nTransfer-Encoding: ,chunked\r\n\r\nBODYINNER",
    "TE in quotes": 'Content-Length: LEN\r\nTransfer-Encoding: "chunked"\r\n\r\nBODYINNER',
    "TE with a parameter": "Content-Length: LEN\r\nTransfer-Encoding: chunked;q=1\r\n\r\nBODYINNER",
    "CL hidden behind a bare CR": "X: y\r\rContent-Length: LEN\r\n\r\nBODYINNER",
    "a header without a name": ": x\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "a header name with a space": "Content Length: 0\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "a header name with a NUL": "Content-Length\0: 0\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "a header before the first is folded": " X: y\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "a length of 5000 digits": f"Content-Length: {'0' * 5000}LEN\r\n\r\nBODYINNER",
    "an upgrade": "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\nINNER",
    "a header of 9000 characters": f"X: {'y' * 9000}\r\nContent-Length: LEN\r\n\r\nBODYINNER",
    "an extension of 9000 characters": f"Transfer-Encoding: chunked\r\n\r\nHEX;{'a' * 9000}\r\nBODY\r\n0\r\n\r\nINNER",
    "a trailer of 9000 characters": f"Transfer-Encoding: chunked\r\n\r\nHEX\r\nBODY\r\n0\r\nX: {'y' * 9000}\r\n\r\nINNER",
    "a chunk size of 5000 zeros": f"Transfer-Encoding: chunked\r\n\r\n{'0' * 5000}HEX\r\nBODY\r\n0\r\n\r\nINNER",
}
ALL = {**FORMS, **MORE}
# Unusual, and one whole request and then another: that is pipelining, and both are answered.
TWO_REQUESTS = {"an upgrade", "an extension of 9000 characters", "a chunk size of 5000 zeros"}
# Every zero of it is allowed; the vendors' side says 413, and the pages do not look at bodies.
SO_LONG = "a length of 5000 digits"


async def statuses(port: int, raw: bytes) -> list[int]:
    """Every answer until the other side ends the connection; it has five seconds for that."""
    async with wire(port) as line:
        await line.send(raw)
        return [reply.status for reply in await line.replies(5)]


def test_there_are_enough_forms() -> None:
    assert len(ALL) >= 50


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_no_more_forms_make_two_orders_of_one_signed_request(start: Any, erp: Any, version: str) -> None:
    running = await start(erp.url)
    running.gateway._door._body_timeout_s = 0.3
    running.gateway.vendors._idle_timeout_s = 1
    raw = [form(running, text, f"more{n}", version) for n, text in enumerate(MORE.values())]
    heard = dict(zip(MORE, await asyncio.gather(*(statuses(running.gateway.vendors.port, one) for one in raw)), strict=True))
    keys = {row["key"].removeprefix("acme/") for row in await running.rows("inbox", limit="1000")}
    smuggled = {name for n, name in enumerate(MORE) if f"more{n}-inner" in keys}
    assert smuggled <= TWO_REQUESTS
    assert not {name for n, name in enumerate(MORE) if f"more{n}" in keys} - WELL_FORMED - TWO_REQUESTS
    assert not {name: said for name, said in heard.items() if any(status >= 500 for status in said)}
    assert heard[SO_LONG] == ([413] if version == "1.1" else [400])  # HTTP/1.0 has no second request behind the first
    assert (await running.deliver(acme.body("afterwards")))[0] == 200


def at_the_pages(running: Any, text: str, version: str) -> bytes:
    """The same form for the operators' side: POST to a page that takes none, and the inner request asks for the rows."""
    raw = form(running, text, "o1", version)
    inner = b"GET /api/inbox HTTP/1.1\r\nHost: localhost\r\n\r\n"
    raw = raw.replace(signed(running, "o1-inner"), inner)
    return raw.replace(b"POST /in/acme", b"POST /api/orders", 1).replace(b"Host: gateway", b"Host: localhost", 1)


async def smuggled_reads(running: Any, version: str) -> set[str]:
    """The forms whose inner request was answered although the outer one was no plain request."""
    raw = [at_the_pages(running, text, version) for text in ALL.values()]
    heard = dict(zip(ALL, await asyncio.gather(*(statuses(running.gateway.pages.port, one) for one in raw)), strict=True))
    assert not {name: said for name, said in heard.items() if any(status >= 500 for status in said)}
    return {name for name, said in heard.items() if 200 in said} - TWO_REQUESTS - {SO_LONG}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_no_form_smuggles_a_read_past_the_operators_side(start: Any, erp: Any, version: str) -> None:
    running = await start(erp.url)
    running.gateway.pages._idle_timeout_s = 1
    assert await smuggled_reads(running, version) == set()
    assert (await running.get("/readyz"))[0] == 200


async def test_known_bad_mutant_a_lenient_server_is_found(start: Any, erp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A front that believes Content-Length, where there is Transfer-Encoding too, hands the rest on as another request."""
    running = await start(erp.url)
    running.gateway.pages._idle_timeout_s = 1

    async def lenient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(65536)
        while b"\r\n\r\n" in data:
            _, _, data = data.partition(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(lenient, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(type(running.gateway.pages), "port", property(lambda _: port))
    assert await smuggled_reads(running, "1.1")
    monkeypatch.undo()
    server.close()
