"""`POST /in/{source}` on a live gateway: every row of CONTRACT section 4, and what a connector can do wrong in it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
import pytest

from gateway import Unreadable
from gateway.api.errors import AuthError, Hold, PermanentError, StoreBusy, StoreError, StoreFailed, TransientError
from gateway.edge import webhook
from gateway.edge.request_limits import COMMIT_TIMEOUT_S
from tests import acme
from tests.raw_http import post, received, wire


async def nothing_stored(running: Any) -> bool:
    return not await running.rows("inbox")


def secret(running: Any) -> str:
    return str((running.folder / "secret").read_text().strip())


def signed(running: Any, body: bytes, **more: Any) -> bytes:
    return post(body, signature=acme.sign(secret(running), body), **more)


@contextmanager
def stuck_disk(running: Any) -> Iterator[Callable[[], None]]:
    """The writing thread waits, as it does in an fsync of a bad disk; call what this gives to let it go on."""
    let_go = threading.Event()
    waiting = asyncio.ensure_future(running.gateway._store._writer.run(lambda db: let_go.wait(10)))
    try:
        yield let_go.set
    finally:
        let_go.set()
        waiting.cancel()


# --- 200


async def test_a_genuine_order_is_stored_and_its_repeat_has_the_same_key(start, erp) -> None:
    running = await start(erp.url)
    first = await running.deliver(acme.body("o1"))
    assert first == (200, {"status": "stored", "key": "o1"})
    assert await running.deliver(acme.body("o1")) == (200, {"status": "stored", "key": "o1"})
    await erp.wait_for(1)
    assert await received(running, "stored") == await received(running, "repeat") == 1
    assert [row["key"] for row in await running.rows("inbox")] == ["acme/o1"]


async def test_other_content_is_another_version_with_a_key_of_its_own(start, erp) -> None:
    running = await start(erp.url, source='on_revision = "send"')
    await running.deliver(acme.body("o1"))
    assert await running.deliver(acme.body("o1", qty=2)) == (200, {"status": "stored", "key": "o1@2"})
    await erp.wait_for(2)
    assert [m["kind"] for m in erp.messages()] == ["order.placed", "order.revised"]


async def test_the_row_is_on_disk_when_the_sender_hears_200(start, erp) -> None:
    await erp.stop()
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    assert [row["key"] for row in await running.rows("inbox")] == ["acme/o1"]


async def test_a_delivery_with_nothing_in_it_for_us_is_ignored(start, erp, monkeypatch) -> None:
    running = await start(erp.url)
    monkeypatch.setattr(acme, "event", lambda document: None)
    connector = running.gateway._runtime.sources["acme"].connector
    monkeypatch.setattr(connector, "read", lambda envelope: [])
    assert await running.deliver(b"{}") == (200, {"status": "ignored"})
    assert await nothing_stored(running)


# --- 401


async def test_a_wrong_signature_is_401_without_detail(start, erp) -> None:
    running = await start(erp.url)
    for signature in ("", "0" * 64, "not hex at all", "é"):
        assert await running.deliver(acme.body("o1"), signature=signature) == (401, {"status": "unauthorized"})
    assert await nothing_stored(running)
    assert await received(running, "refused") == 4


async def test_a_missing_and_a_doubled_signature_are_401(start, erp) -> None:
    running = await start(erp.url)
    body = acme.body("o1")
    proof = acme.sign(secret(running), body)
    async with wire(running.gateway.vendors.port) as line:
        for request in (post(body), post(body, signature=proof, headers=f"x-ACME-signature: {proof}\r\n")):
            await line.send(request)
            reply = await line.reply()
            assert reply is not None
            assert (reply.status, reply.body) == (401, b'{"status":"unauthorized"}')
    assert await nothing_stored(running)
    assert await received(running, "refused") == 2


async def test_a_changed_byte_is_401(start, erp) -> None:
    running = await start(erp.url)
    proof = acme.sign(secret(running), acme.body("o1"))
    assert (await running.deliver(acme.body("o2"), signature=proof))[0] == 401


async def later() -> bool:
    return True


async def test_only_true_is_true(start, erp) -> None:
    running = await start(erp.url)
    for verdict in (lambda: 1, lambda: None, lambda: "True", later, lambda: asyncio.get_running_loop().create_future(), object):
        acme.faults["verify"] = verdict
        assert await running.deliver(acme.body("o1")) == (401, {"status": "unauthorized"})
    assert await nothing_stored(running)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    return fail


CRASHES = [
    SystemExit(3),
    KeyboardInterrupt(),
    MemoryError(),
    GeneratorExit(),
    asyncio.CancelledError(),
    KeyError("Jane Doe"),
    AssertionError(),
]


async def test_a_verify_that_raises_refuses_and_the_process_lives(start, erp) -> None:
    running = await start(erp.url)
    for error in (*CRASHES, RecursionError(), ValueError("x")):
        acme.faults["verify"] = raising(error)
        assert await running.deliver(acme.body("o1")) == (401, {"status": "unauthorized"}), error
    acme.faults.clear()
    assert (await running.deliver(acme.body("o2")))[0] == 200
    await erp.wait_for(1)
    assert [row["key"] for row in await running.rows("inbox")] == ["acme/o2"]


# --- 422


async def test_a_rejection_says_why_and_stores_nothing(start, erp) -> None:
    running = await start(erp.url)
    assert await running.deliver(acme.body("o1", qty=0)) == (422, {"status": "rejected", "reason": "an order of nothing"})
    assert await nothing_stored(running)
    assert await received(running, "rejected") == 1


# --- unreadable


async def dead_letter(running: Any) -> dict[str, Any]:
    (row,) = await running.rows("inbox", status="dead")
    (shown,) = await running.gateway._reader.show(row["row"])
    return dict(shown)


@pytest.mark.parametrize("status", [400, 200])
async def test_what_cannot_be_read_is_kept_whole_and_answered_as_the_connector_says(start, erp, status) -> None:
    running = await start(erp.url)
    connector = running.gateway._runtime.sources["acme"].connector
    connector.description = msgspec.structs.replace(connector.description, unreadable_status=status)
    body = b'{"id": 7, "broken": \xff'
    heard, said = await running.deliver(body)
    assert (heard, said["status"]) == (status, "unreadable")
    kept = await dead_letter(running)
    assert kept["key"] == f"acme/{said['key']}"
    assert kept["body"] == body
    assert kept["reason"]
    assert await received(running, "unreadable") == 1


async def test_the_same_unreadable_bytes_are_one_dead_letter(start, erp) -> None:
    running = await start(erp.url)
    first, second = await running.deliver(b"nonsense"), await running.deliver(b"nonsense")
    assert first == second
    assert len(await running.rows("inbox")) == 1
    await running.deliver(b"other nonsense")
    assert len(await running.rows("inbox")) == 2


@pytest.mark.parametrize("error", CRASHES, ids=lambda e: type(e).__name__)
async def test_a_crash_in_ingest_is_a_dead_letter_with_its_place_in_the_log(start, erp, caplog, error) -> None:
    running = await start(erp.url)
    acme.faults["ingest"] = raising(error)
    status, said = await running.deliver(acme.body("o1"))
    assert (status, said["status"]) == (400, "unreadable")
    (record,) = [r for r in caplog.records if r.getMessage() == "plugin.failed"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert record.exc_info[1].__cause__ is error
    kept = await dead_letter(running)
    assert kept["body"] == acme.body("o1")
    assert type(error).__name__ in kept["reason"]
    assert "Jane Doe" not in kept["reason"]
    acme.faults.clear()
    assert (await running.deliver(acme.body("o2")))[0] == 200
    await erp.wait_for(1)


async def test_a_body_that_is_nested_too_deeply_is_a_dead_letter(start, erp) -> None:
    running = await start(erp.url)
    acme.faults["ingest"] = raising(RecursionError())
    assert (await running.deliver(acme.body("o1")))[0] == 400
    assert (await dead_letter(running))["reason"] == "cannot be read: nested too deeply"


async def test_ingest_may_not_ask_for_another_time(start, erp) -> None:
    running = await start(erp.url)
    for n, error in enumerate((TransientError("x"), AuthError("x"), Hold("x"))):
        acme.faults["ingest"] = raising(error)
        assert (await running.deliver(acme.body(f"o{n}")))[0] == 400
    assert all("which is not its to raise" in row["reason"] for row in await running.rows("inbox", status="dead"))


async def test_an_order_without_a_usable_identifier_is_a_dead_letter(start, erp) -> None:
    running = await start(erp.url)
    for key in ("", "x" * 201, "a\x00b", "line\nbreak", "\u202e"):
        assert (await running.deliver(acme.body(key)))[0] == 400
    dead = await running.rows("inbox", status="dead")
    assert ["usable identifier" in row["reason"] for row in dead] == [True] * 5


async def test_one_bad_item_of_several_is_a_dead_letter_and_the_others_are_stored(start, erp, monkeypatch) -> None:
    running = await start(erp.url)
    connector = running.gateway._runtime.sources["acme"].connector
    good = [acme.event(acme.body(ref)) for ref in ("o1", "o2")]
    bad = [Unreadable(document=b"bad item", reason="not of ours"), acme.event(acme.body("x" * 201))]
    call, came = connector._hooks.call, [bad[0], good[0], bad[1], good[1]]
    monkeypatch.setattr(connector._hooks, "call", lambda hook, **given: came if hook == "ingest" else call(hook, **given))
    assert await running.deliver(b"{}") == (200, {"status": "stored", "key": "o1"})
    await erp.wait_for(2)
    assert {row["reason"] for row in await running.rows("inbox", status="dead")} == {
        "not of ours",
        "an order without a usable identifier (empty, longer than 200 characters, or not printable)",
    }
    assert await received(running, "stored") == await received(running, "unreadable") == 2
    came = [bad[0]]
    assert (await running.deliver(b"{}"))[0] == 400  # nothing of it was taken, and the sender must know


async def test_a_replayed_dead_letter_goes_through_once_the_connector_can_read_it(start, erp) -> None:
    running = await start(erp.url)
    acme.faults["ingest"] = raising(PermanentError("not in this version"))
    await running.deliver(acme.body("o1"))
    acme.faults.clear()
    (row,) = await running.rows("inbox", status="dead")
    await running.gateway._store.replay([row["row"]], "tester")
    await erp.wait_for(1)
    assert erp.messages()[0]["order"]["order_ref"] == "o1"


# --- 413, 408


async def test_a_declared_length_over_the_limit_is_413_before_a_byte_of_it_came(start, erp) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.vendors.port) as line:
        await line.send(post(length=1048577))
        reply = await line.reply()
        assert reply is not None
        assert (reply.status, msgspec.json.decode(reply.body)) == (413, {"status": "too long", "limit_bytes": 1048576})
        assert reply.headers["connection"] == "close"
    assert await nothing_stored(running)


async def test_a_chunked_body_over_the_limit_is_413_before_its_end(start, erp) -> None:
    running = await start(erp.url)
    head = b"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with wire(running.gateway.vendors.port) as line:
        await line.send(head, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 17)
        reply = await line.reply()
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (413, "close")


async def test_a_body_of_just_the_limit_is_read(start, erp) -> None:
    running = await start(erp.url)
    for size, status in ((1048576, 200), (1048577, 413)):
        async with wire(running.gateway.vendors.port) as line:
            await line.send(signed(running, acme.body("o1").ljust(size)))
            reply = await line.reply()
        assert reply is not None
        assert reply.status == status


async def test_a_chunked_order_is_taken_like_any_other(start, erp) -> None:
    running = await start(erp.url)
    body = acme.body("o1")
    proof = acme.sign(secret(running), body)
    head = f"POST /in/acme HTTP/1.1\r\nHost: gateway\r\nX-Acme-Signature: {proof}\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with wire(running.gateway.vendors.port) as line:
        await line.send(head.encode(), *(b"1\r\n%c\r\n" % byte for byte in body), b"0\r\n\r\n")
        reply = await line.reply()
    assert reply is not None
    assert reply.status == 200


async def test_a_compressed_body_is_verified_as_it_was_sent(start, erp) -> None:
    running = await start(erp.url)
    body = acme.body("o1")
    async with wire(running.gateway.vendors.port) as line:
        await line.send(signed(running, body, headers="Content-Encoding: gzip\r\n"))
        reply = await line.reply()
    assert reply is not None
    assert reply.status == 200


async def test_an_address_may_stand_whole_in_the_request_line(start, erp) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.vendors.port) as line:
        await line.send(signed(running, acme.body("o1"), path="http://gateway.example/in/acme?x=1"))
        reply = await line.reply()
    assert reply is not None
    assert reply.status == 200


# --- 404, 405


async def test_an_unknown_source_and_one_without_a_webhook_are_404(start, erp) -> None:
    running = await start(erp.url, source='doors = ["poll"]')
    assert (await running.deliver(acme.body("o1")))[0] == 404
    assert (await running.deliver(acme.body("o1"), source="nobody")) == (404, {"status": "unknown source"})


async def test_another_method_is_405(start, erp) -> None:
    running = await start(erp.url)
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        async with running.session.request(method, f"{running.vendors_url}/in/acme") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_nothing_else_lives_on_the_vendors_side(start, erp) -> None:
    running = await start(erp.url)
    for path in ("/", "/in", "/in/", "/in/acme/", "/in/acme/x", "/healthz", "/metrics", "/api/status", "/control"):
        async with running.session.post(running.vendors_url + path) as answer:
            assert answer.status == 404, path


# --- 503


async def test_a_store_that_refuses_is_503_with_retry_after(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._store.look_at_disk = lambda: None  # it would see that there is room
    running.gateway._store.refusing = "the disk is nearly full"
    body = acme.body("o1")
    async with wire(running.gateway.vendors.port) as line:
        await line.send(signed(running, body))
        reply = await line.reply()
        assert reply is not None
        assert (reply.status, reply.body, reply.headers["retry-after"]) == (503, b'{"status":"try again later"}', "30")
        running.gateway._store.refusing = None
        await line.send(signed(running, body))
        again = await line.reply()
        assert again is not None
        assert again.status == 200
    assert await received(running, "busy") == 1


async def test_a_commit_that_fails_is_never_a_2xx(start, erp, monkeypatch) -> None:
    running = await start(erp.url, source='doors = ["webhook"]')
    for error in (StoreBusy("locked", retry_after_s=5), StoreError("odd"), StoreFailed("I/O error")):
        monkeypatch.setattr(running.gateway._store, "accept", later_raising(error))
        assert await running.deliver(acme.body("o1")) == (503, {"status": "try again later"})
        assert (await running.deliver(b"unreadable"))[0] == 503


def later_raising(error: Exception) -> Any:
    async def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    return fail


async def test_a_disk_that_hangs_is_503_and_the_order_is_a_repeat_afterwards(start, erp, monkeypatch) -> None:
    monkeypatch.setattr(webhook, "COMMIT_TIMEOUT_S", 0.05)
    running = await start(erp.url)
    with stuck_disk(running):
        assert (await running.deliver(acme.body("o1")))[0] == 503
    # That commit came late, and its order goes on; the sender's next try is a repeat of it.
    assert await running.deliver(acme.body("o1")) == (200, {"status": "stored", "key": "o1"})
    assert await received(running, "repeat") == 1
    await erp.wait_for(1)


def test_a_commit_may_take_three_seconds_and_no_longer() -> None:
    assert COMMIT_TIMEOUT_S == 3.0


async def test_a_gateway_that_is_shutting_down_is_503_with_retry_after(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._door.closing = True
    async with wire(running.gateway.vendors.port) as line:
        await line.send(signed(running, acme.body("o1")))
        reply = await line.reply()
    assert reply is not None
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert await nothing_stored(running)


async def test_what_was_being_answered_at_sigterm_is_answered(start, erp) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.vendors.port) as line:
        with stuck_disk(running) as let_go:
            await line.send(signed(running, acme.body("o1")))
            await running.until(lambda: in_progress(running))
            stopping = asyncio.ensure_future(running.stop())
            await running.until(lambda: is_closing(running))
            let_go()
            reply = await line.reply()
        assert reply is not None
        assert reply.status == 200
        assert await stopping == 0


async def in_progress(running: Any) -> bool:
    return any(handler._request_in_progress for handler in running.gateway.vendors._runner.server.connections)


async def is_closing(running: Any) -> bool:
    return bool(running.gateway._door.closing)


async def test_a_source_that_floods_is_slowed_down(start, erp) -> None:
    running = await start(erp.url, source="max_requests_per_second = 3")
    statuses = [status for status, _ in await asyncio.gather(*(running.deliver(acme.body(f"o{n}")) for n in range(30)))]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= 6  # at the most two seconds' worth


# --- senders that go away


async def test_a_sender_that_hangs_up_before_the_answer_has_its_order_stored(start, erp) -> None:
    running = await start(erp.url)
    with stuck_disk(running):
        async with wire(running.gateway.vendors.port) as line:
            await line.send(signed(running, acme.body("o1")))
            await running.until(lambda: in_progress(running))
            line.reset()
        await running.until(lambda: nobody_connected(running))
    await erp.wait_for(1)
    assert await running.deliver(acme.body("o1")) == (200, {"status": "stored", "key": "o1"})


async def nobody_connected(running: Any) -> bool:
    return all(handler.transport is None for handler in running.gateway.vendors._runner.server.connections)


async def test_a_sender_that_hangs_up_inside_the_body_is_no_error_of_ours(start, erp, caplog) -> None:
    running = await start(erp.url)
    async with wire(running.gateway.vendors.port) as line:
        await line.send(post(b"{", length=100))
        await running.until(lambda: in_progress(running))
        line.reset()
    await running.until(lambda: nobody_connected(running))
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert await nothing_stored(running)
