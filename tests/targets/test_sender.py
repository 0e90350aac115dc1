"""Signing in, against servers that count: one renewal for sixteen, two tries at the most with what is wrong, no lock-out."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from aiohttp import web

from gateway.api.errors import AuthError, RateLimited, TransientError
from gateway.api.secrets import Secret
from gateway.api.urls import Url
from gateway.outbound.answer import Answer
from gateway.outbound.session import Unanswered
from gateway.targets.auth_settings import Basic, Bearer, ClientCredentials, Csrf, Header, Login, NoAuth, OAuth1, PemFile
from gateway.targets.expressions import Jsonata
from gateway.targets.request import Request
from gateway.targets.request_settings import RequestTable
from gateway.targets.sender import AuthSender
from gateway.targets.settings import TargetSettings
from gateway.targets.templates import Template, UrlTemplate
from gateway.testing import ManualClock
from tests.raw_server import certificate
from tests.rsa_keys import pair
from tests.scripted_erp import erp


@asynccontextmanager
async def sender(url: str, clock: ManualClock | None = None, **settings: Any) -> AsyncIterator[AuthSender]:
    values = {"url": UrlTemplate(f"{url}/orders"), "vars": {"base": url}, "concurrency": 32, "read_timeout_s": 5.0, **settings}
    made = AuthSender("erp", TargetSettings(**values), clock or ManualClock())
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def secret(text: str = "s3cret") -> Secret:
    return Secret(text, origin="test")


def order(url: str, n: int = 1) -> Request:
    return Request(method="POST", url=f"{url}/orders", headers={"X-N": str(n)}, body=b"{}")


async def all_of(made: AuthSender, url: str, count: int = 16) -> list[Answer | BaseException]:
    return await asyncio.gather(*(made.send(order(url, n)) for n in range(count)), return_exceptions=True)


async def always(status: int) -> web.Response:
    return web.Response(status=status)


# --- what each kind looks like


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (Basic(username="gateway", password=secret("p:w")), "authorization", "Basic " + base64.b64encode(b"gateway:p:w").decode()),
        (Bearer(token=secret()), "authorization", "Bearer s3cret"),
        (Header(name="Authorization", value=secret("k:s"), prefix="token"), "authorization", "token k:s"),
        (Header(name="DOLAPIKEY", value=secret()), "dolapikey", "s3cret"),
        (Header(name="Authorization", value=secret("key"), prefix="Wawi"), "authorization", "Wawi key"),
        (Header(name="AuthenticationToken", value=secret()), "authenticationtoken", "s3cret"),
    ],
)
async def test_a_secret_goes_out_in_its_header(auth: Any, header: str, value: str) -> None:
    async with erp(lambda _: always(201)) as peer, sender(peer.url, auth=auth) as made:
        assert (await made.send(order(peer.url))).status == 201
        assert peer.heard[0][1][header] == value


async def test_without_credentials_everything_goes_at_once() -> None:
    async def slowly(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(status=201)

    async with erp(slowly) as peer, sender(peer.url, auth=NoAuth()) as made:
        await all_of(made, peer.url)
        assert peer.most > 1


async def test_a_refusal_without_credentials_is_an_answer_like_any_other() -> None:
    async with erp(lambda _: always(401)) as peer, sender(peer.url) as made:
        assert (await made.send(order(peer.url))).status == 401


# --- wrong credentials: erp_targets.md 7, test 6


@pytest.mark.parametrize(
    "auth",
    [Basic(username="u", password=secret()), Bearer(token=secret()), Header(name="X-Key", value=secret())],
)
async def test_a_wrong_secret_is_tried_once_by_sixteen_workers_and_the_target_holds(auth: Any) -> None:
    async with erp(lambda _: always(401)) as peer, sender(peer.url, auth=auth) as made:
        found = await all_of(made, peer.url)
        assert all(isinstance(one, AuthError) for one in found)
        assert len(peer.heard) == 1
        assert all("s3cret" not in str(one) for one in found)


async def test_a_released_target_tries_again_and_a_right_secret_goes_through(tmp_path: Path) -> None:
    async def door(request: web.Request) -> web.Response:
        return web.Response(status=201 if request.headers["Authorization"] == "Bearer right" else 401)

    (tmp_path / "token").write_text("wrong")
    token = Secret.from_reference({"file": "token"}, tmp_path)
    assert isinstance(token, Secret)
    async with erp(door) as peer, sender(peer.url, auth=Bearer(token=token)) as made:
        for _ in range(3):
            with pytest.raises(AuthError, match="does not accept our credentials"):
                await made.send(order(peer.url))
        assert len(peer.heard) == 1
        (tmp_path / "token").write_text("right!")
        (tmp_path / "token").write_text("right")
        assert token.refresh()
        made.reset()  # what `gateway target release`, a changed secret and SIGHUP do
        found = await all_of(made, peer.url)
        assert [one.status for one in found if isinstance(one, Answer)] == [201] * 16


async def test_after_a_release_with_the_same_wrong_secret_there_is_one_more_try() -> None:
    async with erp(lambda _: always(401)) as peer, sender(peer.url, auth=Bearer(token=secret())) as made:
        await all_of(made, peer.url)
        made.reset()
        await all_of(made, peer.url)
        assert len(peer.heard) == 2


async def test_a_wrong_client_secret_is_tried_twice_by_sixteen_workers_and_never_again() -> None:
    async with erp(lambda _: always(401)) as peer:
        auth = ClientCredentials(token_url=Url(f"{peer.url}/token"), client_id="gateway", client_secret=secret())
        async with sender(peer.url, auth=auth) as made:
            for _ in range(3):
                assert all(isinstance(one, AuthError) for one in await all_of(made, peer.url))
            assert peer.count("POST /token") == 2
            assert peer.count("POST /orders") == 0


async def test_a_wrong_password_of_a_login_is_tried_twice_and_never_again() -> None:
    async with erp(lambda _: always(401)) as peer, sender(peer.url, auth=login()) as made:
        for _ in range(3):
            assert all(isinstance(one, AuthError) for one in await all_of(made, peer.url))
        assert peer.count("POST /Login") == 2


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_the_limit_of_tries_is_the_operators(limit: int) -> None:
    async with erp(lambda _: always(401)) as peer, sender(peer.url, auth=login(), max_consecutive_auth_failures=limit) as made:
        await all_of(made, peer.url)
        assert peer.count("POST /Login") == limit
        with pytest.raises(AuthError, match=rf"refused our credentials {limit} times; nothing more is sent.*gateway target release erp"):
            await made.send(order(peer.url))


async def test_a_token_that_is_given_and_never_accepted_is_renewed_once() -> None:
    tokens: list[str] = []

    async def door(request: web.Request) -> web.Response:
        if request.path == "/token":
            tokens.append(f"t{len(tokens)}")
            return web.json_response({"access_token": tokens[-1], "expires_in": 3600})
        return web.Response(status=401)

    async with erp(door) as peer:
        auth = ClientCredentials(token_url=Url(f"{peer.url}/token"), client_id="gateway", client_secret=secret())
        async with sender(peer.url, auth=auth) as made:
            assert all(isinstance(one, AuthError) for one in await all_of(made, peer.url))
            assert len(tokens) == 2
            assert peer.count("POST /orders") == 2


# --- what runs out: erp_targets.md 7, test 5


class Expiring:
    """A token endpoint, or a login, and an ERP that forgets what it gave."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.given = 0
        self.good = ""
        self.taken: list[str] = []

    async def __call__(self, request: web.Request) -> web.Response:
        await asyncio.sleep(0.002)
        if request.path == "/token":
            self.given += 1
            self.good = f"Bearer t{self.given}"
            return web.json_response({"access_token": f"t{self.given}", "expires_in": 3600})
        if request.path == "/Login":
            self.given += 1
            self.good = f"B1SESSION=s{self.given}; ROUTEID=.node1"
            answer = web.json_response({"SessionId": f"s{self.given}"})
            answer.headers.add("Set-Cookie", f"B1SESSION=s{self.given}; path=/b1s; HttpOnly")
            answer.headers.add("Set-Cookie", "ROUTEID=.node1; path=/b1s")
            return answer
        shown = request.headers.get("Authorization" if self.kind == "oauth2" else "Cookie")
        if shown != self.good:
            return web.Response(status=401)
        self.taken.append(request.headers["X-N"])
        return web.Response(status=201)


