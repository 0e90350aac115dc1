"""What a poll makes of SuperCat's answers. The numbers of the edge cases are those of vendors/supercat.md, section 4."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from gateway_supercat.answer import records
from gateway_supercat.simulator import SupercatSimulator

from gateway import AuthError, Event, PermanentError, TransientError, Unreadable, Url
from gateway.testing import ManualClock

FAILURES = {
    "failure": (TransientError, "SuperCat says failure: constructed: temporarily unavailable"),
    "error": (TransientError, "SuperCat answers 500: constructed: temporarily unavailable"),
    "page": (TransientError, "a page for people"),
    "sign_in": (AuthError, "sign-in page; check org, username and password"),
    "redirect": (PermanentError, "redirects .302. to elsewhere.example/maintenance, which is not followed"),
    "truncated": (PermanentError, "breaks off"),
    "broken_off": (TransientError, "the answer breaks off"),
    "no_data": (PermanentError, "lacks data"),
    "unavailable": (TransientError, "answers 503"),
}


async def test_a_poll_brings_everything_that_is_not_marked_oldest_first(simulator: SupercatSimulator, side: Any) -> None:
    ids = [simulator.submit() for _ in range(12)]
    simulator.edit(ids[3], id=str(ids[3]))
    simulator.submitted[ids[5]].marked_by = "gateway"
    assert await (await side()).ids() == [id for id in ids if id != ids[5]]


async def test_an_idle_poll_brings_nothing(side: Any) -> None:
    assert await (await side()).poll() == []


async def test_a_bare_list_is_taken_as_well(simulator: SupercatSimulator, side: Any) -> None:
    id = simulator.submit()
    simulator.fail_next("bare")
    assert await (await side()).ids() == [id]


@pytest.mark.parametrize("fault", FAILURES)
async def test_case_13_14_15_a_poll_that_failed_stores_nothing_and_marks_nothing(
    simulator: SupercatSimulator, bench: Any, fault: Any
) -> None:
    kind, said = FAILURES[fault]
    simulator.submit()
    made = await bench()
    simulator.fail_next(fault)
    with pytest.raises(kind, match=said):
        await made.source.connector.poll(None, made.clock.now(), made.clock.now(), made.source.client)
    simulator.fail_next(fault)
    await made.poller.round()
    assert made.door()[0] == "down"
    assert await made.inbox() == []
    await made.acknowledged()
    assert simulator.posted == []
    assert len(await made.round()) == 1
    assert made.door()[0] == "up"


async def test_case_14_credentials_do_not_follow_a_redirect(simulator: SupercatSimulator, side: Any) -> None:
    heard: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.json_response([])

    application = web.Application()
    application.router.add_get("/{path:.*}", elsewhere)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{runner.addresses[0][1]}/users/sign_in?next=secret"})

    lost = web.Application()
    lost.router.add_get("/{path:.*}", redirect)
    second = web.AppRunner(lost)
    await second.setup()
    await web.TCPSite(second, "127.0.0.1", 0).start()
    try:
        made = await side(base_url=Url(f"http://127.0.0.1:{second.addresses[0][1]}"))
        with pytest.raises(AuthError, match=r"redirects \(307\) to 127.0.0.1/users/sign_in") as refused:
            await made.poll()
        assert "secret" not in str(refused.value)
    finally:
        await second.cleanup()
        await runner.cleanup()
    assert heard == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "breaks off"),
        (b"{}", "lacks status and error and data"),
        (b'{"status": "success", "data": []}', "lacks error"),
        (b'{"error": null, "data": []}', "lacks status"),
        (b'{"status": null, "error": null, "data": []}', "says nothing: nothing"),
        (b'{"status": "success", "error": null, "data": {}}', "breaks off"),
        (b'{"status": "success", "error": null, "data": 7}', "breaks off"),
        (b'{"status": "error", "error": "a\\nb\\u0000c", "data": [{}]}', "says error: a bc$"),
        (b'{"status": "failure", "error": {"a": 1}, "data": null}', "says failure: nothing"),
        (b'"success"', "breaks off"),
        (b"\xff\xfe", "breaks off"),
        (b"{" * 100_000, "breaks off"),
        (b"[" * 100_000, "breaks off"),
    ],
)
def test_case_13_an_answer_of_another_shape_is_a_failed_poll(body: bytes, problem: str) -> None:
    with pytest.raises((TransientError, PermanentError), match=problem):
        records(body)


def test_an_answer_may_have_a_mark_of_its_byte_order_and_no_list_where_there_is_nothing() -> None:
    assert records(b'\xef\xbb\xbf {"status": "Success", "error": "", "data": null}\n') == []
    assert records(b" [ ] ") == []


def test_case_15_an_answer_cut_anywhere_brings_nothing() -> None:
    body = b'{"status": "success", "error": null, "data": [{"id": 1, "a": "\\"]}"}, {"id": NaN, "b": [{}]}]}'
    assert records(body) == [b'{"id": 1, "a": "\\"]}"}', b'{"id": NaN, "b": [{}]}']
    for whole in (body, body.replace(b"NaN", b"2")):
        for end in range(len(whole)):
            with pytest.raises((TransientError, PermanentError)):
                records(whole[:end])
    bare = body[body.index(b"[") : -1]
    for end in range(len(bare)):
        with pytest.raises(PermanentError):
            records(bare[:end])


@pytest.mark.parametrize(
    "poison",
    [b'{"id": NaN}', b'{"id": 1, "note": "\\ud800"}', b'{"a": ' * 2000 + b"1" + b"}" * 2000, b'{"a": 01}', b'{"a" 1}', b"undefined"],
)
async def test_one_record_that_is_poison_does_not_stop_the_others(simulator: SupercatSimulator, side: Any, poison: bytes) -> None:
    good = simulator.submit(), simulator.submit()
    simulator.submitted[simulator.submit()].raw = poison
    made = await side()
    for bare in (False, True):
        if bare:
            simulator.fail_next("bare")
        dead, *events = await made.poll()
        assert isinstance(dead, Unreadable)
        assert dead.document == poison
        assert [int(event.key) for event in events] == list(good)


def test_a_failure_with_poison_in_its_data_is_still_a_failure() -> None:
    with pytest.raises(TransientError, match="says failure: no"):
        records(b'{"status": "failure", "error": "no", "data": [{"id": NaN}]}')


async def test_case_15_a_huge_first_download_leaves_others_their_turn(simulator: SupercatSimulator, side: Any) -> None:
    template = simulator.submitted[simulator.submit(note="x" * 2000)].text()
    first = next(iter(simulator.submitted))
    for id in range(first + 1, first + 5000):
        simulator.submitted[id] = type(simulator.submitted[first])(record={}, raw=template.replace(str(first).encode(), str(id).encode()))
    longest, stop = 0.0, False

    async def ticks() -> None:
        nonlocal longest
        while not stop:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    made = await side()
    ticking = asyncio.create_task(ticks())
    began = time.perf_counter()
    events = await made.poll()
    took, stop = time.perf_counter() - began, True
    await ticking
    assert len(events) == 5000
    assert longest < took / 2  # read on the event loop, it is nearly all of it


async def test_case_15_an_answer_over_the_limit_is_a_failed_poll(simulator: SupercatSimulator, side: Any) -> None:
    simulator.submit(note="x" * 5000)
    with pytest.raises(PermanentError, match="longer than 2048 bytes"):
        await (await side(max_response_bytes=2048)).poll()


def test_case_15_the_limits_are_the_vendor_pages(connector: Any, settings: Any) -> None:
    api = connector(settings()).api()
    assert (api.timeout_s, api.max_response_bytes, api.stop_after_auth_failures) == (120, 50 * 1024**2, 2)


async def test_the_path_is_the_vendors_and_the_login_travels_in_a_header_only(
    simulator: SupercatSimulator, side: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = await side()
    api = made.connector.api()
    await made.poll()
    assert simulator.asked == 1
    assert "constructed-password" not in api.base_url + made.connector.settings.list_at() + repr(made.connector.settings) + caplog.text
    assert made.connector.settings.list_at() == "demo/ext/v2/orders/new_orders"


async def test_headers_of_the_settings_are_sent(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = SupercatSimulator._refused

    def look(self: Any, request: web.Request) -> Any:
        seen.append(request.headers)
        return original(self, request)

    monkeypatch.setattr(SupercatSimulator, "_refused", look)
    await (await side(headers={"User-Agent": "gateway for Example Ltd"})).poll()
    assert seen[0]["User-Agent"] == "gateway for Example Ltd"


async def test_the_account_is_not_locked_by_a_wrong_password(simulator: SupercatSimulator, bench: Any) -> None:
    """Two refusals, and nothing more until the secret changes, SIGHUP, or `gateway resume` (which reset the client)."""
    made = await bench()
    simulator.password = "another one"
    id = simulator.submit()
    for _ in range(5):
        assert await made.poller.round() >= 900
    await made.acknowledged()
    assert simulator.bad_sign_ins == 2
    assert made.door()[0] == "down"
    assert "refused the credentials 2 times" in made.door()[1]
    assert "gateway resume" in made.door()[1]
    simulator.password = "constructed-password"
    made.source.client.reset()
    assert [message["order"]["references"]["supercat_id"] for message in await made.round()] == [str(id)]


async def test_nothing_is_asked_in_quiet_hours(simulator: SupercatSimulator, side: Any, clock: ManualClock) -> None:
    made = await side(quiet_hours="22:00-06:00")  # 12:00 UTC is 08:00 in New York
    await made.poll()
    assert simulator.asked == 1
    clock.jump(15 * 3600)
    assert await made.poll() == []
    assert simulator.asked == 1


@pytest.mark.parametrize(
    ("hours", "quiet"), [("22:00-02:00", [0, 1, 22, 23]), ("01:00-03:00", [1, 2]), ("00:00-00:00", []), ("05:00-05:30", [5])]
)
def test_quiet_hours_may_go_past_midnight(settings: Any, hours: str, quiet: list[int]) -> None:
    made = settings(quiet_hours=hours, time_zone="UTC")
    assert [hour for hour in range(24) if made.is_quiet(datetime(2024, 4, 1, hour, tzinfo=UTC))] == quiet


def test_case_17_answers_in_any_spelling_are_the_same_texts() -> None:
    text = 'Señor "Ñ"\t🛋\n'
    for ascii_only in (True, False):
        body = json.dumps({"status": "success", "error": None, "data": [{"name": text}]}, ensure_ascii=ascii_only).encode()
        assert json.loads(records(body)[0]) == {"name": text}


async def test_an_event_carries_the_bytes_as_they_stood_in_the_list(simulator: SupercatSimulator, side: Any) -> None:
    id = simulator.submit()
    raw = json.dumps(simulator.submitted[id].record, indent=3).encode()
    simulator.submitted[id].raw = raw
    (event,) = await (await side()).poll()
    assert isinstance(event, Event)
    assert event.document == raw
