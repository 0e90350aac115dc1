"""The one way out: what may go wrong between us and the other side, and what each of it is called."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.answer import Answer, retry_after_s
from gateway.outbound.session import (
    TooLong,
    Unanswered,
    Unreached,
    Untrusted,
    any_unicast,
    exchange,
    global_only,
    open_session,
    takes_connections,
)
from tests.raw_server import Certificate, Script, answer, certificate, hang_up, peer, reset, says, silence

NOW = datetime(2024, 3, 31, 12, tzinfo=UTC)


async def ask(url: str, *, allowed: Any = any_unicast, ca_file: Path | None = None, connect_timeout_s: float = 1, **more: Any) -> Answer:
    settings: dict[str, Any] = {"headers": {}, "body": b"order", "timeout_s": 1, "max_bytes": 1000, **more}
    session = open_session(allowed=allowed, connections=4, connect_timeout_s=connect_timeout_s, ca_file=ca_file)
    try:
        return await exchange(session, "POST", url, **settings)
    finally:
        await session.close()


# --- an answer


async def test_a_whole_answer_comes_back_with_its_headers_in_lower_case() -> None:
    async with peer(answer(201, b"taken", x_order="SO-1")) as other:
        got = await ask(other.url + "/orders", headers={"X-Company": "1"})
    assert (got.status, got.body, got.headers["x-order"]) == (201, b"taken", "SO-1")
    (heard,) = other.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/orders", b"order")
    assert (heard.headers["x-company"], heard.headers["user-agent"]) == ("1", "order-gateway")


async def test_an_answer_whose_length_has_thousands_of_zeros_is_an_answer() -> None:
    """`int` refuses so many digits; taken for a request that was not sent, the order would be sent once more."""
    async with peer(b"HTTP/1.1 201 Created\r\nContent-Length: " + b"0" * 5000 + b"5\r\n\r\ntaken") as other:
        got = await ask(other.url)
    assert (got.status, got.body) == (201, b"taken")


@pytest.mark.parametrize("status", [100, 204, 302, 404, 500, 999])
async def test_any_status_is_an_answer(status: int) -> None:
    first = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(201) if status == 100 else answer(status, b"")
    async with peer(first) as other:
        assert (await ask(other.url)).status == (201 if status == 100 else status)


async def test_a_compressed_answer_is_read() -> None:
    async with peer(answer(200, gzip.compress(b"hello"), content_encoding="gzip")) as other:
        assert (await ask(other.url)).body == b"hello"


async def test_no_cookie_is_ever_sent_back() -> None:
    async with peer(answer(200, set_cookie="session=1; Path=/")) as other:
        session = open_session(allowed=any_unicast, connections=1, connect_timeout_s=1)
        for _ in range(2):
            await exchange(session, "GET", other.url, headers={}, body=None, timeout_s=1, max_bytes=10)
        await session.close()
    assert len(other.heard) == 2
    assert other.connections == 1
    assert not [heard for heard in other.heard if "cookie" in heard.headers]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_nothing_is_sent_there(status: int) -> None:
    async with peer(answer(200)) as elsewhere, peer(answer(status, b"", location=elsewhere.url)) as other:
        got = await ask(other.url, headers={"Authorization": "Bearer secret"})
    assert (got.status, elsewhere.heard) == (status, [])


# --- nothing was sent


async def test_a_refused_connection_is_unreached() -> None:
    async with peer(answer()) as other:
        url = other.url
    with pytest.raises(Unreached, match="no connection: connection refused"):
        await ask(url)


async def test_whether_a_connection_can_be_made_is_found_out_without_a_word() -> None:
    async with peer(answer()) as other:
        url = other.url
        assert await takes_connections(url, any_unicast, 1)
        assert not await takes_connections(url, lambda _: False, 1), "an address that is not allowed is not even tried"
        assert other.heard == []
    for nobody in (url, "http://127.0.0.1:1/", "http://no-such-host.invalid/"):
        assert not await takes_connections(nobody, any_unicast, 1)


async def test_a_connection_that_nobody_takes_is_unreached() -> None:
    with socket.socket() as listening:  # its backlog is full: further connections hang
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        with pytest.raises(Unreached, match="no answer in time"):
            await ask(f"http://127.0.0.1:{listening.getsockname()[1]}", connect_timeout_s=0.1)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "xn--zz.invalid", "a" * 70 + ".invalid", "a..invalid", ""])
async def test_a_host_that_has_no_address_is_unreached(host: str) -> None:
    with pytest.raises(Unreached, match="no connection: "):
        await ask(f"http://{host}/orders")


@pytest.mark.parametrize("value", ["a\nb", "a\r\nX-Other: b", "a\0b"])
async def test_a_header_that_http_cannot_carry_is_never_sent(value: str) -> None:
    async with peer(answer()) as other:
        with pytest.raises(Unreached, match="nothing was sent"):
            await ask(other.url, headers={"Authorization": value})
        assert other.heard == []


# --- it may have been done


UNANSWERED: dict[str, tuple[bytes | Script, str]] = {
    "silence": (silence, "no answer in time"),
    "a closed connection": (says(b"", then=hang_up), "closed without an answer"),
    "a reset": (says(b"", then=reset), "connection reset by peer"),
    "half a status line": (says(b"HTTP/1.1 2", then=hang_up), "closed without an answer"),
    "half a header": (says(b"HTTP/1.1 200 OK\r\nContent-", then=hang_up), "closed without an answer"),
    "half a body": (says(answer(200, b"x" * 50)[:-20], then=hang_up), "the answer breaks off"),
    "half a body and a reset": (says(answer(200, b"x" * 50)[:-20], then=reset), "the answer breaks off"),
    "half a body and silence": (says(answer(200, b"x" * 50)[:-20]), "no answer in time"),
    "half a chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc", then=hang_up), "the answer breaks off"),
    "no last chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", then=hang_up), "the answer breaks off"),
    "a chunk size that is none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "the answer is not HTTP"),
    "another protocol": (b"220 mail.example ESMTP\r\n\r\n", "the answer is not HTTP"),
    "a status of four digits": (b"HTTP/1.1 9999 Odd\r\nContent-Length: 0\r\n\r\n", "the answer is not HTTP"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "the answer is not HTTP"),
    "an endless header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "the answer is not HTTP"),
    "a compression that is none": (answer(200, b"plain", content_encoding="gzip"), "the answer breaks off"),
    "a compression that we do not know": (answer(200, b"plain", content_encoding="br"), "the answer is not HTTP"),
}


@pytest.mark.parametrize(("script", "reason"), UNANSWERED.values(), ids=UNANSWERED)
async def test_half_an_answer_is_none_and_the_order_may_be_there(script: bytes | Script, reason: str) -> None:
    async with peer(script) as other:
        with pytest.raises(Unanswered) as raised:
            await ask(other.url + "/orders?token=secret", timeout_s=0.1, connect_timeout_s=0.1)
        assert reason in str(raised.value)
        assert "secret" not in str(raised.value)
        assert [heard.body for heard in other.heard] == [b"order"]


async def test_an_answer_that_drips_is_cut_by_the_total_timeout() -> None:
    async def drip(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await asyncio.sleep(0.01)

    async with peer(drip) as other:
        with pytest.raises(Unanswered, match="no answer in time"):
            await ask(other.url, timeout_s=0.1, connect_timeout_s=0.1, max_bytes=1_000_000)


async def test_our_own_cancellation_is_no_timeout() -> None:
    async with peer(silence) as other:
        asking = asyncio.create_task(ask(other.url))
        while not other.heard:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


# --- too long


@pytest.mark.parametrize(
    "script",
    [
        answer(201, b"x" * 1001),
        says(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nabcde\r\n" * 1000),
        answer(201, gzip.compress(b"x" * 50_000_000), content_encoding="gzip"),
    ],
    ids=["long", "endless", "bomb"],
)
async def test_an_answer_that_is_too_long_is_cut_and_its_status_known(script: Any) -> None:
    async with peer(script) as other:
        with pytest.raises(TooLong) as raised:
            await ask(other.url)
    assert raised.value.answer.status == 201
    assert len(raised.value.answer.body) == 1000


async def test_an_answer_of_just_the_limit_is_whole() -> None:
    async with peer(answer(200, b"x" * 1000)) as other:
        assert len((await ask(other.url)).body) == 1000


# --- TLS


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


async def test_a_certificate_that_nobody_signed_is_untrusted(own: Certificate) -> None:
    async with peer(answer(), tls=own.serving()) as other:
        with pytest.raises(Untrusted, match="TLS: self-signed certificate"):
            await ask(other.url, headers={"Authorization": "Bearer secret"})
        assert other.heard == []


async def test_a_certificate_is_trusted_through_ca_file(own: Certificate) -> None:
    async with peer(answer(201), tls=own.serving()) as other:
        assert (await ask(other.url, ca_file=own.pem)).status == 201


async def test_with_ca_file_nothing_else_is_trusted(own: Certificate, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = certificate(tmp_path / "other")
    async with peer(answer(), tls=stranger.serving()) as other:
        with pytest.raises(Untrusted):
            await ask(other.url, ca_file=own.pem)


async def test_a_certificate_for_another_name_is_untrusted(own: Certificate) -> None:
    async with peer(answer(), tls=own.serving()) as other:
        with pytest.raises(Untrusted, match="not valid for 'localhost'"):
            await ask(other.url.replace("127.0.0.1", "localhost"), ca_file=own.pem)


async def test_an_old_tls_version_is_refused(own: Certificate) -> None:
    context = own.serving()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with peer(answer(), tls=context) as other:
        with pytest.raises(Unreached):
            await ask(other.url, ca_file=own.pem)
        assert other.heard == []


async def test_tls_towards_a_plain_port_sends_nothing() -> None:
    async with peer(answer()) as other:
        with pytest.raises((Unreached, Unanswered)):
            await ask(other.url.replace("http:", "https:"), timeout_s=0.1, connect_timeout_s=0.1)
        assert other.heard == []


async def test_a_port_that_hangs_up_on_tls_is_unreached_and_the_reason_says_so() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    with pytest.raises(Unreached, match="no connection: closed without an answer"):
        await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    server.close()


def test_a_ca_file_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    async def opening() -> None:
        open_session(allowed=any_unicast, connections=1, connect_timeout_s=1, ca_file=tmp_path / "missing.pem")

    with pytest.raises(OSError):
        asyncio.run(opening())


# --- addresses


METADATA = [
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "0.0.0.0",
    "[::]",
    "224.0.0.1",
    "[ff02::1]",
]


@pytest.mark.parametrize("host", METADATA)
async def test_nobody_reaches_the_metadata_address_by_any_name(host: str) -> None:
    with pytest.raises(Unreached, match="is not allowed for this side"):
        await ask(f"http://{host}/latest/meta-data/")


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"])
async def test_an_address_in_disguise_is_no_way_round(host: str) -> None:
    with pytest.raises(Unreached):
        await ask(f"http://{host}/latest/meta-data/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_vendors_name_may_not_lead_into_our_network(host: str) -> None:
    async with peer(answer()) as other:
        with pytest.raises(Unreached, match="is not allowed for this side"):
            await ask(f"http://{host}:{other.port}/", allowed=global_only)
        assert other.connections == 0


@pytest.mark.parametrize(
    ("address", "public", "unicast"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::", True, True),
        ("64:ff9b::5db8:d822", True, True),
        ("10.0.0.1", False, True),
        ("192.168.1.1", False, True),
        ("100.64.0.1", False, True),
        ("127.0.0.1", False, True),
        ("fd00::1", False, True),
        ("64:ff9b::10.0.0.1", False, True),
        ("2002:0a00:0001::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("224.0.0.1", False, False),
        ("ff0e::1", False, False),
        ("0.0.0.0", False, False),
        ("255.255.255.255", False, True),
    ],
)
def test_which_address_is_whose(address: str, public: bool, unicast: bool) -> None:
    assert (global_only(address), any_unicast(address)) == (public, unicast)


# --- Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5),
        (" 5 ", 5),
        ("0", 0),
        ("000000000000000000007", 7),
        ("99999999999999999999", 86400),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 86400),
        ("Sun, 31 Mar 2024 14:01:00 +0200", 60),
        ("Sun, 31 Mar 2024 12:01:00", 60),
        *((rubbish, None) for rubbish in ("", " ", "-5", "1.5", "1e3", "soon", "٥", "Sun, 99 Mar 2024 12:00:00 GMT", "\0", "5, 6", "5 s")),
    ],
)
def test_retry_after_is_seconds_a_date_or_nothing(value: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": value}, NOW) == seconds


def test_no_retry_after_asks_for_nothing() -> None:
    assert retry_after_s({}, NOW) is None


@given(st.text(max_size=40) | st.from_regex(r"\w{3}, \d{1,5} \w{3} \d{1,6} [\d:]{1,9} [+-]?\w{1,9}", fullmatch=True))
def test_no_retry_after_breaks_us_or_holds_us_up_for_ever(value: str) -> None:
    found = retry_after_s({"retry-after": value}, NOW)
    assert found is None or 0 <= found <= 86400