def login(**more: Any) -> Login:
    values: dict[str, Any] = {
        "url": Template("{base}/Login"),
        "body": Jsonata('{"CompanyDB": "SBO", "UserName": "gateway", "Password": secret.password}'),
        "secrets": {"password": secret()},
    }
    return Login(**{**values, **more})


@pytest.mark.parametrize("kind", ["oauth2", "session"])
async def test_sixteen_workers_whose_token_expires_renew_it_once_and_lose_nothing(kind: str) -> None:
    door = Expiring(kind)
    async with erp(door) as peer:
        auth = login()
        if kind == "oauth2":
            auth = ClientCredentials(token_url=Url(f"{peer.url}/token"), client_id="gateway", client_secret=secret())  # type: ignore[assignment]
        async with sender(peer.url, auth=auth) as made:
            for round_ in range(1, 6):
                found = await all_of(made, peer.url)
                assert [one.status for one in found if isinstance(one, Answer)] == [201] * 16
                assert door.given == round_
                assert sorted(map(int, door.taken)) == sorted(list(range(16)) * round_)
                door.good = "expired"
        assert peer.most > 1


async def test_a_token_that_ran_out_is_no_failure_even_where_one_is_too_many() -> None:
    door = Expiring("session")
    async with erp(door) as peer, sender(peer.url, auth=login(), max_consecutive_auth_failures=1) as made:
        for _ in range(4):
            assert (await made.send(order(peer.url))).status == 201
            door.good = "expired"


