"""One session with a hub: what it hears, and every way in which it can end."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from importlib.metadata import version
from typing import Any

import pytest
import signalrcore.messages.close_message  # type: ignore[import-untyped]
import signalrcore.messages.invocation_message  # type: ignore[import-untyped]
import signalrcore.messages.message_type  # type: ignore[import-untyped]
import signalrcore.messages.ping_message  # type: ignore[import-untyped]
import signalrcore.protocol.json_hub_protocol  # type: ignore[import-untyped]

from gateway import BearerAuth, QueryAuth, Secret
from gateway.edge.reconnect import Cause
from gateway.edge.signalr import decode
from gateway.testing.hub import END, FaultHub, Line, frame, invocation, record
from gateway.testing.hub.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from tests.edge.listening import KEY, fault_hub
from tests.edge.sessions import Listener, ending, http_session, session, try_once

# --- what it hears (C1, C10, C11, C16)


async def heard(hub: FaultHub, *raw: bytes) -> Listener:
    """What comes of these bytes, the connection still good afterwards."""

    async def send() -> None:
        for piece in raw:
            await hub.write(piece)
        await hub.send("last", 1)
        await hub.close(allow_reconnect=True)

    ended, listener = await try_once(hub, send)
    assert (ended.cause, listener.got.pop()) == ("closed", ("last", b"[1]"))
    return listener


@pytest.mark.parametrize("per_frame", [1, 50])
async def test_ten_thousand_events_in_order(per_frame: int) -> None:
    """C1."""
    async with fault_hub() as hub:

        async def send() -> None:
            await hub.burst(10_000, per_frame, "T", lambda n: [n])
            await hub.close()

        _, listener = await try_once(hub, send)
    assert listener.got == [("T", b"[%d]" % n) for n in range(10_000)]


async def test_arguments_stay_as_they_were_written() -> None:
    odd = b'[ 1.10, 12345678901234567890.123, 1e2, "\\u00e4\xc3\xa4", null, {"b":1, "a" : [2]} ]'
    async with fault_hub() as hub:
        listener = await heard(hub, frame(b'{"arguments":' + odd + b',"type":1,"target":"T","headers":{"x":"y"}}' + END))
    assert listener.got == [("T", odd)]


HEARD: dict[str, tuple[list[bytes], list[tuple[str, bytes]]]] = {
    "an unknown type": ([frame(record({"type": 99, "target": 7}) + invocation("T", 1))], [("T", b"[1]")]),
    "no type": ([frame(record({}) + record({"x": 1}) + invocation("T", 1))], [("T", b"[1]")]),
    "answers to calls that nobody made": (
        [frame(b"".join(record({"type": n, "invocationId": "1", "result": 1.5}) for n in (2, 3, 4, 5, 8, 9)) + invocation("T", 1))],
        [("T", b"[1]")],
    ),
    "an unknown target": ([frame(invocation("Whatever", 1))], [("Whatever", b"[1]")]),
    "extra fields": (
        [frame(record({"type": 1, "target": "T", "arguments": [1], "self": 1, "message_type": 2, "kwargs": {}, "error": "e", "x": None}))],
        [("T", b"[1]")],
    ),
    "a call that wants an answer": ([frame(record({"type": 1, "target": "T", "arguments": [1], "invocationId": "9"}))], [("T", b"[1]")]),
    "no arguments": ([frame(record({"type": 1, "target": "T"}))], [("T", b"[]")]),
    "arguments that are none": ([frame(record({"type": 1, "target": "T", "arguments": {"a": 1}}))], [("T", b'{"a":1}')]),
    "empty records": ([frame(END + END + invocation("T", 1) + END)], [("T", b"[1]")]),
    "several in one frame": ([frame(invocation("T", 1) + record({"type": 6}) + invocation("U", 2))], [("T", b"[1]"), ("U", b"[2]")]),
    "a record in two messages": ([frame(invocation("T", 1)[:9]), frame(invocation("T", 1)[9:])], [("T", b"[1]")]),
    "a line break in a text": ([frame(invocation("T", "a\nb"))], [("T", b'["a\\nb"]')]),
    "a binary frame": ([frame(invocation("T", 1), BINARY)], [("T", b"[1]")]),
    "fragments": (
        [frame(invocation("T", 1)[:7], TEXT, fin=False), frame(invocation("T", 1)[7:], CONTINUATION)],
        [("T", b"[1]")],
    ),
    "a pong between fragments": (
        [frame(invocation("T", 1)[:7], TEXT, fin=False) + frame(b"x", PONG) + frame(invocation("T", 1)[7:], CONTINUATION)],
        [("T", b"[1]")],
    ),
    "a pong that nobody asked for": ([frame(b"", PONG) + frame(b"x", PONG) + frame(invocation("T", 1))], [("T", b"[1]")]),
}


@pytest.mark.parametrize(("raw", "expected"), HEARD.values(), ids=HEARD)
async def test_what_is_odd_and_allowed_is_heard(raw: list[bytes], expected: list[tuple[str, bytes]]) -> None:
    """C10, C11."""
    async with fault_hub() as hub:
        assert (await heard(hub, *raw)).got == expected


async def test_a_text_split_inside_a_character_is_joined() -> None:
    whole = invocation("T", "Łucja ä €")
    cut = whole.index("ä".encode()) + 1
    async with fault_hub() as hub:
        listener = await heard(hub, frame(whole[:cut], TEXT, fin=False) + frame(whole[cut:], CONTINUATION))
    assert listener.got == [("T", '["Łucja ä €"]'.encode())]


async def test_web_socket_pings_are_answered() -> None:
    """C10."""
    async with fault_hub() as hub:
        listener = await heard(hub, frame(b"", PING) + frame(b"payload", PING) + frame(invocation("T", 1)))
        assert hub.lines[0].pongs == [b"", b"payload"]
    assert listener.got == [("T", b"[1]")]


async def test_events_in_the_frame_of_the_handshake_are_heard() -> None:
    """C16."""
    async with fault_hub() as hub:
        hub.welcome = [invocation("T", 1), record({"type": 6}), invocation("T", 2)]
        _, listener = await try_once(hub, hub.close)
    assert listener.got == [("T", b"[1]"), ("T", b"[2]")]


async def test_a_handshake_in_pieces_is_joined() -> None:
    async with fault_hub() as hub:
        hub.handshake = b""

        async def rest(line: Line) -> None:
            await line.write(frame(b"{"))
            await line.write(frame(b"}" + END + invocation("T", 1)))

        hub.then = rest
        ended, listener = await try_once(hub, hub.close)
    assert (ended.cause, listener.got) == ("close_no_reconnect", [("T", b"[1]")])


async def test_our_handshake_and_pings_are_the_protocols() -> None:
    async with fault_hub() as hub:
        listener = Listener()
        async with http_session() as http:
            task = asyncio.create_task(ending(session(hub.url, listener, http)))
            await hub.until(lambda: bool(hub.live))
            line, since = hub.live[0], time.monotonic()
            await hub.until(lambda: len(line.pings) >= 5)
            assert 0.5 < time.monotonic() - since < 10  # the first at once, then every 0.2 s
            await hub.close()
            await task
        assert line.handshake == {"protocol": "json", "version": 1}
        assert line.records == []


# --- limits (C11)


@pytest.mark.parametrize("more", [0, 1])
async def test_a_message_may_be_as_long_as_the_limit_and_a_longer_one_is_kept_unread(more: int) -> None:
    empty = len(invocation("T", "")) - 1
    text = "x" * (1024 * 1024 - empty + more)
    async with fault_hub() as hub:

        async def send() -> None:
            await hub.send("Before", 1)
            await hub.send("T", text)
            await hub.send("Behind", 1)
            await hub.close(allow_reconnect=True)

        ended, listener = await try_once(hub, send)
    assert (ended.cause, [target for target, _ in listener.got]) == ("closed", ["Before", "Behind"] if more else ["Before", "T", "Behind"])
    assert [(record[-30:], reason) for record, reason in listener.bad] == [
        (invocation("T", text)[:-1][-30:], "a message is longer than 1048576 bytes")
    ] * more


@pytest.mark.parametrize(
    "raw",
    [
        frame(b"x" * 3000),
        frame(b"x" * 1500) + frame(b"x" * 1500),
        frame(b"x" * 1500, TEXT, fin=False) + frame(b"x" * 1500, CONTINUATION),
        b"\x81\x7f" + struct.pack(">Q", 2**40),
    ],
    ids=["one message", "a record over several messages", "fragments", "a length of a terabyte"],
)
async def test_an_endless_message_ends_the_session(raw: bytes) -> None:
    async with fault_hub() as hub:
        ended, _ = await try_once(hub, lambda: hub.write(raw), max_message_bytes=1000)
    assert ended.cause == "protocol"


# --- what makes no sense (C11)

BROKEN = {
    "bad JSON": b'{"type":1,',
    "no object": b"[1]",
    "a type that is a text": b'{"type":"1","target":"T","arguments":[]}',
    "a call without a target": b'{"type":1,"arguments":[]}',
    "a target that is a number": b'{"type":1,"target":7,"arguments":[]}',
    "a target that is no Unicode": b'{"type":1,"target":"\xff","arguments":[]}',
    "half a surrogate": b'{"type":1,"target":"T","arguments":["cut \\ud83d"]}',
    "a number that is none": b'{"type":1,"target":"T","arguments":[NaN]}',
    "a control character": b'{"type":1,"target":"T","arguments":["a\x01b"]}',
    "nested without end": b'{"type":1,"target":"T","arguments":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a close message that cannot be read": b'{"type":7,"error":NaN}',
}


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
async def test_a_broken_record_is_kept_with_its_bytes_and_those_round_it_are_heard(bad: bytes) -> None:
    async with fault_hub() as hub:
        listener = await heard(hub, frame(invocation("T", 1) + bad + END + invocation("T", 2)), frame(invocation("T", 3)))
    assert listener.got == [("T", b"[1]"), ("T", b"[2]"), ("T", b"[3]")]
    ((kept, reason),) = listener.bad
    assert kept == bad
    assert reason.startswith("a record that is not the hub protocol's: ")
    assert "cut" not in reason


async def test_a_hub_that_sends_nothing_but_nonsense_is_left_after_a_hundred_records() -> None:
    async with fault_hub() as hub:
        ended, listener = await try_once(hub, lambda: hub.write(frame((b"{" + END) * 60 + invocation("T", 1) + (b"{" + END) * 101)))
    assert (ended.cause, len(listener.bad), listener.got) == ("protocol", 160, [("T", b"[1]")])
    assert "more than 100 records in a row" in ended.reason


BAD = {
    "a reserved bit": b"\xc1\x00",
    "an unknown opcode": b"\x83\x00",
    "a continuation of nothing": frame(b"x", CONTINUATION),
    "a long ping": frame(b"x" * 126, PING),
    "a close code that is none": frame(struct.pack(">H", 1005), CLOSE),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
async def test_what_makes_no_sense_ends_the_session_and_takes_nothing_good_with_it(raw: bytes) -> None:
    async with fault_hub() as hub:
        ended, listener = await try_once(hub, lambda: hub.write(frame(invocation("T", 1) + invocation("T", 2)) + raw))
    assert (ended.cause, listener.got) == ("protocol", [("T", b"[1]"), ("T", b"[2]")])


# --- endings (C3)


async def rst(hub: FaultHub) -> None:
    hub.live[0].rst()


async def fin(hub: FaultHub) -> None:
    hub.live[0].fin()


ENDINGS: dict[str, tuple[Any, Cause, str]] = {
    "FIN": (fin, "broken", "ended without a word"),
    "RST": (rst, "broken", "the connection"),
    "a close frame": (lambda hub: hub.write(frame(struct.pack(">H", 1001) + b"bye", CLOSE)), "closed", r"\(1001\): bye"),
    "an empty close frame": (lambda hub: hub.write(frame(b"", CLOSE)), "closed", r"\(1005\)"),
    "Close alone": (lambda hub: hub.close(), "close_no_reconnect", "does not allow a reconnect$"),
    "Close and no close frame": (lambda hub: hub.close(code=None), "close_no_reconnect", "does not allow a reconnect$"),
    "Close true": (lambda hub: hub.close(allow_reconnect=True), "closed", "the hub closes$"),
    "Close false": (lambda hub: hub.close(allow_reconnect=False), "close_no_reconnect", "does not allow a reconnect$"),
    "Close with an error": (lambda hub: hub.close("no\nmore"), "close_no_reconnect", "a reconnect: no more$"),
    "Close true with an error": (lambda hub: hub.close("slow client", True), "closed", "the hub closes: slow client$"),
    "Close with rubbish in it": (
        lambda hub: hub.write(frame(record({"type": 7, "error": [1], "allowReconnect": "true"}))),
        "close_no_reconnect",
        r"\[1\]$",
    ),
    "the process ends": (lambda hub: hub.stop(), "broken", "ended without a word"),
}


@pytest.mark.parametrize(("end", "cause", "reason"), ENDINGS.values(), ids=ENDINGS)
async def test_every_ending_is_told_apart(end: Any, cause: Cause, reason: str) -> None:
    async with fault_hub() as hub:
        ended, _ = await try_once(hub, lambda: end(hub))
    assert (ended.cause, bool(re.search(reason, ended.reason))) == (cause, True), ended.reason


async def test_what_came_before_the_end_is_heard_however_long_it_takes() -> None:
    """Our pings fail long before the reader has come to the end of what was sent."""
    slow = asyncio.Event()

    class Slow(Listener):
        async def on_call(self, target: str, arguments: bytes) -> None:
            await super().on_call(target, arguments)
            await slow.wait()

    listener = Slow()
    async with fault_hub() as hub, http_session() as http:
        task = asyncio.create_task(ending(session(hub.url, listener, http, keep_alive_s=0.02)))
        await hub.until(lambda: listener.was_online)
        await hub.burst(100, 1, "T", lambda n: [n])
        await hub.stop()
        await asyncio.sleep(0.3)
        assert not task.done()
        slow.set()
        assert ((await task).cause, len(listener.got)) == ("broken", 100)


async def test_a_hub_that_says_nothing_any_more_is_given_up_after_the_server_timeout() -> None:
    async with fault_hub(ping_s=0, client_timeout_s=30) as hub:
        began = time.monotonic()
        ended, _ = await try_once(hub)
        assert (ended.cause, hub.lines[0].online) == ("silent", True)
        assert 0.9 < time.monotonic() - began < 10


# --- deadlines (C5)


@pytest.mark.parametrize(
    ("mute", "cause"),
    [
        ("connect", "no_answer"),
        ("negotiate", "no_answer"),
        ("upgrade", "no_answer"),
        ("handshake", "no_answer"),
        ("half_header", "no_answer"),
        ("half_frame", "silent"),
    ],
)
async def test_a_hub_that_stops_half_way_is_given_up_at_the_deadline(mute: Any, cause: Cause) -> None:
    async with fault_hub(client_timeout_s=30) as hub:
        hub.mute = mute
        began = time.monotonic()
        ended, _ = await try_once(hub, connect_timeout_s=0.3, server_timeout_s=0.3)
        assert ended.cause == cause
        assert 0.2 < time.monotonic() - began < 10


async def test_the_deadline_is_one_for_all_steps() -> None:
    async with fault_hub() as hub:
        hub.delays_s = {"negotiate": 0.2, "upgrade": 0.2, "handshake": 0.2}
        began = time.monotonic()
        ended, _ = await try_once(hub, connect_timeout_s=0.5)
        assert (ended.cause, ended.reason) == ("no_answer", "not online within 0.5 s")
        assert time.monotonic() - began < 10


async def test_nothing_there_is_unreachable() -> None:
    async with fault_hub() as hub:
        url = hub.url
    ended, _ = await try_once(url)
    assert (ended.cause, ended.reason) == ("unreachable", "no connection: connection refused")


async def test_a_host_without_an_address_is_unreachable() -> None:
    ended, _ = await try_once("http://no-such-host.invalid/hub?key=canary")
    assert (ended.cause, "canary" in str(ended)) == ("unreachable", False)


# --- statuses (C6)

STATUSES: dict[int, Cause] = {
    401: "credential", 403: "credential", 404: "not_found", 429: "refused", 503: "refused", 500: "refused", 400: "refused",
    302: "refused", 308: "refused", 200: "no_answer",
}  # fmt: skip


@pytest.mark.parametrize("where", ["negotiate", "upgrade"])
@pytest.mark.parametrize(("status", "cause"), STATUSES.items())
async def test_every_status_is_told_apart(where: Any, status: int, cause: Cause) -> None:
    async with fault_hub() as hub, fault_hub(key=None) as elsewhere:
        hub.refuse(where, status, body=b"x" * 98 + b"101", times=9, retry_after="7", location=elsewhere.url, x_date="101 101")
        ended, listener = await try_once(hub)
        if status == 200:
            cause = "not_a_hub" if where == "negotiate" else "refused"
        assert (ended.cause, listener.was_online, len(elsewhere.heard)) == (cause, False, 0)
        assert ended.retry_after_s == (None if status == 200 and where == "negotiate" else 7)
        assert len(hub.heard) == (1 if where == "negotiate" else 2)


async def test_without_retry_after_nothing_is_asked() -> None:
    async with fault_hub() as hub:
        hub.refuse("negotiate", 503)
        ended, _ = await try_once(hub)
    assert ended.retry_after_s is None


async def test_an_upgrade_without_the_right_proof_is_none() -> None:
    async with fault_hub() as hub:
        hub.refuse("upgrade", 101, upgrade="websocket", connection="upgrade", sec_websocket_accept="bm90IHRoaXM=")
        ended, _ = await try_once(hub)
    assert (ended.cause, ended.reason) == ("no_answer", "the answer is no WebSocket's")


# --- negotiation (C9)


async def test_the_key_goes_on_both_requests() -> None:
    async with fault_hub() as hub:
        await try_once(hub, hub.close)
        assert [(one.where, one.headers["x-api-key"]) for one in hub.heard] == [("negotiate", KEY), ("upgrade", KEY)]
        assert hub.heard[0].headers["content-length"] == "0"


@pytest.mark.parametrize("auth", ["query", "bearer"])
async def test_the_key_can_be_a_parameter_or_a_token(auth: str) -> None:
    secret = Secret("a b&c=d/ä", origin="test") if auth == "query" else Secret(KEY, origin="test")
    async with fault_hub(key=secret.reveal(), key_in="query:code" if auth == "query" else "bearer") as hub:
        ended, _ = await try_once(
            hub, hub.close, auth=QueryAuth(name="code", value=secret) if auth == "query" else BearerAuth(token=secret)
        )
        assert (ended.cause, len(hub.heard)) == ("close_no_reconnect", 2)


@pytest.mark.parametrize("versions", [(0, 1), (1,)])
async def test_either_version_of_negotiation_will_do(versions: tuple[int, ...]) -> None:
    async with fault_hub() as hub:
        hub.versions = versions
        ended, _ = await try_once(hub, hub.close)
    assert ended.cause == "close_no_reconnect"


async def test_a_hub_that_knows_no_version_is_taken_at_its_connection_id() -> None:
    async with fault_hub() as hub:
        hub.versions = (0, 1)
        answer = hub._negotiate
        hub._negotiate = lambda one: answer(type(one)(one.where, one.method, one.path, {}, one.headers))  # type: ignore[method-assign, assignment]
        ended, _ = await try_once(hub, hub.close)
    assert ended.cause == "close_no_reconnect"


async def test_a_query_in_the_url_goes_along() -> None:
    async with fault_hub() as hub:
        hub.then = lambda _: hub.close()
        await try_once(hub.url + "?tenant=a%2Fb")
        assert hub.heard[0].query == {"tenant": "a/b", "negotiateVersion": "1"}
        assert (hub.heard[1].query["tenant"], sorted(hub.heard[1].query)) == ("a/b", ["id", "tenant"])


async def test_the_load_balancers_cookie_goes_on_the_upgrade_and_is_forgotten_afterwards() -> None:
    async with fault_hub() as hub, http_session() as http:
        hub.cookie = "affinity=n1"
        for _ in range(2):
            ended, _ = await try_once(hub, hub.close, http=http)
            assert ended.cause == "close_no_reconnect"
        assert ["cookie" in one.headers for one in hub.heard] == [False, True, False, True]


async def test_a_redirect_is_negotiated_again_there_with_its_own_token() -> None:
    async with fault_hub() as first, fault_hub(key="their-token", key_in="bearer", path="/client/") as second:
        second.path = "/client"
        first.redirect = (f"{second.url}?hub=orders", "their-token")
        for _ in range(2):
            ended, _ = await try_once(first, second.close)
            assert ended.cause == "close_no_reconnect"
        assert [one.where for one in first.heard] == ["negotiate", "negotiate"]
        assert [one.headers.get("x-api-key") for one in first.heard] == [KEY, KEY]
        assert [(one.where, one.query["hub"]) for one in second.heard] == [("negotiate", "orders"), ("upgrade", "orders")] * 2
        assert {one.headers["authorization"] for one in second.heard} == {"Bearer their-token"}
        assert not [one for one in second.heard if "x-api-key" in one.headers]


async def test_a_redirect_to_the_same_host_keeps_the_key() -> None:
    async with fault_hub() as hub:
        hub.path = "/other"
        answer = hub._answer

        def first(one: Any) -> Any:
            if one.path == "/hub/negotiate":
                return 200, f'{{"url": "{hub.url}"}}'.encode(), {}
            return answer(one)

        hub._answer = first  # type: ignore[method-assign, assignment]
        hub.then = lambda _: hub.close()
        ended, _ = await try_once(hub.url.replace("/other", "/hub"))
        assert (ended.cause, [one.headers["x-api-key"] for one in hub.heard]) == ("close_no_reconnect", [KEY] * 3)


NOT_A_HUB = {
    "no JSON": b"<html>sign in</html>",
    "a list": b"[]",
    "nothing": b"",
    "an error": b'{"error": "no such\\nhub"}',
    "no connection": b'{"negotiateVersion": 1, "availableTransports": [{"transport": "WebSockets"}]}',
    "no WebSockets": b'{"connectionId": "1", "availableTransports": [{"transport": "LongPolling"}]}',
    "classic SignalR": b'{"ConnectionToken": "x", "ProtocolVersion": "1.5", "TryWebSockets": true}',
    "a redirect to nowhere": b'{"url": "ftp://x", "accessToken": "y"}',
    "a redirect with a password": b'{"url": "https://user:pass@hub.example/"}',
    "too long": b"x" * 70_000,
    "nested without end": b'{"x":' * 100_000,
}


@pytest.mark.parametrize("body", NOT_A_HUB.values(), ids=NOT_A_HUB)
async def test_a_negotiation_that_makes_no_sense_is_a_matter_of_configuration(body: bytes) -> None:
    async with fault_hub() as hub:
        hub.negotiate_body = body
        ended, _ = await try_once(hub)
        assert (ended.cause, len(hub.heard), ended.reason.isprintable()) == ("not_a_hub", 1, True)


async def test_a_redirect_without_end_is_given_up() -> None:
    async with fault_hub() as hub:
        hub.redirect = (hub.url, "again")
        ended, _ = await try_once(hub)
        assert (ended.cause, ended.reason, len(hub.heard)) == ("not_a_hub", "the negotiation redirects more than 5 times", 6)


@pytest.mark.parametrize("answer", [b'{"error":"The protocol is not supported."}', b"{", b"[]", b"null", b"7", b'{"error": 5}', b"\xff"])
async def test_a_refused_handshake_is_a_matter_of_configuration(answer: bytes) -> None:
    async with fault_hub() as hub:
        hub.handshake = answer + END
        ended, listener = await try_once(hub)
        assert (ended.cause, listener.was_online) == ("not_a_hub", False)


async def test_a_handshake_answer_without_end_is_not_read_for_ever() -> None:
    async with fault_hub() as hub:
        hub.handshake = b"x" * 5000
        ended, _ = await try_once(hub, max_message_bytes=1000)
        assert ended.cause == "protocol"


async def test_events_before_a_handshake_are_no_handshake() -> None:
    async with fault_hub() as hub:
        hub.handshake = invocation("T", 1)
        ended, listener = await try_once(hub)
    assert (ended.cause, listener.got) == ("not_a_hub", [])


async def test_without_negotiation_the_web_socket_is_opened_at_once() -> None:
    async with fault_hub() as hub:
        ended, _ = await try_once(hub, hub.close, negotiate=False)
        assert (ended.cause, [(one.where, one.query) for one in hub.heard]) == ("close_no_reconnect", [("upgrade", {})])


# --- stopping (C14)


async def test_a_cancelled_session_says_goodbye_and_leaves_nothing() -> None:
    async with fault_hub() as hub, http_session() as http:
        before = len(asyncio.all_tasks())
        task = asyncio.create_task(session(hub.url, Listener(), http).run())
        await hub.until(lambda: bool(hub.live))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await hub.until(lambda: hub.lines[0].close_code == 1000)
        await hub.until(lambda: len(asyncio.all_tasks()) <= before)


# --- signalrcore (C19)

EXAMPLES: list[tuple[bytes, tuple[Any, ...]]] = [
    # HubProtocol.md, "JSON Encoding": the examples of what a server may send to a client
    (b'{"type": 1, "invocationId": "123", "target": "Send", "arguments": [42, "Test Message"]}', ("Send", b'[42, "Test Message"]')),
    (b'{"type": 1, "target": "Send", "arguments": [42, "Test Message"]}', ("Send", b'[42, "Test Message"]')),
    (b'{"type": 2, "invocationId": "123", "item": 42}', ("ping",)),
    (b'{"type": 3, "invocationId": "123", "result": 42, "error": "It didn\'t work!"}', ("ping",)),
    (b'{"type": 6}', ("ping",)),
    (b'{"type": 7}', ("close", None, None)),
    (b'{"type": 7, "error": "Connection closed because of an error!", "allowReconnect": true}',
     ("close", "Connection closed because of an error!", True)),
    (b'{"type": 8, "sequenceId": 1394}', ("ping",)),
    (b'{"type": 9, "sequenceId": 1234}', ("ping",)),
    (b'{"type": 10}', ()),
]  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), EXAMPLES)
def test_the_examples_of_the_protocol_are_read(written: bytes, expected: tuple[Any, ...]) -> None:
    message = decode(written)
    if isinstance(message, signalrcore.messages.invocation_message.InvocationMessage):
        assert (message.target, message.arguments) == expected
    elif isinstance(message, signalrcore.messages.close_message.CloseMessage):
        assert ("close", message.error, message.allow_reconnect) == expected
    elif isinstance(message, signalrcore.messages.ping_message.PingMessage):
        assert expected == ("ping",)
    else:
        assert (message, expected) == (None, ())


def test_what_is_used_of_signalrcore_is_there() -> None:
    """Fails on an upgrade before anything else does."""
    assert version("signalrcore") == "1.0.2"
    protocol = signalrcore.protocol.json_hub_protocol.JsonHubProtocol(version=1)
    assert protocol.encode(protocol.handshake_message()) == '{"protocol": "json", "version": 1}\x1e'
    assert protocol.encode(signalrcore.messages.ping_message.PingMessage()) == '{"type": 6}\x1e'
    assert [protocol.decode_handshake(one)[0].error for one in ("{}\x1e", '{"error":"no"}\x1e')] == [None, "no"]
    kinds = {kind.name: kind.value for kind in signalrcore.messages.message_type.MessageType}
    assert (kinds["invocation"], kinds["ping"], kinds["close"], kinds["sequence"]) == (1, 6, 7, 9)
