"""Tokens: one renewal at a time, early enough, and nothing secret in what is said when it fails."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from gateway import AuthError, OAuth2, RateLimited, Secret, TransientError
from gateway.api.errors import PermanentError
from gateway.outbound.answer import Answer
from gateway.outbound.oauth2 import TokenSource
from gateway.outbound.session import TooLong, Unreached, any_unicast, exchange, open_session
from gateway.testing import ManualClock
from tests.raw_server import answer, peer

SECRET = "s3cret-canary"


def oauth2(**more: Any) -> OAuth2:
    values: dict[str, Any] = {
        "token_url": "http://127.0.0.1:1/token",
        "client_id": "supplier-1",
        "client_secret": Secret(SECRET, origin="test"),
    }
    return OAuth2(**{**values, **more})


class Endpoint:
    """A token endpoint that counts."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self._answers = list(answers)

    async def __call__(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        self.asked.append((method, url, headers, body))
        await asyncio.sleep(0)
        if not self._answers:
            return token(f"t{len(self.asked)}")
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(said, BaseException):
            raise said
        return said


def said(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


def token(text: str = "t1", **more: Any) -> Answer:
    return said(200, msgspec.json.encode({"access_token": text, "token_type": "Bearer", "expires_in": 3600, **more}))


async def test_a_token_is_asked_for_once_and_kept(clock: ManualClock) -> None:
    endpoint = Endpoint()
    tokens = TokenSource(oauth2(), endpoint, clock)
    assert [await tokens.token() for _ in range(5)] == ["t1"] * 5
    assert len(endpoint.asked) == 1


async def test_twenty_callers_at_once_make_one_request(clock: ManualClock) -> None:
    endpoint = Endpoint()
    tokens = TokenSource(oauth2(), endpoint, clock)
    assert await asyncio.gather(*(tokens.token() for _ in range(20))) == ["t1"] * 20
    assert await asyncio.gather(*(tokens.token(instead_of="t1") for _ in range(20))) == ["t2"] * 20
    assert len(endpoint.asked) == 2


async def test_a_refused_token_that_is_no_longer_ours_is_not_renewed_again(clock: ManualClock) -> None:
    endpoint = Endpoint()
    tokens = TokenSource(oauth2(), endpoint, clock)
    await tokens.token()
    assert await tokens.token(instead_of="t0") == "t1"


@pytest.mark.parametrize(("expires_in", "good_for_s"), [(3600, 3540), (100, 50), (60, 30), (1, 0.5), ("3600", 3540), (None, 3540)])
async def test_it_is_renewed_before_it_runs_out(clock: ManualClock, expires_in: Any, good_for_s: float) -> None:
    endpoint = Endpoint(token("t1", expires_in=expires_in), token("t2"))
    tokens = TokenSource(oauth2(), endpoint, clock)
    await tokens.token()
    clock.advance(good_for_s - 0.1)
    assert await tokens.token() == "t1"
    clock.advance(0.2)
    assert await tokens.token() == "t2"


@pytest.mark.parametrize("expires_in", [0, -5])
async def test_a_token_without_a_life_serves_one_call(clock: ManualClock, expires_in: int) -> None:
    endpoint = Endpoint(token(expires_in=expires_in))
    tokens = TokenSource(oauth2(), endpoint, clock)
    for _ in range(3):
        assert await tokens.token() == "t1"
    assert len(endpoint.asked) == 3


async def test_the_wall_clock_has_no_say_in_it(clock: ManualClock) -> None:
    endpoint = Endpoint()
    tokens = TokenSource(oauth2(), endpoint, clock)
    await tokens.token()
    clock.jump(7200)
    assert await tokens.token() == "t1"


async def test_the_request_is_what_rfc_6749_says(clock: ManualClock) -> None:
    endpoint = Endpoint()
    await TokenSource(oauth2(scope="orders read"), endpoint, clock).token()
    ((method, url, headers, body),) = endpoint.asked
    assert (method, url, headers["Content-Type"]) == ("POST", "http://127.0.0.1:1/token", "application/x-www-form-urlencoded")
    assert parse_qs(body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["supplier-1"],
        "client_secret": [SECRET],
        "scope": ["orders read"],
    }


async def test_the_request_can_be_json(clock: ManualClock) -> None:
    endpoint = Endpoint()
    await TokenSource(oauth2(encoding="json"), endpoint, clock).token()
    ((_, _, headers, body),) = endpoint.asked
    assert headers["Content-Type"] == "application/json"
    assert msgspec.json.decode(body) == {"grant_type": "client_credentials", "client_id": "supplier-1", "client_secret": SECRET}


async def test_the_secret_of_now_is_sent(clock: ManualClock, tmp_path: Any) -> None:
    file = tmp_path / "secret"
    file.write_text("old\n")
    secret = Secret.from_reference({"file": "secret"}, tmp_path)
    assert isinstance(secret, Secret)
    endpoint = Endpoint()
    tokens = TokenSource(oauth2(client_secret=secret), endpoint, clock)
    await tokens.token()
    file.write_text("newer\n")
    assert secret.refresh()
    await tokens.token(instead_of="t1")
    assert [parse_qs(body.decode())["client_secret"] for _, _, _, body in endpoint.asked] == [["old"], ["newer"]]


def echoing(error: Any) -> bytes:
    return msgspec.json.encode({"error": error, "error_description": f"no {SECRET}", "client_secret": SECRET})


REFUSALS: dict[str, tuple[Answer, type[Exception], str]] = {
    "invalid_client": (
        said(401, echoing("invalid_client")),
        AuthError,
        r"answers 401 \(invalid_client\); check client_id and client_secret",
    ),
    "invalid_scope": (said(400, echoing("invalid_scope")), AuthError, r"answers 400 \(invalid_scope\)"),
    "forbidden": (said(403, b"<html>"), AuthError, "answers 403; check client_id"),
    "an error that is no code": (said(401, echoing(f"no such secret: {SECRET}")), AuthError, "answers 401; check"),
    "an error that is a number": (said(401, echoing(7)), AuthError, "answers 401; check"),
    "a deep error": (said(401, b"[" * 100_000), AuthError, "answers 401; check"),
    "an error in no encoding": (said(401, b'{"error":"\xff"}'), AuthError, "answers 401; check"),
    "not there": (said(404, b""), AuthError, "answers 404; check token_url"),
    "another method": (said(405, b""), AuthError, "answers 405; check token_url"),
    "a redirect": (said(302, b"", location="https://elsewhere.example/"), AuthError, "answers 302; check token_url"),
    "no content": (said(204, b""), AuthError, "answers 204; check token_url"),
    "a page": (said(200, b"<html>sign in</html>"), AuthError, "is no token; check token_url"),
    "another document": (said(200, echoing(None)), AuthError, "is no token; check token_url"),
    "a deep document": (said(200, b"[" * 100_000), AuthError, "is no token; check token_url"),
    "an empty token": (token(""), AuthError, "no usable token"),
    "a token with a line break": (token("a\nb"), AuthError, "no usable token"),
    "another kind of token": (token(token_type="mac"), AuthError, "another kind of token"),
    "too long": (TooLong("the answer is longer than 9 bytes", said(200)), AuthError, "longer than 9 bytes; check token_url"),  # type: ignore[dict-item]
    "too often": (said(429, b"", retry_after="7"), RateLimited, "too often"),
    "not well": (said(503, b"", retry_after="7"), TransientError, "answers 503"),
    "too early": (said(425), TransientError, "answers 425"),
    "unreached": (Unreached("no connection: refused"), TransientError, "refused"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("refusal", "error", "text"), REFUSALS.values(), ids=REFUSALS)
async def test_a_failure_says_what_to_check_and_no_secret(clock: ManualClock, refusal: Any, error: type[Exception], text: str) -> None:
    tokens = TokenSource(oauth2(), Endpoint(refusal, token("t9")), clock)
    with pytest.raises(error, match=text) as raised:
        await tokens.token()
    assert SECRET not in repr(raised.value) + repr(raised.value.__cause__)
    assert not isinstance(raised.value, PermanentError)  # it would bury whatever waits for the token
    if error is not AuthError and isinstance(refusal, Answer) and refusal.headers:
        assert raised.value.retry_after_s == 7  # type: ignore[attr-defined]
    assert await tokens.token() == "t9"


async def test_a_failed_renewal_does_not_bring_the_old_token_back(clock: ManualClock) -> None:
    tokens = TokenSource(oauth2(), Endpoint(token("t1"), said(401)), clock)
    await tokens.token()
    for _ in range(2):
        with pytest.raises(AuthError):
            await tokens.token(instead_of="t1")


async def test_a_caller_who_goes_away_leaves_the_next_one_its_turn(clock: ManualClock) -> None:
    stuck = asyncio.Event()

    async def send(*_: Any) -> Answer:
        await stuck.wait()
        return token()

    tokens = TokenSource(oauth2(), send, clock)
    first, second = asyncio.create_task(tokens.token()), asyncio.create_task(tokens.token())
    await asyncio.sleep(0)
    first.cancel()
    stuck.set()
    assert await second == "t1"


async def test_it_works_over_a_real_connection(clock: ManualClock) -> None:
    session = open_session(allowed=any_unicast, connections=2, connect_timeout_s=1)

    async def send(method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        return await exchange(session, method, url, headers=headers, body=body, timeout_s=1, max_bytes=1000)

    async with peer(answer(200, token("real").body)) as endpoint:
        assert await TokenSource(oauth2(token_url=f"{endpoint.url}/token"), send, clock).token() == "real"
        await session.close()
    assert parse_qs(endpoint.heard[0].body.decode())["client_secret"] == [SECRET]


@pytest.mark.parametrize("said_s", ["soon", "nan", "1e999", "9" * 400, None, [3600], {}])
async def test_a_lifetime_that_cannot_be_read_says_nothing(clock: ManualClock, said_s: Any) -> None:
    """The token is as good as one without it: an hour."""
    endpoint = Endpoint(token("t1", expires_in=said_s), token("t2"))
    tokens = TokenSource(oauth2(), endpoint, clock)
    assert await tokens.token() == "t1"
    clock.advance(3000)
    assert await tokens.token() == "t1"
    clock.advance(600)
    assert await tokens.token() == "t2"


@pytest.mark.parametrize(
    ("given", "refused"), [(400, True), (401, True), (403, True), (404, False), (302, False), (200, False), (405, False)]
)
async def test_an_endpoint_that_is_not_there_has_refused_nobody(clock: ManualClock, given: int, refused: bool) -> None:
    """So it is tried again soon, and counts for no lock."""
    tokens = TokenSource(oauth2(), Endpoint(said(given, b"<html>maintenance</html>")), clock)
    with pytest.raises(AuthError) as caught:
        await tokens.token()
    assert caught.value.refused == refused
