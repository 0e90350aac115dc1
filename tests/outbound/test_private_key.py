"""`private_key_jwt`: what an assertion says, what a refusal says, and what `gateway check` says of a key that cannot be used."""

from __future__ import annotations

import base64
import hashlib
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import jwt
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import Api, AuthError, OAuth2, Secret, TransientError
from gateway.outbound.oauth2 import TokenSource
from gateway.testing import ManualClock, vendor_client
from tests.outbound.test_oauth2 import Endpoint, said, token
from tests.rsa_keys import Pair, certificate, pair, written

TOKEN_URL = "https://accounts.example/connect/token"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def secret(text: str) -> Secret:
    return Secret(text, origin="test")


def settings(made: Pair | None = None, **more: Any) -> OAuth2:
    made = made or pair()
    values: dict[str, Any] = {"token_url": TOKEN_URL, "client_id": "example_supplier", "client_auth": "private_key_jwt"}
    return OAuth2(**{**values, "private_key": secret(made.key), "certificate": secret(made.certificate), **more})


def form(endpoint: Endpoint, n: int = 0) -> dict[str, str]:
    _, _, headers, body = endpoint.asked[n]
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    return {name: value for name, [value] in parse_qs(body.decode(), strict_parsing=True).items()}


def claims(endpoint: Endpoint, n: int = 0, made: Pair | None = None, **options: Any) -> dict[str, Any]:
    unchecked: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    found: dict[str, Any] = jwt.decode(form(endpoint, n)["client_assertion"], (made or pair()).public, ["RS256"], options=unchecked)
    return found


def headers_of(endpoint: Endpoint, n: int = 0) -> dict[str, Any]:
    return jwt.get_unverified_header(form(endpoint, n)["client_assertion"])


async def test_the_form_is_what_rfc_7521_and_rfc_7523_say(clock: ManualClock) -> None:
    endpoint = Endpoint()
    assert await TokenSource(settings(scope="orders events"), endpoint, clock).token() == "t1"
    sent = form(endpoint)
    assert jwt.get_unverified_header(sent.pop("client_assertion"))["alg"] == "RS256"
    assert sent == {
        "grant_type": "client_credentials",
        "client_id": "example_supplier",
        "client_assertion_type": JWT_BEARER,
        "scope": "orders events",
    }


async def test_an_assertion_lives_for_a_minute_and_names_us_and_the_token_endpoint(clock: ManualClock) -> None:
    endpoint = Endpoint()
    await TokenSource(settings(), endpoint, clock).token()
    now = int(clock.now().timestamp())
    found = claims(endpoint)
    assert len(found.pop("jti")) == 36
    assert found == {
        "iss": "example_supplier",
        "sub": "example_supplier",
        "aud": TOKEN_URL,
        "iat": now,
        "nbf": now,
        "exp": now + 60,
    }


async def test_x5t_is_the_sha1_of_the_certificate_and_x5c_comes_only_when_asked_for(clock: ManualClock) -> None:
    der = x509.load_pem_x509_certificate(pair().certificate.encode()).public_bytes(Encoding.DER)
    endpoint = Endpoint()
    await TokenSource(settings(), endpoint, clock).token()
    await TokenSource(settings(send_certificate=True), endpoint, clock).token()
    await TokenSource(settings(certificate=None), endpoint, clock).token()
    x5t = base64.urlsafe_b64encode(hashlib.sha1(der).digest()).rstrip(b"=").decode()
    plain = {"alg": "RS256", "typ": "JWT"}
    assert headers_of(endpoint, 0) == plain | {"x5t": x5t}
    assert headers_of(endpoint, 1) == plain | {"x5t": x5t, "x5c": [base64.b64encode(der).decode()]}
    assert headers_of(endpoint, 2) == plain


async def test_audience_and_lifetime_can_be_other_ones(clock: ManualClock) -> None:
    endpoint = Endpoint()
    await TokenSource(settings(audience="https://real.example/token", assertion_s=30), endpoint, clock).token()
    found = claims(endpoint)
    assert (found["aud"], found["exp"] - found["iat"]) == ("https://real.example/token", 30)


async def test_no_jti_is_used_twice_whatever_the_answer_was(clock: ManualClock) -> None:
    endpoint = Endpoint(TransientError("broken off"), said(503), said(429), said(500), token(expires_in=1))
    tokens = TokenSource(settings(), endpoint, clock)
    for _ in range(4):
        with pytest.raises(TransientError):
            await tokens.token()
    for _ in range(3):
        await tokens.token()
        clock.advance(1)
    assert len({claims(endpoint, n)["jti"] for n in range(7)}) == 7 == len(endpoint.asked)