async def test_a_session_is_renewed_before_it_is_too_old() -> None:
    door, clock = Expiring("session"), ManualClock()
    async with erp(door) as peer, sender(peer.url, clock, auth=login(lifetime_s=1500.0)) as made:
        await made.send(order(peer.url))
        clock.advance(1499)
        await made.send(order(peer.url))
        assert door.given == 1
        clock.advance(1)
        await made.send(order(peer.url))
        assert (door.given, peer.count("POST /orders")) == (2, 3)


async def test_further_statuses_can_mean_that_a_session_is_over() -> None:
    door = Expiring("session")

    async def forbids(request: web.Request) -> web.Response:
        answer = await door(request)
        return web.Response(status=403) if answer.status == 401 else answer

    async with erp(forbids) as peer, sender(peer.url, auth=login(), renew_on=(401, 403)) as made:
        await made.send(order(peer.url))
        door.good = "expired"
        assert (await made.send(order(peer.url))).status == 201


# --- login sessions


async def test_a_login_sends_its_secret_and_both_cookies_come_back_with_every_request() -> None:
    door = Expiring("session")
    async with erp(door) as peer, sender(peer.url, auth=login()) as made:
        await made.send(order(peer.url))
        first, second = peer.heard
        assert first[0] == "POST /Login"
        assert first[2] == b'{"CompanyDB":"SBO","UserName":"gateway","Password":"s3cret"}'
        assert second[1]["cookie"] == "B1SESSION=s1; ROUTEID=.node1"


async def test_a_captured_token_becomes_a_header_as_tryton_wants_it() -> None:
    async def door(request: web.Request) -> web.Response:
        if request.path == "/db/":
            return web.json_response({"id": 1, "result": [4, "ab12", None]})
        expected = base64.b64encode(b"gateway:4:ab12").decode()
        return web.Response(status=200 if request.headers.get("Authorization") == f"Session {expected}" else 401)

    auth = Login(
        url=Template("{base}/db/"),
        body=Jsonata('{"method": "common.db.login", "params": [vars.user, {"password": secret.password}]}'),
        secrets={"password": secret()},
        ok=Jsonata("$boolean(body.result)"),
        send={"Authorization": Jsonata('"Session " & $base64encode(vars.user & ":" & body.result[0] & ":" & body.result[1])')},
        cookies=False,
    )
    async with erp(door) as peer, sender(peer.url, auth=auth, vars={"base": peer.url, "user": "gateway"}) as made:
        assert (await made.send(order(peer.url))).status == 200
        assert peer.heard[0][2] == b'{"method":"common.db.login","params":["gateway",{"password":"s3cret"}]}'


async def test_a_login_form_is_a_form() -> None:
    door = Expiring("session")
    auth = login(encoding="form", body=Jsonata('{"usr": "gateway", "pwd": secret.password}'), secrets={"password": secret("p&w=1")})
    async with erp(door) as peer, sender(peer.url, auth=auth) as made:
        await made.send(order(peer.url))
        assert parse_qs(peer.heard[0][2].decode()) == {"usr": ["gateway"], "pwd": ["p&w=1"]}
        assert peer.heard[0][1]["content-type"] == "application/x-www-form-urlencoded"


