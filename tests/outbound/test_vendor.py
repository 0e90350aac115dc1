"""The client that a hook gets: whose credentials go where, what an answer means, and how many calls are made."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway import Api, AuthError, BasicAuth, HeaderAuth, OAuth2, PermanentError, RateLimited, Secret, TransientError
from gateway.outbound.session import Unanswered, Unreached, any_unicast, global_only, open_session
from gateway.outbound.vendor import HttpVendorClient
from gateway.testing import ManualClock, vendor_client
from tests.raw_server import Heard, Peer, answer, certificate, hang_up, peer, says, silence

SECRET = "s3cret-canary"


def secret(text: str = SECRET) -> Secret:
    return Secret(text, origin="test")


def bearer(token: str, **more: Any) -> bytes:
    return answer(200, msgspec.json.encode({"access_token": token, "token_type": "Bearer", "expires_in": 3600, **more}))


# --- requests


async def test_a_request_is_json_both_ways() -> None:
    async with peer(answer(200, b'{"id": "7"}', content_type="application/json")) as vendor:
        async with vendor_client(Api(base_url=vendor.url)) as client:
            got = await client.request(
                "POST", "/orders", params={"after": "a b&c=ü", "n": "1"}, json={"mark": [1, "x"]}, headers={"X-Trace": "t"}
            )
    assert got.decode(dict[str, str]) == {"id": "7"}
    (heard,) = vendor.heard
    assert (heard.method, heard.path) == ("POST", "/orders?after=a+b%26c%3D%C3%BC&n=1")
    assert (heard.body, heard.headers["content-type"], heard.headers["x-trace"]) == (b'{"mark":[1,"x"]}', "application/json", "t")


async def test_without_a_body_nothing_is_declared() -> None:
    async with peer(answer()) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        await client.request("GET", "orders")
    assert (vendor.heard[0].body, "content-type" in vendor.heard[0].headers) == (b"", False)


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (None, "authorization", None),
        (
            BasicAuth(username="gätway", password=secret("pä:ss")),
            "authorization",
            "Basic " + base64.b64encode("gätway:pä:ss".encode()).decode(),
        ),
        (HeaderAuth(name="X-Api-Key", value=secret()), "x-api-key", SECRET),
        (HeaderAuth(name="Authorization", value=secret(), prefix="token"), "authorization", f"token {SECRET}"),
    ],
)
async def test_credentials_are_sent_as_described(auth: Any, name: str, value: str | None) -> None:
    async with peer(answer()) as vendor, vendor_client(Api(base_url=vendor.url, auth=auth)) as client:
        await client.request("GET", "/")
    assert vendor.heard[0].headers.get(name) == value


async def test_a_hook_cannot_put_other_credentials_in_their_place() -> None:
    auth = HeaderAuth(name="Authorization", value=secret())
    async with peer(answer()) as vendor, vendor_client(Api(base_url=vendor.url, auth=auth)) as client:
        await client.request("GET", "/", headers={"Authorization": "Bearer mine"})
    assert vendor.heard[0].headers["authorization"] == SECRET


# --- no other host


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/x",
    "http://127.0.0.1:1/x",
    "HTTP://evil.example",
    "/\t/evil.example/x",
    "\\\\evil.example/x",
    "http:\\\\evil.example",
    "ftp://127.0.0.1/",
    "javascript:alert(1)",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("path", ELSEWHERE)
async def test_credentials_never_go_to_another_host(path: str) -> None:
    async with peer(answer()) as vendor, vendor_client(Api(base_url=vendor.url, auth=HeaderAuth(name="X-Key", value=secret()))) as client:
        try:
            await client.request("GET", path)
        except (PermanentError, TransientError):
            assert vendor.heard == []
        else:  # then it was taken for a path of the vendor's own
            assert [heard.headers["host"] for heard in vendor.heard] == [f"127.0.0.1:{vendor.port}"]


@pytest.mark.parametrize("path", ["http://{host}@evil.example/", "http://{host}.evil.example/", "https://{host}/", "http://user@{host}/"])
async def test_an_address_that_looks_like_the_vendors_is_another_host(path: str) -> None:
    async with peer(answer()) as vendor, vendor_client(Api(base_url=vendor.url, auth=HeaderAuth(name="X-Key", value=secret()))) as client:
        with pytest.raises(PermanentError, match="is not the vendor's host"):
            await client.request("GET", path.format(host=f"127.0.0.1:{vendor.port}"))
    assert vendor.heard == []


async def test_an_absolute_address_on_the_vendors_host_is_fine() -> None:
    async with peer(answer()) as vendor, vendor_client(Api(base_url=vendor.url + "/api/v2")) as client:
        for path in ("orders/1", "/root", f"{vendor.url}/api/v2/next?page=2"):
            await client.request("GET", path)
    assert [heard.path for heard in vendor.heard] == ["/api/v2/orders/1", "/root", "/api/v2/next?page=2"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_an_error_and_is_not_followed(status: int) -> None:
    async with peer(answer()) as elsewhere, peer(answer(status, b"", location=elsewhere.url)) as vendor:
        async with vendor_client(Api(base_url=vendor.url, auth=HeaderAuth(name="X-Key", value=secret()))) as client:
            with pytest.raises(PermanentError, match=f"redirects \\({status}\\)"):
                await client.request("GET", "/")
        assert elsewhere.connections == 0


# --- what an answer means


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthError),
        (403, AuthError),
        (408, TransientError),
        (425, TransientError),
        (429, RateLimited),
        (500, TransientError),
        (502, TransientError),
        (599, TransientError),
        (400, PermanentError),
        (404, PermanentError),
        (410, PermanentError),
        (304, PermanentError),
        (999, TransientError),
    ],
)
async def test_a_status_is_an_error_of_its_own_kind(status: int, error: type[Exception]) -> None:
    body = b"" if status == 304 else b"Jane Doe " + SECRET.encode()
    async with peer(answer(status, body)) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        with pytest.raises(error) as raised:
            await client.request("GET", "/orders?q=Jane")
    assert type(raised.value) is error
    assert str(status) in str(raised.value)
    assert "Jane" not in str(raised.value)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_2xx_is_an_answer(status: int) -> None:
    async with peer(answer(status, b"")) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        assert (await client.request("GET", "/")).status == status


async def test_a_status_that_the_hook_accepts_is_an_answer() -> None:
    async with peer(answer(404, b"gone")) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        assert (await client.request("GET", "/", accept={404})).body == b"gone"
        with pytest.raises(PermanentError):
            await client.request("GET", "/", accept={410})


@pytest.mark.parametrize(
    ("status", "asked", "waits"), [(429, "7", 7), (429, "", 60), (429, "0", 60), (503, "7", 7), (503, "", None), (500, "9", 9)]
)
async def test_retry_after_comes_along(status: int, asked: str, waits: float | None) -> None:
    async with peer(answer(status, b"", retry_after=asked)) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        with pytest.raises(TransientError) as raised:
            await client.request("GET", "/")
    assert raised.value.retry_after_s == waits


async def test_broken_connections_and_silence_pass(clock: ManualClock) -> None:
    session = open_session(allowed=any_unicast, connections=1, connect_timeout_s=10)
    async with peer(says(b"", then=hang_up), silence) as vendor:
        client = HttpVendorClient(Api(base_url=vendor.url, timeout_s=1.0), session, clock)
        for _ in range(2):
            with pytest.raises(Unanswered):
                await client.request("POST", "/")
    with pytest.raises(Unreached):
        await client.request("POST", "/")
    await session.close()


async def test_an_answer_that_is_too_long_is_an_error() -> None:
    async with peer(answer(200, b"x" * 1001)) as vendor, vendor_client(Api(base_url=vendor.url, max_response_bytes=1000)) as client:
        with pytest.raises(PermanentError, match="longer than 1000 bytes"):
            await client.request("GET", "/")


async def test_a_certificate_that_is_not_trusted_passes_once_it_is(tmp_path: Any) -> None:
    own = certificate(tmp_path)
    async with peer(answer(), tls=own.serving()) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        with pytest.raises(TransientError, match="TLS: self-signed"):
            await client.request("GET", "/")


async def test_a_vendors_name_that_leads_into_our_network_is_refused(clock: ManualClock) -> None:
    async with peer(answer()) as vendor:
        session = open_session(allowed=global_only, connections=1, connect_timeout_s=1)
        client = HttpVendorClient(Api(base_url=f"http://localhost:{vendor.port}"), session, clock)
        with pytest.raises(TransientError, match="is not allowed"):
            await client.request("GET", "/")
        await session.close()
        assert vendor.connections == 0


@pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b'{"id": 7}', b"[" * 100_000, b'{"id": "\xff"}', b'{"id": "x"'])
async def test_an_answer_of_another_shape_is_an_error(body: bytes) -> None:
    async with peer(answer(200, body, content_type="text/html")) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        got = await client.request("GET", "/")
    with pytest.raises(PermanentError, match=r"not the JSON expected \(text/html\)"):
        got.decode(dict[str, str])


async def test_an_answer_with_a_byte_order_mark_is_read() -> None:
    async with peer(answer(200, b'\xef\xbb\xbf{"id": "7"}')) as vendor, vendor_client(Api(base_url=vendor.url)) as client:
        assert (await client.request("GET", "/")).decode(dict[str, str]) == {"id": "7"}


# --- tokens


class TokenVendor:
    """A vendor that counts its tokens and takes the ones it likes."""

    def __init__(self) -> None:
        self.issued = 0
        self.good: set[str] = set()
        self.calls: list[Heard] = []
        self.refuse_all = False

    async def __call__(self, other: Peer, writer: asyncio.StreamWriter) -> None:
        heard = other.heard[-1]
        if heard.path == "/token":
            self.issued += 1
            self.good.add(f"Bearer t{self.issued}")
            writer.write(bearer(f"t{self.issued}"))
            return
        self.calls.append(heard)
        good = heard.headers.get("authorization") in self.good and not self.refuse_all
        writer.write(answer(200 if good else 401))


@asynccontextmanager
async def token_vendor(clock: ManualClock | None = None) -> Any:
    vendor = TokenVendor()
    async with peer(vendor) as other:
        auth = OAuth2(token_url=f"{other.url}/token", client_id="supplier-1", client_secret=secret())
        async with vendor_client(Api(base_url=other.url, auth=auth), clock) as client:
            yield vendor, client


async def test_twenty_calls_at_once_share_one_token() -> None:
    async with token_vendor() as (vendor, client):
        await asyncio.gather(*(client.request("GET", f"/{n}") for n in range(20)))
    assert (vendor.issued, len(vendor.calls)) == (1, 20)


async def test_a_refused_token_is_renewed_once_for_all_and_the_calls_made_again() -> None:
    async with token_vendor() as (vendor, client):
        await client.request("GET", "/first")
        vendor.good.clear()
        await asyncio.gather(*(client.request("GET", f"/{n}") for n in range(20)))
    assert vendor.issued == 2
    assert sum(call.headers["authorization"] == "Bearer t2" for call in vendor.calls) == 20


async def test_a_fresh_token_that_is_refused_too_is_an_auth_error() -> None:
    async with token_vendor() as (vendor, client):
        vendor.refuse_all = True
        with pytest.raises(AuthError, match="401; check the credentials"):
            await client.request("GET", "/")
    assert (vendor.issued, len(vendor.calls)) == (2, 2)


async def test_without_tokens_a_401_is_not_tried_again() -> None:
    async with peer(answer(401)) as vendor:
        async with vendor_client(Api(base_url=vendor.url, auth=BasicAuth(username="u", password=secret()))) as client:
            with pytest.raises(AuthError):
                await client.request("GET", "/")
    assert len(vendor.heard) == 1


async def test_a_reset_forgets_the_token() -> None:
    async with token_vendor() as (vendor, client):
        await client.sign_in()
        await client.sign_in()
        assert vendor.issued == 1
        client.reset()
        await client.request("GET", "/")
    assert vendor.issued == 2


async def test_signing_in_without_tokens_asks_nobody() -> None:
    async with vendor_client(Api(base_url="http://127.0.0.1:1")) as client:
        await client.sign_in()


async def test_the_token_endpoint_gets_the_secret_and_nobody_else() -> None:
    async with token_vendor() as (vendor, client):
        await client.request("GET", "/orders")
    (call,) = vendor.calls
    assert SECRET not in repr(call)


# --- the budget


async def test_tokens_count_against_the_budget(clock: ManualClock) -> None:
    vendor = TokenVendor()
    async with peer(vendor) as other:
        auth = OAuth2(token_url=f"{other.url}/token", client_id="supplier-1", client_secret=secret())
        async with vendor_client(Api(base_url=other.url, auth=auth, calls_per_minute=2), clock) as client:
            await client.request("GET", "/1")
            second = asyncio.create_task(client.request("GET", "/2"))
            await asyncio.wait([second], timeout=0.05)
            assert (vendor.issued, len(vendor.calls), second.done()) == (1, 1, False)
            clock.advance(60)
            await second
    assert len(vendor.calls) == 2


# --- accounts that lock


async def test_after_so_many_refusals_nothing_more_is_sent() -> None:
    api = Api(base_url="", auth=BasicAuth(username="u", password=secret()), stop_after_auth_failures=2)
    async with peer(answer(401), answer(401), answer(200, b"{}")) as vendor:
        async with vendor_client(msgspec.structs.replace(api, base_url=vendor.url)) as client:
            for _ in range(5):
                with pytest.raises(AuthError):
                    await client.request("GET", "/orders")
            assert len(vendor.heard) == 2
            with pytest.raises(AuthError, match=r"not locked.*gateway resume"):
                await client.request("POST", "/marks")
            client.reset()
            await client.request("GET", "/orders")
            assert len(vendor.heard) == 3


async def test_refusals_at_the_same_time_are_counted_one_by_one() -> None:
    api = Api(base_url="", stop_after_auth_failures=2)
    async with peer(answer(401)) as vendor, vendor_client(msgspec.structs.replace(api, base_url=vendor.url)) as client:
        outcomes = await asyncio.gather(*(client.request("GET", "/orders") for _ in range(6)), return_exceptions=True)
    assert all(isinstance(outcome, AuthError) for outcome in outcomes)
    assert len(vendor.heard) == 2


async def test_a_success_in_between_starts_the_count_anew() -> None:
    api = Api(base_url="", stop_after_auth_failures=2)
    async with peer(answer(401), answer(200, b"{}"), answer(401), answer(200, b"{}")) as vendor:
        async with vendor_client(msgspec.structs.replace(api, base_url=vendor.url)) as client:
            for wanted in (AuthError, None, AuthError, None):
                if wanted:
                    with pytest.raises(wanted):
                        await client.request("GET", "/orders")
                else:
                    await client.request("GET", "/orders")
