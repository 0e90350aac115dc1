"""The operators' side: who may ask, what is answered, and that nothing can be changed over TCP."""

from __future__ import annotations

import os
import stat
from typing import Any

import aiohttp

from tests import acme
from tests.raw_http import wire

POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
SECURITY = {
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
PATHS = (
    "/",
    "/style.css",
    "/icon.svg",
    "/api/status",
    "/api/inbox",
    "/api/outbox",
    "/api/acknowledgements",
    "/api/orders",
    "/healthz",
    "/readyz",
    "/metrics",
)


async def fetch(running: Any, path: str, method: str = "GET", **headers: str) -> aiohttp.ClientResponse:
    async with running.session.request(method, running.admin_url + path, headers=headers) as answer:
        await answer.read()
        return answer


# --- headers


async def test_every_page_comes_with_the_security_headers(start, erp) -> None:
    running = await start(erp.url)
    for path in PATHS:
        answer = await fetch(running, path)
        assert answer.status == 200, path
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY, path


async def test_every_error_comes_with_the_security_headers(start, erp, monkeypatch) -> None:
    running = await start(erp.url)

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(running.gateway._reader, "orders", broken)
    errors = {
        404: await fetch(running, "/nowhere"),
        405: await fetch(running, "/", "POST"),
        400: await fetch(running, "/api/inbox?limit=0"),
        421: await fetch(running, "/", Host="evil.example"),
        500: await fetch(running, "/api/orders"),
    }
    for status, answer in errors.items():
        assert answer.status == status
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY, status


async def test_a_malformed_request_is_answered_with_nothing_to_embed(start, erp) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.pages.port) as line:
        await line.send(b"rubbish\r\n\r\n")
        reply = await line.reply()
    assert reply is not None
    assert (reply.status, reply.body) == (400, b"bad request")
    assert reply.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert (reply.headers["x-content-type-options"], reply.headers["cache-control"]) == ("nosniff", "no-store")


# --- DNS rebinding


OURS = ["127.0.0.1", "127.0.0.1:8081", "localhost", "localhost:8081", "LOCALHOST", "[::1]", "[::1]:8081", "127.8.8.8"]


async def test_a_name_of_this_machine_is_served(start, erp) -> None:
    running = await start(erp.url)
    for host in OURS:
        assert (await fetch(running, "/", Host=host)).status == 200, host


HOSTILE = [
    "evil.example",
    "evil.example:8081",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "",
    "[",
    "[::1",
    "127.0.0.1@evil.example",
    "0.0.0.0",
    "[::]",
]


async def test_another_name_is_not(start, erp) -> None:
    """A page of evil.example whose name suddenly leads to 127.0.0.1 still sends its own name."""
    running = await start(erp.url)
    for host in HOSTILE:
        for path in ("/", "/api/inbox", "/metrics", "/healthz"):
            async with wire(running.gateway.pages.port) as line:
                await line.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                reply = await line.reply()
            assert reply is not None
            assert reply.status in (400, 421), host


async def test_a_monitor_that_sends_no_name_is_served(start, erp) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.pages.port) as line:
        await line.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        reply = await line.reply()
    assert reply is not None
    assert reply.status == 200


async def test_behind_a_proxy_with_a_login_every_name_is_served(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._admin._allow_remote = True
    assert (await fetch(running, "/", Host="gateway.intern.example")).status == 200


# --- nothing is changed over TCP


async def test_the_write_api_is_not_reachable_by_tcp(start, erp) -> None:
    running = await start(erp.url)
    await running.deliver(b"nonsense")
    order = {"action": "drop", "who": "evil", "keys": ["inbox:1"], "reason": "x"}
    for side in ("pages", "vendors"):
        port = getattr(running.gateway, side).port
        for method in ("POST", "PUT", "PATCH", "DELETE", "GET"):
            for path in ("/control", "/api/control", "/api/inbox", "/api/inbox/1", "/in/../control", "//control"):
                async with running.session.request(method, f"http://127.0.0.1:{port}{path}", json=order) as answer:
                    read = (side, method, path) == ("pages", "GET", "/api/inbox")
                    assert answer.status == 200 if read else answer.status in (404, 405), (side, method, path)
    assert [row["status"] for row in await running.rows("inbox")] == ["dead"]


async def test_the_control_socket_is_for_its_owner_only(start, erp) -> None:
    running = await start(erp.url)
    found = (running.folder / "data" / "control.sock").stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.getuid()
    await running.stop()
    assert not (running.folder / "data" / "control.sock").exists()


async def test_a_socket_that_a_dead_process_left_is_no_obstacle(start, erp) -> None:
    running = await start(erp.url)
    await running.stop()
    (running.folder / "data" / "control.sock").touch()
    again = await start(erp.url)
    assert (await control(again, "GET", "/api/status"))[0] == 200


async def control(running: Any, method: str, path: str, **more: Any) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(path=str(running.folder / "data" / "control.sock"))
    async with aiohttp.ClientSession(connector=connector) as session, session.request(method, f"http://gateway{path}", **more) as answer:
        return answer.status, await answer.json()


async def test_the_control_socket_does_what_it_is_told(start, erp) -> None:
    running = await start(erp.url)
    await running.deliver(b"nonsense")
    order = {"action": "drop", "who": "clerk", "keys": ["inbox:1", "inbox:7"], "reason": "not an order"}
    status, said = await control(running, "POST", "/control", json=order)
    assert status == 200
    assert [one["problem"] is None for one in said["result"]] == [True, False]
    (row,) = await running.rows("inbox")
    assert (row["status"], row["outcome"], row["waits"]) == ("done", "dropped", None)
    assert "not an order" not in str(row)
    assert (await control(running, "GET", "/api/inbox"))[1] == [row]


BAD: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"replay everything",
    "another root": b"[]",
    "no action": b'{"who": "x"}',
    "nobody": b'{"action": "replay", "who": ""}',
    "an unknown key": b'{"action": "replay", "who": "x", "force": true}',
    "an unknown action": b'{"action": "explode", "who": "x"}',
    "a drop without a reason": b'{"action": "drop", "who": "x", "keys": ["inbox:1"], "reason": " "}',
    "an unknown source": b'{"action": "resume", "who": "x", "name": "nobody"}',
    "an unknown target": b'{"action": "target-hold", "who": "x", "name": "nobody"}',
    "negative days": b'{"action": "purge", "who": "x", "days": -1}',
    "nested": b"[" * 100_000,
    "no Unicode": b'{"action": "replay", "who": "\xff"}',
    "a lone surrogate": b'{"action": "replay", "who": "x", "keys": ["\\ud800"]}',
}


