"""The command API under senders that are slow, long, malformed or many, and held to its own OpenAPI document by schemathesis."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway.edge import request_headers
from gateway.edge.request_limits import BODY_TIMEOUT_S
from tests.bad_commands import good
from tests.command_env import ERP, Caller, with_callers
from tests.raw_http import post, wire

LIMIT = 262144
PROOF = f"Authorization: Bearer {ERP}\r\nIdempotency-Key: k1\r\n"
PLACE = "/out/pharmacy/create_order"


@pytest.fixture
async def running(start, erp) -> Any:
    return await start(erp.url, more=with_callers())


def port(running: Any) -> int:
    return int(running.gateway.command_api.listener.port)


async def test_a_body_over_the_limit_is_413_before_it_is_sent(running) -> None:
    async with wire(port(running)) as line:
        await line.send(post(path=PLACE, headers=PROOF, length=LIMIT + 1))
        reply = await line.reply()
        assert reply is not None
        assert (reply.status, json.loads(reply.body)) == (413, {"problem": f"the body is longer than {LIMIT} bytes"})
        assert await line.closed() == b""


async def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_too(running) -> None:
    async with wire(port(running)) as line:
        chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        head = f"POST {PLACE} HTTP/1.1\r\nHost: gateway\r\n{PROOF}Transfer-Encoding: chunked\r\n\r\n".encode()
        await line.send(head, *[chunk] * 20)
        reply = await line.reply()
        assert reply is not None
        assert reply.status == 413


async def test_a_stranger_is_told_so_before_his_body_comes(running) -> None:
    async with wire(port(running)) as line:
        await line.send(post(path=PLACE, headers="Idempotency-Key: k1\r\n", length=10**9))
        reply = await line.reply()
        assert reply is not None
        assert reply.status == 401


async def test_a_body_at_the_limit_is_read(running) -> None:
    body = json.dumps(good("create_order")).encode().ljust(LIMIT)
    assert (await Caller(running).submit_command(body))[0] == 202
    assert (await Caller(running).submit_command(body + b" ", "k2"))[0] == 413


async def test_a_body_that_does_not_come_ends_the_connection(running) -> None:
    door = running.gateway.command_api.door
    assert door._body_timeout_s == BODY_TIMEOUT_S == 10
    door._body_timeout_s = 0.1
    async with wire(port(running)) as line:
        await line.send(post(b'{"orderNumber"', path=PLACE, headers=PROOF, length=100))
        assert await line.reply() is None
    assert not await running.rows_of("submit")


async def test_a_body_that_breaks_off_is_kept_nowhere(running) -> None:
    async with wire(port(running)) as line:
        await line.send(post(b'{"orderNumber"', path=PLACE, headers=PROOF, length=100))
        line.reset()
    assert (await Caller(running).ask("GET", "/openapi.json"))[0] == 200
    assert not await running.rows_of("submit")


async def test_one_connection_more_than_there_may_be_takes_the_place_of_an_idle_one(start, erp) -> None:
    running = await start(erp.url, more=with_callers(submit="max_connections = 2"))
    async with wire(port(running)) as one, wire(port(running)) as two:
        for line in (two, one):
            await line.send(f"GET /openapi.json HTTP/1.1\r\nHost: x\r\n{PROOF}\r\n".encode())
            assert (await line.reply()) is not None
        async with wire(port(running)) as three:
            await three.send(f"GET /openapi.json HTTP/1.1\r\nHost: x\r\n{PROOF}\r\n".encode())
            assert (await three.reply()) is not None
        assert await two.closed() == b""


MALFORMED = [
    b"POST /out/pharmacy/create_order HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary\x00\r\n\r\n",
    b"POST /out/pharmacy/create_order HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /out/pharmacy/create_order HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    b"GET canary HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01canary",
]


async def test_what_is_no_http_is_400_and_repeated_nowhere(running, caplog) -> None:
    for sent in MALFORMED:
        async with wire(port(running)) as line:
            await line.send(sent)
            reply = await line.reply()
            assert reply is None or (400 <= reply.status < 500 and b"canary" not in reply.body)
    assert "canary" not in caplog.text


# --- the document


async def test_the_document_says_what_is_installed(start, erp) -> None:
    running = await start(erp.url, more=with_callers(source='settings.event_url = "https://events.example"'))
    status, document, headers = await Caller(running).ask("GET", "/openapi.json")
    assert (status, headers["Content-Type"], document["openapi"]) == (200, "application/json", "3.1.0")
    names = ("create_order", "create_recurrent_order", "publish_event")
    assert {path for path in document["paths"] if "{id}" not in path} == {
        "/openapi.json",
        *(f"/out/{source}/{name}" for source in ("pharmacy", "kiosk") for name in names),
    }
    article = document["components"]["schemas"]["RecurrentArticle"]
    assert article["properties"]["interval"] == {"type": "integer", "minimum": 1, "maximum": 99}
    assert article["additionalProperties"] is False
    assert document["security"] == [{"token": []}]


async def test_a_command_that_is_not_switched_on_is_not_in_the_document(running) -> None:
    _, document, _ = await Caller(running).ask("GET", "/openapi.json")
    assert "/out/pharmacy/publish_event" not in document["paths"]


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
BOUNDED = settings(
    max_examples=10,
    phases=(Phase.explicit, Phase.generate),
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
schemathesis_draws = pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")


def conform(url: str, document: dict[str, Any]) -> tuple[set[int], set[str]]:
    """Send what can be made of the document, fitting and not: the statuses that came, and in which ways the answers were wrong."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    heard: set[int] = set()
    wrong: set[str] = set()

    def tried(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {ERP}"}, timeout=30)
        heard.add(answer.status_code)
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as failed:
            wrong.update(f"{case.method} {case.path}: {failure.title}: {failure.message}" for failure in failed.exceptions)

    for operation in (found.ok() for found in schema.get_all_operations()):  # type: ignore[union-attr]
        for mode in MODES:
            with suppress(Unsatisfiable):  # nothing of the kind can be made of it
                BOUNDED(given(operation.as_strategy(generation_mode=mode))(tried))()
    return heard, wrong


@schemathesis_draws
async def test_the_gateway_does_what_its_document_says(running, monkeypatch) -> None:
    monkeypatch.setattr(request_headers, "LONGEST_WAIT_S", 0)
    caller = Caller(running)
    _, document, _ = await caller.ask("GET", "/openapi.json")
    heard, wrong = await asyncio.to_thread(conform, caller.url, document)
    assert wrong == set()
    assert {200, 202, 404} <= heard
    assert heard & {400, 415, 422}


@schemathesis_draws
async def test_a_document_that_says_something_else_is_found_out(running, monkeypatch) -> None:
    monkeypatch.setattr(request_headers, "LONGEST_WAIT_S", 0)
    caller = Caller(running)
    _, document, _ = await caller.ask("GET", "/openapi.json")
    document["paths"] = {path: document["paths"][path] for path in (PLACE, "/out/{id}")}
    document["components"]["schemas"]["Refusal"]["required"].append("attempts")
    del document["paths"][PLACE]["post"]["responses"]["202"]
    _, wrong = await asyncio.to_thread(conform, caller.url, document)
    assert any("attempts" in one for one in wrong)
    assert any("Undocumented status code" in one for one in wrong)