async def test_a_200_that_is_no_login_is_a_refused_login() -> None:
    async def door(_: web.Request) -> web.Response:
        return web.json_response({"result": None})

    async with erp(door) as peer, sender(peer.url, auth=login(ok=Jsonata("$boolean(body.result)"))) as made:
        with pytest.raises(AuthError, match="does not accept the login"):
            await made.send(order(peer.url))


async def test_a_login_whose_answer_holds_nothing_is_a_refused_login() -> None:
    async with erp(lambda _: always(200)) as peer, sender(peer.url, auth=login()) as made:
        with pytest.raises(AuthError, match="holds no cookie"):
            await made.send(order(peer.url))
    auth = login(send={"X-Session": Jsonata("body.token")}, cookies=False)
    async with erp(lambda _: always(200)) as peer, sender(peer.url, auth=auth) as made:
        with pytest.raises(AuthError, match="holds nothing for X-Session"):
            await made.send(order(peer.url))


async def test_a_header_that_the_answer_would_break_open_is_refused() -> None:
    async def door(_: web.Request) -> web.Response:
        return web.json_response({"token": "x\r\nX-Admin: 1"})

    async with erp(door) as peer, sender(peer.url, auth=login(send={"X-Session": Jsonata("body.token")})) as made:
        with pytest.raises(AuthError, match="what no header can carry"):
            await made.send(order(peer.url))


@pytest.mark.parametrize(("status", "kind"), [(503, TransientError), (500, TransientError), (429, RateLimited)])
async def test_an_erp_that_is_not_well_at_the_login_counts_no_failure(status: int, kind: type) -> None:
    async with erp(lambda _: always(status)) as peer, sender(peer.url, auth=login()) as made:
        for _ in range(5):
            with pytest.raises(kind):
                await made.send(order(peer.url))
        assert peer.count("POST /orders") == 0