async def test_a_command_that_cannot_be_done_is_a_sentence(start, erp) -> None:
    running = await start(erp.url)
    for name, body in BAD.items():
        status, said = await control(running, "POST", "/control", data=body)
        assert (status, bool(said["problem"])) == (400, True), name


# --- the API


async def test_rows_are_found_by_status_and_by_name(start, erp) -> None:
    running = await start(erp.url)
    for n in range(3):
        await running.deliver(acme.body(f"o{n}"))
    await running.deliver(b"nonsense")
    await erp.wait_for(3)
    await running.until(lambda: three_done(running))
    assert len(await running.rows("inbox")) == 4
    assert [row["key"] for row in await running.rows("outbox", limit="2")] == ["acme/o2/1", "acme/o1/1"]
    assert [row["status"] for row in await running.rows("inbox", status="dead")] == ["dead"]
    assert len(await running.rows("outbox", name="erp")) == len(await running.rows("outbox", name="acme")) == 3
    assert await running.rows("outbox", name="nobody") == []
    orders = (await running.get("/api/orders?source=acme&limit=2"))[1]
    assert [order["order_ref"] for order in orders] == ["o2", "o1"]
    assert not [row for row in await running.rows("inbox") if "body" in row or "document" in row]


async def three_done(running: Any) -> bool:
    return len(await running.rows("outbox", status="done")) == 3


async def test_a_limit_is_a_number_from_1_to_1000(start, erp) -> None:
    running = await start(erp.url)
    for limit in ("0", "1001", "-1", "x", "", "1e3", "٥", "9" * 5000, "1 OR 1=1"):
        for queue in ("inbox", "orders"):
            async with running.session.get(running.admin_url + f"/api/{queue}", params={"limit": limit}) as answer:
                assert answer.status == 400, limit
                assert await answer.text() == "limit must be a number from 1 to 1000"


async def test_an_unknown_status_names_those_that_there_are(start, erp) -> None:
    running = await start(erp.url)
    assert await running.get("/api/inbox?status=lost") == (400, "status must be one of ready, leased, done, held, dead")


async def test_a_name_is_a_value_and_no_statement(start, erp) -> None:
    running = await start(erp.url)
    await running.deliver(b"nonsense")
    for name in ("' OR '1'='1", "acme'; DROP TABLE inbox; --", "%", "a\0b"):
        async with running.session.get(running.admin_url + "/api/inbox", params={"name": name}) as answer:
            assert (answer.status, await answer.json()) == (200, [])
    assert len(await running.rows("inbox")) == 1


async def test_the_status_is_the_one_of_the_contract(start, erp) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await erp.wait_for(1)
    await running.until(lambda: one_done(running))
    status = (await running.get("/api/status"))[1]
    assert status["sources"]["acme"]["doors"] == {"webhook": "up", "poll": "up"}
    await running.gateway._store.note_last_messages()
    assert await last_message(running)
    assert status["inbox"] == {"ready": 0, "leased": 0, "done": 1, "held": 0, "dead": 0}
    assert status["outbox"] == {**status["inbox"], "unknown": 0}
    assert (status["running"], status["reasons"], status["targets"]["erp"]["state"]) == (True, [], "up")


async def one_done(running: Any) -> bool:
    return len(await running.rows("outbox", status="done")) == 1


async def last_message(running: Any) -> bool:
    return (await running.get("/api/status"))[1]["sources"]["acme"]["last_message_at"] is not None


async def test_a_poll_that_brings_nothing_is_no_message(start, erp) -> None:
    running = await start(erp.url)
    await running.gateway._store.accept("acme", "poll", [], cursor="c")
    await running.gateway._store.note_last_messages()
    assert not await last_message(running)
