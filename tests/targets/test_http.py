"""One order, one request, one outcome: a target against ERPs of every temper, on real connections."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import ConfigError
from gateway.api.secrets import Secret
from gateway.outbound.session import Unreached
from gateway.store.rows import OutboxRow
from gateway.targets.auth_settings import Basic, Bearer, Header
from gateway.targets.delivery_settings import Idempotency
from gateway.targets.http import HttpTarget
from gateway.targets.request import Request, with_message_headers
from gateway.targets.settings import TargetSettings
from gateway.targets.templates import UrlTemplate
from gateway.testing import ManualClock
from tests.raw_server import Certificate, Script, answer, certificate, hang_up, peer, reset, says, silence

AT = datetime(2024, 3, 31, 1, 58, 12, 481920, tzinfo=UTC)


def row(**changes: Any) -> OutboxRow:
    values: dict[str, Any] = {
        "id": 1,
        "lease": 1,
        "target": "erp",
        "source": "apicbase",
        "order_id": 1,
        "order_ref": "5f0c",
        "inbox_id": 1,
        "key": "apicbase/5f0c/1",
        "kind": "order.placed",
        "attempts": 1,
        "first_attempt_at": None,
        "occurred_at": AT,
        "received_at": AT,
        "body": b'{"order": 1}',
        "sha256": b"",
    }
    return OutboxRow(**{**values, **changes})


def secret(text: str = "s3cret") -> Secret:
    return Secret(text, origin="test")


@asynccontextmanager
async def target(url: str, **settings: Any) -> AsyncIterator[HttpTarget]:
    made = HttpTarget(
        "erp", TargetSettings(**{"url": UrlTemplate(url), "connect_timeout_s": 0.5, "read_timeout_s": 2.0, **settings}), ManualClock()
    )
    await made.open()
    try:
        yield made
    finally:
        await made.close()


# --- the request


async def test_the_request_is_what_the_contract_says() -> None:
    async with peer(answer(201)) as erp, target(f"{erp.url}/orders?company=1", headers={"X-Company": "1"}) as made:
        outcome = await made.send(row())
    (heard,) = erp.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/orders?company=1", b'{"order": 1}')
    assert {name: heard.headers[name] for name in heard.headers if name.startswith("ce-")} == {
        "ce-specversion": "1.0",
        "ce-id": "apicbase/5f0c/1",
        "ce-source": "/sources/apicbase",
        "ce-type": "order.placed",
        "ce-time": "2024-03-31T01:58:12.481920Z",
    }
    assert (heard.headers["idempotency-key"], heard.headers["content-type"]) == ("apicbase/5f0c/1", "application/json")
    assert (heard.headers["x-company"], "authorization" in heard.headers) == ("1", False)
    assert (outcome.meaning, outcome.http_status, outcome.maybe_delivered) == ("delivered", 201, False)


def headers_of(message: OutboxRow) -> dict[str, str]:
    return with_message_headers(Request(method="POST", url=""), message, Idempotency()).headers


async def test_without_a_time_of_its_own_the_event_has_the_one_it_was_received_at() -> None:
    assert headers_of(row(occurred_at=None, received_at=datetime(2024, 4, 1, tzinfo=UTC)))["ce-time"] == "2024-04-01T00:00:00Z"


async def test_put_is_put() -> None:
    async with peer(answer()) as erp, target(erp.url, method="PUT") as made:
        await made.send(row())
    assert erp.heard[0].method == "PUT"


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (
            Basic(username="gätway", password=secret("pä:ss")),
            "authorization",
            "Basic " + base64.b64encode("gätway:pä:ss".encode()).decode(),
        ),
        (Bearer(token=secret()), "authorization", "Bearer s3cret"),
        (Header(name="DOLAPIKEY", value=secret()), "dolapikey", "s3cret"),
        (Header(name="Authorization", value=secret(), prefix="token"), "authorization", "token s3cret"),
    ],
)
async def test_credentials_are_sent_as_configured(auth: Any, name: str, value: str) -> None:
    async with peer(answer()) as erp, target(erp.url, auth=auth) as made:
        await made.send(row())
    assert erp.heard[0].headers[name] == value


async def test_the_secret_of_now_is_sent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old\n")
    token = Secret.from_reference({"file": "token"}, tmp_path)
    assert isinstance(token, Secret)
    async with peer(answer()) as erp, target(erp.url, auth=Bearer(token=token)) as made:
        await made.send(row())
        (tmp_path / "token").write_text("newer\n")
        token.refresh()
        await made.send(row())
    assert [heard.headers["authorization"] for heard in erp.heard] == ["Bearer old", "Bearer newer"]


@pytest.mark.parametrize(
    ("key", "header"),
    [
        ("acme/Zürich 7/1", "acme/Z%C3%BCrich%207/1"),
        ("acme/注文/1", "acme/%E6%B3%A8%E6%96%87/1"),
        ('acme/"5%"/1', "acme/%225%25%22/1"),
        ("acme/a+b&c=d?e#f/1", "acme/a+b&c=d?e#f/1"),
        ("acme/😀/1", "acme/%F0%9F%98%80/1"),
    ],
)
async def test_an_order_number_that_is_not_ascii_travels_as_cloudevents_says(key: str, header: str) -> None:
    async with peer(answer()) as erp, target(erp.url) as made:
        assert (await made.send(row(key=key))).meaning == "delivered"
    assert erp.heard[0].headers["ce-id"] == erp.heard[0].headers["idempotency-key"] == header
    assert unquote(header) == key


@given(st.text(min_size=1, max_size=40).filter(str.isprintable), st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_two_keys_are_never_one_header(one: str, other: str) -> None:
    first, second = (headers_of(row(key=key))["Idempotency-Key"] for key in (one, other))
    assert (first == second) == (one == other)
    assert first.isascii()
    assert first.isprintable()
    assert " " not in first


async def test_a_body_of_several_megabytes_is_sent_whole() -> None:
    body = b"x" * 3_000_000
    async with peer(answer()) as erp, target(erp.url) as made:
        assert (await made.send(row(body=body))).meaning == "delivered"
    assert erp.heard[0].body == body


# --- the outcome


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (silence, "no answer in time; it may have been taken"),
        (says(b"", then=hang_up), "the connection broke: closed without an answer; it may have been taken"),
        (says(b"", then=reset), "the connection broke: connection reset by peer; it may have been taken"),
        (says(answer(201, b"x" * 50)[:-20], then=hang_up), "the connection broke: the answer breaks off; it may have been taken"),
        (b"220 mail.example ESMTP\r\n\r\n", "the connection broke: the answer is not HTTP; it may have been taken"),
    ],
    ids=["silence", "closed", "reset", "half", "no HTTP"],
)
async def test_a_lost_answer_is_tried_again_and_may_have_been_taken(script: bytes | Script, reason: str) -> None:
    async with peer(script) as erp, target(erp.url, read_timeout_s=0.1) as made:
        outcome = await made.send(row())
    assert len(erp.heard) == 1
    assert (outcome.meaning, outcome.maybe_delivered, outcome.unwell, outcome.reason) == ("retry", True, True, reason)


async def test_an_erp_that_is_not_there_has_taken_nothing() -> None:
    async with peer(answer()) as erp:
        url = erp.url
    async with target(url) as made:
        outcome = await made.send(row())
    assert (outcome.meaning, outcome.maybe_delivered, outcome.unwell) == ("retry", False, True)
    assert outcome.reason == "no connection: connection refused"


async def test_a_credential_that_http_cannot_carry_is_no_crash() -> None:
    async with peer(answer()) as erp, target(erp.url, auth=Bearer(token=secret("two\nlines"))) as made:
        outcome = await made.send(row())
    assert (outcome.meaning, outcome.maybe_delivered, erp.heard) == ("retry", False, [])
    assert "two" not in outcome.reason


@pytest.mark.parametrize("status", [201, 422])
async def test_an_answer_that_is_too_long_still_says_what_became_of_the_order(status: int) -> None:
    async with peer(answer(status, b"x" * (1024 * 1024 + 1))) as erp, target(erp.url) as made:
        outcome = await made.send(row())
    assert outcome.meaning == {201: "delivered", 422: "refused"}[status]
    assert outcome.detail == "x" * 2000


async def test_a_redirect_holds_the_target_and_is_not_followed() -> None:
    async with peer(answer()) as elsewhere, peer(answer(307, b"", location=elsewhere.url)) as erp:
        async with target(erp.url, auth=Bearer(token=secret())) as made:
            outcome = await made.send(row())
        assert (outcome.meaning, elsewhere.connections) == ("paused", 0)


async def test_the_erps_words_are_the_detail_and_not_the_reason() -> None:
    async with peer(answer(422, b"Jane Doe has no credit")) as erp, target(erp.url) as made:
        outcome = await made.send(row())
    assert (outcome.meaning, outcome.detail) == ("refused", "Jane Doe has no credit")
    assert "Jane" not in outcome.reason


async def test_the_metadata_address_is_no_erp() -> None:
    async with target("http://[::ffff:169.254.169.254]/orders") as made:
        outcome = await made.send(row())
    assert (outcome.meaning, outcome.maybe_delivered) == ("retry", False)
    assert "is not allowed" in outcome.reason


# --- TLS


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


async def test_a_certificate_that_is_not_trusted_holds_the_target(own: Certificate) -> None:
    async with peer(answer(201), tls=own.serving()) as erp:
        async with target(erp.url, auth=Bearer(token=secret())) as made:
            outcome = await made.send(row())
        assert (outcome.meaning, erp.heard) == ("paused", [])
        assert outcome.reason == "TLS: self-signed certificate; check its certificate, or set ca_file"
        async with target(erp.url, ca_file=own.pem) as made:
            assert (await made.send(row())).meaning == "delivered"


async def test_a_ca_file_that_cannot_be_used_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=r"targets\.erp\.ca_file: cannot be used"):
            async with target("https://erp.example/", ca_file=path):
                pass


# --- gateway check --online


async def test_a_probe_asks_with_the_credentials_and_without_an_order() -> None:
    async with peer(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n") as erp, target(erp.url, auth=Bearer(token=secret())) as made:
        assert (await made.probe()).status == 405
    (heard,) = erp.heard
    assert (heard.method, heard.body, heard.headers["authorization"]) == ("HEAD", b"", "Bearer s3cret")
    assert "idempotency-key" not in heard.headers


async def test_a_probe_of_nobody_says_so() -> None:
    async with peer(answer()) as erp:
        url = erp.url
    async with target(url) as made:
        with pytest.raises(Unreached):
            await made.probe()