async def test_a_login_that_breaks_off_is_not_taken_for_an_order_that_may_have_been() -> None:
    async def door(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with erp(door) as peer:
        for auth in (login(), ClientCredentials(token_url=Url(f"{peer.url}/token"), client_id="g", client_secret=secret())):
            async with sender(peer.url, auth=auth) as made:
                with pytest.raises(TransientError) as caught:
                    await made.send(order(peer.url))
                assert not isinstance(caught.value, Unanswered)


async def test_the_session_is_logged_out_at_the_end() -> None:
    door = Expiring("session")
    auth = login(logout=RequestTable(url=Template("{base}/Logout"), method="POST"))
    async with erp(door) as peer:
        async with sender(peer.url, auth=auth) as made:
            await made.send(order(peer.url))
        assert peer.heard[-1][0] == "POST /Logout"
        assert peer.heard[-1][1]["cookie"].startswith("B1SESSION=s1")


async def test_a_cookie_that_an_answer_replaces_is_the_one_that_goes_next() -> None:
    async def door(request: web.Request) -> web.Response:
        answer = web.Response(status=200)
        answer.headers.add("Set-Cookie", f"sid={'a' if request.path == '/Login' else 'b'}; Path=/")
        answer.headers.add("Set-Cookie", "old=1; Max-Age=0")
        return answer

    async with erp(door) as peer, sender(peer.url, auth=login()) as made:
        await made.send(order(peer.url))
        await made.send(order(peer.url))
        assert [headers.get("cookie") for _, headers, _ in peer.heard] == [None, "sid=a", "sid=b"]


# --- CSRF


class Sap:
    """Tokens on top of Basic, each valid with its own cookie only."""

    def __init__(self) -> None:
        self.given = 0
        self.good = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(b"gateway:s3cret").decode():
            return web.Response(status=401)
        if request.method == "GET":
            if request.headers.get("X-CSRF-Token") != "Fetch":
                return web.Response(status=200)
            self.given = self.good = self.given + 1
            answer = web.Response(status=200, headers={"x-csrf-token": f"c{self.given}"})
            answer.headers.add("Set-Cookie", f"SAP_SESSIONID=s{self.given}; path=/")
            answer.headers.add("Set-Cookie", "sap-usercontext=sap-client=100; path=/")
            return answer
        shown = (request.headers.get("X-CSRF-Token"), request.headers.get("Cookie"))
        if shown != (f"c{self.good}", f"SAP_SESSIONID=s{self.good}; sap-usercontext=sap-client=100"):
            return web.Response(status=403, headers={"x-csrf-token": "Required"})
        return web.Response(status=201)


def sap(url: str, **more: Any) -> Any:
    return sender(url, auth=Basic(username="gateway", password=secret()), csrf=Csrf(url=Template("{base}/")), **more)


async def test_a_csrf_token_is_fetched_once_for_sixteen_workers_and_again_when_it_ran_out() -> None:
    door = Sap()
    async with erp(door) as peer, sap(peer.url) as made:
        for round_ in (1, 2, 3):
            found = await all_of(made, peer.url)
            assert [one.status for one in found if isinstance(one, Answer)] == [201] * 16
            assert door.given == round_
            door.good = 99


async def test_reading_needs_no_csrf_token() -> None:
    door = Sap()
    async with erp(door) as peer, sap(peer.url) as made:
        assert (await made.send(Request(method="GET", url=f"{peer.url}/orders"))).status == 200
        assert door.given == 0


async def test_what_is_forbidden_even_with_a_fresh_csrf_token_is_an_answer() -> None:
    async def door(request: web.Request) -> web.Response:
        return web.Response(status=403 if request.method == "POST" else 200, headers={"x-csrf-token": "c"})

    async with erp(door) as peer, sap(peer.url) as made:
        assert (await made.send(order(peer.url))).status == 403
        assert (peer.count("GET /"), peer.count("POST /orders")) == (2, 2)


async def test_a_wrong_password_under_a_csrf_token_is_tried_once() -> None:
    async with erp(lambda _: always(401)) as peer, sap(peer.url) as made:
        assert all(isinstance(one, AuthError) for one in await all_of(made, peer.url))
        assert len(peer.heard) == 1


async def test_a_csrf_answer_without_a_token_is_named() -> None:
    async with erp(lambda _: always(200)) as peer, sap(peer.url) as made:
        with pytest.raises(AuthError, match="gives no X-CSRF-Token"):
            await made.send(order(peer.url))
    async with erp(lambda _: always(503)) as peer, sap(peer.url) as made:
        with pytest.raises(TransientError, match="CSRF token: the ERP answers 503"):
            await made.send(order(peer.url))


# --- OAuth1, client certificates, exactness


async def test_a_signed_assertion_gets_the_token() -> None:
    made_of: list[dict[str, list[str]]] = []

    async def door(request: web.Request) -> web.Response:
        if request.path == "/token":
            made_of.append(parse_qs((await request.read()).decode()))
            return web.json_response({"access_token": "t1", "expires_in": 3600})
        return web.Response(status=201 if request.headers.get("Authorization") == "Bearer t1" else 401)

    ours = pair()
    async with erp(door) as peer:
        auth = ClientCredentials(
            token_url=Url(f"{peer.url}/token"),
            client_id="gateway",
            client_auth="private_key_jwt",
            private_key=secret(ours.key),
            certificate=secret(ours.certificate),
            scope="orders",
        )
        assert list(auth.check()) == []
        async with sender(peer.url, auth=auth) as made:
            found = await all_of(made, peer.url)
            assert [one.status for one in found if isinstance(one, Answer)] == [201] * 16
    (fields,) = made_of
    assert fields["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
    claims = jwt.decode(
        fields["client_assertion"][0], ours.public, algorithms=["RS256"], options={"verify_aud": False, "verify_exp": False}
    )
    assert (claims["iss"], claims["sub"]) == ("gateway", "gateway")
    assert "client_secret" not in fields


async def test_each_oauth1_request_is_signed_anew_with_the_address_that_leaves() -> None:
    auth = OAuth1(
        consumer_key=secret("ck"), consumer_secret=secret("cs"), token=secret("tk"), token_secret=secret("ts"), realm="1234567_SB1"
    )
    async with erp(lambda _: always(204)) as peer, sender(peer.url, auth=auth) as made:
        for _ in range(2):
            await made.send(Request(method="GET", url=f"{peer.url}/salesOrder?q=externalId%20IS%20%22a%27%27b%22"))
        one, two = (headers["authorization"] for _, headers, _ in peer.heard)
        assert one.startswith('OAuth realm="1234567_SB1", ')
        assert 'oauth_consumer_key="ck"' in one
        assert one != two
        assert 'oauth_signature_method="HMAC-SHA256"' in one
        assert peer.heard[0][0] == "GET /salesOrder?q=externalId%20IS%20%22a%27%27b%22"


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    ours = certificate(tmp_path, days=3)
    theirs = certificate(tmp_path, days=2)
    serving = theirs.serving()
    serving.verify_mode = __import__("ssl").CERT_REQUIRED
    serving.load_verify_locations(ours.pem)
    shown: list[Any] = []

    async def door(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown.append(request.transport.get_extra_info("peercert"))
        return web.Response(status=201)

    certs: dict[str, Any] = {
        "client_cert": PemFile.from_reference(ours.pem.name, tmp_path),
        "client_key": PemFile.from_reference(ours.key.name, tmp_path),
    }
    async with erp(door, ssl=serving) as peer, sender(peer.url, ca_file=theirs.pem, **certs) as made:
        assert (await made.send(order(peer.url))).status == 201
        made.reset()  # the files are read again
        assert (await made.send(order(peer.url))).status == 201
    assert shown[0]["subject"] == ((("commonName", "constructed"),),)


async def test_the_address_leaves_as_it_was_made() -> None:
    path = "/orders('PO%27%271%2F2')/a%2Fb?$filter=ref%20eq%20'a%27%27b'&x=%2B%26%3D"
    async with erp(lambda _: always(200)) as peer, sender(peer.url) as made:
        await made.send(Request(method="GET", url=peer.url + path))
        assert peer.heard[0][0] == f"GET {path}"


async def test_an_erp_that_does_not_answer_the_logout_keeps_nobody_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.targets.sender._LOGOUT_S", 0.1)
    door = Expiring("session")

    over = asyncio.Event()

    async def deaf(request: web.Request) -> web.Response:
        if request.path == "/Logout":
            await over.wait()
        return await door(request)

    auth = login(logout=RequestTable(url=Template("{base}/Logout"), method="POST"))
    async with erp(deaf) as peer:
        async with asyncio.timeout(10), sender(peer.url, auth=auth) as made:
            await made.send(order(peer.url))
        over.set()


class Moody(Expiring):
    """Logins that are refused while it is in a mood."""

    mood = False

    async def __call__(self, request: web.Request) -> web.Response:
        return web.Response(status=401) if self.mood and request.path == "/Login" else await super().__call__(request)


async def test_only_refusals_in_a_row_count() -> None:
    door = Moody("session")
    async with erp(door) as peer, sender(peer.url, auth=login()) as made:
        for _ in range(4):
            door.mood, door.good = True, "expired"
            with pytest.raises(AuthError, match="does not accept the login"):
                await made.send(order(peer.url))
            door.mood = False
            assert (await made.send(order(peer.url))).status == 201


async def test_what_was_refused_too_often_is_sent_again_after_a_release_only() -> None:
    door = Moody("session")
    async with erp(door) as peer, sender(peer.url, auth=login()) as made:
        door.mood = True
        await all_of(made, peer.url)
        door.mood = False
        heard = len(peer.heard)
        with pytest.raises(AuthError, match="nothing more is sent"):
            await made.send(order(peer.url))
        assert len(peer.heard) == heard
        made.reset()
        assert (await made.send(order(peer.url))).status == 201


async def test_a_password_that_somebody_changes_is_not_tried_again_by_those_who_come_later() -> None:
    good = True

    async def door(_: web.Request) -> web.Response:
        return web.Response(status=201 if good else 401)

    async with erp(door) as peer, sender(peer.url, auth=Basic(username="gateway", password=secret())) as made:
        await all_of(made, peer.url)
        good = False
        with pytest.raises(AuthError):
            await made.send(order(peer.url))
        heard = len(peer.heard)
        assert all(isinstance(one, AuthError) for one in await all_of(made, peer.url))
        assert len(peer.heard) == heard == 17


async def test_what_was_refused_is_tried_once_more_when_somebody_says_so_and_then_no_more() -> None:
    """The retry of a held target: without it a refused password is not even sent."""
    asked: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.Response(status=401)

    async with erp(refuse) as there, sender(there.url, auth=Basic(username="u", password=secret())) as made:
        for tries in (1, 1, 1):
            with pytest.raises(AuthError):
                await made.send(order(there.url))
            assert len(asked) == tries
        made.once_more()
        for _ in range(3):
            with pytest.raises(AuthError):
                await made.send(order(there.url))
        assert len(asked) == 2


async def test_a_login_page_that_is_not_there_counts_for_no_lock() -> None:
    async def missing(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async with erp(missing) as there, sender(there.url, auth=Login(url=Template("{base}/login"))) as made:
        for _ in range(5):
            with pytest.raises(AuthError, match=r"check auth\.url") as caught:
                await made.send(order(there.url))
            assert not caught.value.refused