async def test_a_new_pair_in_the_files_is_used_for_the_next_token(clock: ManualClock) -> None:
    endpoint, other = Endpoint(), pair("two")
    key, cert = secret(pair().key), secret(pair().certificate)
    tokens = TokenSource(settings(private_key=key, certificate=cert), endpoint, clock)
    await tokens.token()
    key._text, cert._text = other.key, other.certificate
    await tokens.token(instead_of="t1")
    assert claims(endpoint, 1, made=other)["iss"] == "example_supplier"
    assert headers_of(endpoint, 0)["x5t"] != headers_of(endpoint, 1)["x5t"]


async def test_a_pair_of_which_only_one_file_has_changed_asks_for_no_token(clock: ManualClock) -> None:
    endpoint = Endpoint()
    tokens = TokenSource(settings(certificate=secret(pair("two").certificate)), endpoint, clock)
    with pytest.raises(AuthError, match="not the certificate of private_key"):
        await tokens.token()
    assert endpoint.asked == []


REFUSED = b'{"error":"invalid_client","error_description":"s3cret-canary"}'


def dated(clock: ManualClock, ahead_s: float) -> str:
    return format_datetime(clock.now() - timedelta(seconds=ahead_s), usegmt=True)


@pytest.mark.parametrize("status", [400, 401])
async def test_invalid_client_names_the_three_usual_causes(clock: ManualClock, status: int, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Endpoint(said(status, REFUSED, date=dated(clock, 2)))
    with pytest.raises(AuthError) as raised:
        await TokenSource(settings(), endpoint, clock).token()
    text = str(raised.value)
    assert f"answers {status} (invalid_client)" in text
    assert "this machine's clock is wrong (unlikely: it differs by 2 s from the endpoint's)" in text
    assert f"the endpoint expects another `aud` (the gateway sends {TOKEN_URL})" in text
    thumbprint = hashlib.sha1(x509.load_pem_x509_certificate(pair().certificate.encode()).public_bytes(Encoding.DER)).hexdigest().upper()
    assert f"the certificate {thumbprint} is not registered there" in text
    assert "canary" not in text
    (record,) = (r for r in caplog.records if r.message == "token.refused")
    assert (record.levelno, getattr(record, "reason", "")) == (logging.WARNING, text)


@pytest.mark.parametrize(("ahead_s", "words"), [(95, "95 s ahead of the endpoint's"), (-4000, "4000 s behind the endpoint's")])
async def test_a_clock_that_is_wrong_is_told_by_how_much(clock: ManualClock, ahead_s: int, words: str) -> None:
    endpoint = Endpoint(said(401, REFUSED, date=dated(clock, ahead_s)))
    with pytest.raises(AuthError, match=f"this machine's clock is wrong: it is {words}, and an assertion lives 60 s"):
        await TokenSource(settings(), endpoint, clock).token()


@pytest.mark.parametrize("date", ["", "yesterday"])
async def test_an_answer_without_a_date_leaves_the_clock_open(clock: ManualClock, date: str) -> None:
    endpoint = Endpoint(said(401, REFUSED, **({"date": date} if date else {})))
    with pytest.raises(AuthError, match="no date to compare with"):
        await TokenSource(settings(), endpoint, clock).token()


async def test_a_certificate_that_ran_out_is_named(clock: ManualClock) -> None:
    old = pair("old", until=datetime(2024, 1, 31, tzinfo=UTC))
    with pytest.raises(AuthError, match="or refused since it expired on 2024-01-31"):
        await TokenSource(settings(old), Endpoint(said(401, REFUSED)), clock).token()


async def test_a_refused_assertion_is_not_followed_by_another_in_a_loop(clock: ManualClock) -> None:
    endpoint = Endpoint(said(401, REFUSED), token("t2"))
    tokens = TokenSource(settings(), endpoint, clock)
    for _ in range(20):
        with pytest.raises(AuthError, match="invalid_client"):
            await tokens.token()
        clock.advance(10)
    assert len(endpoint.asked) == 1
    clock.advance(100)
    assert await tokens.token() == "t2"
    assert len(endpoint.asked) == 2


async def test_a_changed_secret_starts_over_at_once(clock: ManualClock) -> None:
    async with vendor_client(Api(base_url=TOKEN_URL, auth=settings()), clock) as client:
        endpoint = Endpoint(said(401, REFUSED), token())
        client._send = endpoint  # type: ignore[method-assign, assignment]
        with pytest.raises(AuthError):
            await client.sign_in()
        client.reset()
        await client.sign_in()
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("body", [b'{"error":"invalid_scope"}', b"<html>", b""])
async def test_another_refusal_is_no_matter_of_the_assertion(clock: ManualClock, body: bytes) -> None:
    with pytest.raises(AuthError, match=r"answers 400.*check client_id and private_key"):
        await TokenSource(settings(), Endpoint(said(400, body)), clock).token()


# --- gateway check


def problems(**changes: Any) -> dict[str, str]:
    return dict(settings(**changes).problems())


def test_a_pair_that_fits_has_no_problem() -> None:
    assert problems() == problems(certificate=None) == {}


def test_what_is_missing_is_named() -> None:
    assert problems(private_key=None) == {"private_key": 'is needed with client_auth = "private_key_jwt"'}
    assert problems(client_auth="client_secret") == {"client_secret": 'is needed with client_auth = "client_secret"'}
    assert problems(client_auth="client_secret", client_secret=secret("s")) == {}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("not a key", "is no PEM private key"),
        (pair().certificate, "is a certificate"),
        (pair().public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "is a public key"),
        (written(rsa.generate_private_key(65537, 2048), b"pass"), "is encrypted with a passphrase"),
        (written(ec.generate_private_key(ec.SECP256R1())), "is no RSA key"),
        (pair("small", bits=1024).key, "has 1024 bits"),
        (pair().key.replace("A", "B"), "is no PEM private key"),
    ],
    ids=["text", "certificate", "public", "encrypted", "ec", "small", "damaged"],
)
def test_a_key_that_cannot_sign_is_a_problem_of_the_configuration(key: str, words: str) -> None:
    found = problems(private_key=secret(key))
    assert list(found) == ["private_key"]
    assert words in found["private_key"]
    assert "(test)" in found["private_key"]


def test_a_certificate_that_does_not_fit_is_a_problem_of_the_configuration() -> None:
    assert "not the certificate of private_key" in problems(certificate=secret(pair("two").certificate))["certificate"]
    assert "is a private key" in problems(certificate=secret(pair().key))["certificate"]
    assert "is no PEM certificate" in problems(certificate=secret("x"))["certificate"]


def test_a_key_and_its_certificate_may_stand_in_one_file() -> None:
    both = secret(pair().certificate + pair().key)
    assert problems(private_key=both, certificate=both) == {}


async def test_the_key_is_not_in_what_is_said(clock: ManualClock) -> None:
    damaged = pair().key.replace("A", "B")
    said_of_it = str(problems(private_key=secret(damaged))) + repr(settings())
    assert damaged.splitlines()[1] not in said_of_it
    with pytest.raises(AuthError) as raised:
        await TokenSource(settings(private_key=secret(damaged)), Endpoint(), clock).token()
    assert damaged.splitlines()[1] not in str(raised.value)


def test_a_certificate_of_the_same_key_is_as_good_as_the_first() -> None:
    key = rsa.generate_private_key(65537, 2048)
    for name in ("before", "after"):
        made = Pair(written(key), certificate(key, name, datetime(2034, 1, 1, tzinfo=UTC)))
        assert dict(settings(made).problems()) == {}


# --- one token for each scope


async def test_each_scope_has_a_token_of_its_own(clock: ManualClock) -> None:
    async with vendor_client(Api(base_url="https://api.example", auth=settings(scope="orders")), clock) as client:
        asked: list[tuple[str, str]] = []

        async def send(method: str, url: str, headers: dict[str, str], body: bytes | None, *_: Any) -> Any:
            scope = parse_qs((body or b"").decode()).get("scope", [""])[0]
            asked.append((url.rpartition("/")[2], scope or headers["Authorization"]))
            return said(200, msgspec.json.encode({"access_token": f"for-{scope}", "token_type": "Bearer", "expires_in": 3600}))

        client._send = send  # type: ignore[method-assign, assignment]
        await client.request("GET", "order")
        await client.request("GET", "receive", scope="events")
        await client.request("GET", "order")
    assert asked == [
        ("token", "orders"),
        ("order", "Bearer for-orders"),
        ("token", "events"),
        ("receive", "Bearer for-events"),
        ("order", "Bearer for-orders"),
    ]
