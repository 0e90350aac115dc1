"""`/out/...` on a live gateway: every row of CONTRACT section 6. What the vendor says, the test says."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any

import pytest

from gateway.api.commands import Codes
from gateway.api.errors import StoreBusy, StoreFailed
from gateway.edge import submit
from gateway.engine.submit import Submit
from gateway.plugin import hook_runner
from gateway.store.submissions import SubmissionEnd
from tests import pharma
from tests.bad_commands import BAD, good
from tests.command_env import ANSWER, CODES, DEAD, DONE, ERP, HELD, TILL, Caller, caller, vendor_says, with_callers

END = SubmissionEnd(answer=ANSWER, codes=CODES)


@pytest.fixture(autouse=True)
def no_submit_step(monkeypatch) -> None:
    """The submit step is the test."""

    async def idle(_: Submit) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Submit, "run", idle)


@pytest.fixture
async def running(start, erp) -> Any:
    return await start(erp.url, more=with_callers())


# --- taken


async def test_a_command_is_committed_and_can_be_asked_for(running) -> None:
    erp = Caller(running)
    status, said, headers = await erp.submit_command()
    assert (status, said["state"]) == (202, "ready")
    assert set(said) == {"id", "state"}
    assert headers["Location"] == f"/out/{said['id']}"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "order-gateway"
    status, shown, headers = await erp.ask("GET", headers["Location"])
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert shown == {
        "id": said["id"],
        "source": "pharmacy",
        "command": "create_order",
        "state": "ready",
        "attempts": 0,
        "answer": None,
        "error": None,
    }


async def test_a_check_that_does_not_come_back_is_503_and_holds_up_nobody_else(running, monkeypatch: pytest.MonkeyPatch) -> None:
    connector, free = running.gateway._runtime.sources["pharmacy"].connector, threading.Event()
    erp = Caller(running)
    with monkeypatch.context() as patch:
        patch.setattr(connector, "check_command", lambda *_: free.wait())
        patch.setattr(hook_runner, "PATIENCE_S", 0.5)
        stuck = asyncio.create_task(erp.submit_command())
        while not stuck.done():
            assert (await running.get("/healthz"))[0] == 200
        status, _, headers = await stuck
    free.set()
    assert (status, headers["Retry-After"]) == (503, "30")
    assert (await erp.submit_command())[0] == 202


async def test_what_the_vendor_answers_is_given_to_the_byte(running) -> None:
    erp = Caller(running)
    _, said, _ = await erp.submit_command()
    await vendor_says(running, DONE, END)
    async with running.session.get(f"{erp.url}/out/{said['id']}", headers={"Authorization": f"Bearer {ERP}"}) as answer:
        text = await answer.read()
    assert b'"answer":' + ANSWER in text
    assert json.loads(text)["state"] == "done"


async def test_an_answer_that_is_no_json_is_a_text(running) -> None:
    erp = Caller(running)
    _, said, _ = await erp.submit_command()
    await vendor_says(running, DONE, SubmissionEnd(answer=b"OK \xff"))
    assert (await erp.ask("GET", f"/out/{said['id']}"))[1]["answer"] == "OK \ufffd"


async def test_who_waits_gets_the_vendors_answer(running) -> None:
    erp = Caller(running)
    waiting = asyncio.create_task(erp.submit_command(wait=30))
    await until_there(running)
    await vendor_says(running, DONE, END)
    status, said, headers = await waiting
    assert (status, headers["Preference-Applied"]) == (200, "wait=30")
    assert said == {"id": said["id"], "state": "done", "answer": json.loads(ANSWER)}
    assert headers["Location"] == f"/out/{said['id']}"


async def test_who_waits_hears_that_the_vendor_refuses(running) -> None:
    waiting = asyncio.create_task(Caller(running).submit_command(wait=30))
    await until_there(running)
    await vendor_says(running, DEAD)
    status, said, _ = await waiting
    assert (status, said["state"], said["error"]) == (200, "dead", "the vendor refuses it: no such pharmacy")


async def test_who_waits_hears_at_once_that_a_person_must_decide(running) -> None:
    waiting = asyncio.create_task(Caller(running).submit_command(wait=60))
    await until_there(running)
    await vendor_says(running, HELD)
    status, said, _ = await waiting
    assert (status, said["state"], said["error"]) == (202, "held", "a person decides")


async def until_there(running: Any) -> None:
    async def there() -> bool:
        return bool(await running.gateway._reader.rows("submit"))

    await running.until(there)


async def test_a_wait_that_runs_out_is_a_202(running) -> None:
    status, said, headers = await Caller(running).submit_command(wait=1)
    assert (status, said["state"], headers["Preference-Applied"]) == (202, "ready", "wait=1")


PREFERENCES = [
    ("wait=0", "wait=0"),
    ("respond-async, WAIT = 0; x=y", "wait=0"),
    ('wait="0", wait=50', "wait=0"),
    ("respond-async", None),
    ("wait=soon", None),
    ("wait=-1", None),
    ("wait=1.5", None),
    ("await=1", None),
]


async def test_how_long_a_erpwould_wait(running) -> None:
    for prefer, applied in PREFERENCES:
        status, _, headers = await Caller(running).submit_command(Prefer=prefer)
        assert (status, headers.get("Preference-Applied")) == (202, applied), prefer


async def test_nobody_waits_for_more_than_a_minute(running, monkeypatch) -> None:
    asked: list[float] = []

    async def ended(caller: str, id: str, timeout_s: float) -> None:
        asked.append(timeout_s)

    monkeypatch.setattr(running.gateway._store, "submission_ended", ended)
    _, _, headers = await Caller(running).submit_command(wait=3600)
    assert (asked, headers["Preference-Applied"]) == ([60], "wait=60")


async def test_a_store_that_fails_while_somebody_waits_takes_nothing_back(running, monkeypatch) -> None:
    async def ended(*_: Any) -> None:
        raise StoreBusy("closing")

    monkeypatch.setattr(running.gateway._store, "submission_ended", ended)
    assert (await Caller(running).submit_command(wait=5))[0] == 202


async def test_a_shutdown_answers_those_who_wait(running) -> None:
    waiting = asyncio.create_task(Caller(running).submit_command(wait=60))
    await until_there(running)
    assert await running.stop() == 0
    assert (await waiting)[0] == 202


# --- repeats


async def test_a_repeat_is_answered_as_before_with_the_state_of_now(running) -> None:
    erp = Caller(running)
    _, first, _ = await erp.submit_command(b'{"orderNumber":"1","articles":[{"scanCode":"1","quantityOrdered":1}]}')
    other_spelling = b'\n{ "articles": [ {"quantityOrdered": 1, "scanCode": "\\u0031"} ], "orderNumber": "1" }'
    status, again, headers = await erp.submit_command(other_spelling)
    assert (status, again, headers["Idempotent-Replayed"]) == (202, first, "true")
    await vendor_says(running, DONE, END)
    status, again, _ = await erp.submit_command(other_spelling)
    assert (status, again) == (202, {"id": first["id"], "state": "done", "answer": json.loads(ANSWER)})
    status, again, _ = await erp.submit_command(other_spelling, wait=10)
    assert (status, again["state"]) == (200, "done")
    assert len(await running.rows_of("submit")) == 1


async def test_a_key_stands_for_one_command(running) -> None:
    erp = Caller(running)
    _, first, _ = await erp.submit_command()
    for change in ({"body": good("create_order", relatedNotes="x")}, {"body": good(), "to": "pharmacy/create_recurrent_order"}):
        status, said, headers = await erp.submit_command(**change)
        assert (status, said["id"]) == (409, first["id"])
        assert "belongs to another command" in said["problem"]
        assert headers["Location"] == f"/out/{first['id']}"
    assert len(await running.rows_of("submit")) == 1


async def test_the_keys_of_two_callers_do_not_meet(running) -> None:
    _, first, _ = await Caller(running).submit_command()
    status, second, _ = await Caller(running, TILL).submit_command(to="kiosk/create_order")
    assert status == 202
    assert first["id"] != second["id"]


async def test_one_number_is_created_once(start, erp) -> None:
    running = await start(erp.url, more=with_callers(caller("erp", ERP, "pharmacy/*"), caller("till", TILL, "pharmacy/create_order")))
    _, first, _ = await Caller(running).submit_command()
    status, said, headers = await Caller(running).submit_command(key="k2")
    assert (status, said["id"], headers["Location"]) == (409, first["id"], f"/out/{first['id']}")
    status, said, headers = await Caller(running, TILL).submit_command(key="k2")
    assert (status, set(said), headers.get("Location")) == (409, {"problem"}, None)
    assert "another caller" in said["problem"]


# --- who it is


STRANGERS = {
    "nothing": {"Authorization": None},
    "an unknown token": {"Authorization": "Bearer xyz"},
    "an empty token": {"Authorization": "Bearer "},
    "no scheme": {"Authorization": ERP},
    "another scheme": {"Authorization": f"Basic {ERP}"},
    "an endless token": {"Authorization": "Bearer " + "x" * 5000},
    "a token with more": {"Authorization": f"Bearer {ERP} x"},
    "an umlaut": {"Authorization": "Bearer ä"},
}
PLACES = [
    ("POST", "/out/pharmacy/create_order"),
    ("POST", "/out/x/y"),
    ("GET", "/out/1"),
    ("GET", "/openapi.json"),
    ("PUT", "/"),
    ("GET", "/out/1/pickup-code.svg"),
]


async def test_a_stranger_hears_401_whatever_he_asks(running) -> None:
    for name, given in STRANGERS.items():
        for method, path in PLACES:
            status, said, headers = await Caller(running).ask(method, path, headers=given)
            assert (status, said) == (401, {"problem": "send a known token as Authorization: Bearer"}), (name, path)
            assert headers["WWW-Authenticate"] == "Bearer"


async def test_two_tokens_are_none(running) -> None:
    headers = [("Authorization", f"Bearer {ERP}"), ("Authorization", f"Bearer {ERP}")]
    async with running.session.get(Caller(running).url + "/openapi.json", headers=headers) as answer:
        assert answer.status == 401


async def test_a_flood_of_strangers_is_one_line_in_the_log(running, caplog) -> None:
    for _ in range(5):
        await Caller(running, "nobody").submit_command()
    assert [record.getMessage() for record in caplog.records].count("submit.refused") == 1
    assert "nobody" not in caplog.text


async def test_the_scheme_may_be_written_in_any_case(running) -> None:
    assert (await Caller(running).submit_command(Authorization=f"bEARER  {ERP}"))[0] == 202


async def test_a_token_is_good_for_its_own_commands(running) -> None:
    till = Caller(running, TILL)
    for path in ("pharmacy/create_order", "kiosk/create_recurrent_order"):
        status, said, _ = await till.submit_command(to=path)
        assert (status, said) == (403, {"problem": f"this token may not submit {path}"})


async def test_what_another_erphanded_in_is_not_there(running) -> None:
    _, said, _ = await Caller(running).submit_command()
    theirs = await Caller(running, TILL).ask("GET", f"/out/{said['id']}")
    nobodys = await Caller(running, TILL).ask("GET", f"/out/{'0' * 32}")
    assert theirs[:2] == nobodys[:2] == (404, {"problem": "you have submitted no command with this id"})


async def test_a_erpthat_hurries_is_slowed_down(start, erp) -> None:
    hasty = caller("erp", ERP, "pharmacy/*", more="max_requests_per_second = 1")
    running = await start(erp.url, more=with_callers(hasty, caller("till", TILL, "kiosk/*")))
    heard = [await Caller(running).ask("GET", "/openapi.json") for _ in range(20)]
    assert {status for status, *_ in heard} == {200, 429}
    assert next(headers for status, _, headers in heard if status == 429)["Retry-After"] == "1"
    assert (await Caller(running, TILL).ask("GET", "/openapi.json"))[0] == 200


# --- what it is


ADDRESSES = [
    ("POST", "/out/nowhere/create_order", 404, None),
    ("POST", "/out/pharmacy/create_nothing", 404, None),
    ("POST", "/out/pharmacy/publish_event", 404, None),  # its setting is not there
    ("POST", "/out/acme/create_order", 404, None),
    ("POST", "/out/pharmacy/create_order/", 404, None),
    ("POST", "/out/pharmacy/create_order/x", 404, None),
    ("POST", "/out//create_order", 404, None),
    ("POST", "/out/pharmacy%2Fcreate_order", 405, "GET, HEAD"),
    ("POST", "/in/acme", 404, None),
    ("GET", "/", 404, None),
    ("GET", "/out", 404, None),
    ("GET", "/out/pharmacy/create_order", 405, "POST"),
    ("PUT", "/out/pharmacy/create_order", 405, "POST"),
    ("DELETE", "/out/pharmacy/create_order", 405, "POST"),
    ("OPTIONS", "/out/pharmacy/create_order", 405, "POST"),
    ("POST", "/openapi.json", 405, "GET, HEAD"),
    ("DELETE", "/out/00000000000000000000000000000000", 405, "GET, HEAD"),
    ("POST", "/out/00000000000000000000000000000000/pickup-code.svg", 405, "GET, HEAD"),
    ("GET", "/out/00000000000000000000000000000000/pickup-code.pdf", 404, None),
    ("GET", "/out/00000000000000000000000000000000/pickup-code.svg", 404, None),
]


async def test_addresses_and_methods(running) -> None:
    for method, path, status, allow in ADDRESSES:
        heard, said, headers = await Caller(running).ask(method, path)
        assert (heard, headers.get("Allow"), set(said)) == (status, allow, {"problem"}), (method, path)


async def test_a_command_needs_a_key(running) -> None:
    for key in (None, "", " ", "x" * 201, "ä", "a\tb"):
        status, said, _ = await Caller(running).submit_command(key=key)
        assert status == 400
        assert "Idempotency-Key" in said["problem"]
    assert not await running.rows_of("submit")


async def test_two_keys_are_none(running) -> None:
    headers = [("Authorization", f"Bearer {ERP}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    async with running.session.post(Caller(running).url + "/out/pharmacy/create_order", data=b"{}", headers=headers) as answer:
        assert (answer.status, (await answer.json())["problem"]) == (400, "one header Idempotency-Key is needed; there are 2")


async def test_keys_as_callers_make_them(running) -> None:
    for n, key in enumerate(("x" * 200, '"quoted"', "a b", "~!@#$%^&*()")):
        assert (await Caller(running).submit_command(good("create_order", orderNumber=f"{n}"), key))[0] == 202


KINDS = {
    "application/json": 202,
    "Application/JSON; charset=UTF-8": 202,
    'application/json;charset="utf-8"': 202,
    "application/*+json": 202,
    "application/vnd.acme+json": 202,
    "text/json": 202,
    "application/json; charset=latin-1": 415,
    "application/x-www-form-urlencoded": 415,
    "text/plain": 415,
    "": 415,
}


async def test_a_body_is_json_and_says_so(running) -> None:
    for kind, status in KINDS.items():
        assert (await Caller(running).submit_command(Content_Type=kind))[0] == status, kind


async def test_a_packed_body_is_not_taken(running) -> None:
    assert (await Caller(running).submit_command(Content_Encoding="gzip"))[0] == 415


# --- what it says


async def test_every_bad_command_hears_all_of_its_problems_and_none_is_kept(running) -> None:
    erp = Caller(running)
    for n, (name, bad) in enumerate(BAD.items()):
        status, said, headers = await erp.submit_command(bad.body, f"k{n}", to=f"pharmacy/{bad.command}")
        assert status == 422, name
        assert headers["Cache-Control"] == "no-store"
        found = [(one["path"], one["problem"]) for one in said["problems"]]
        assert [path for path, _ in found] == [path for path, _ in bad.problems], name
        assert all(words in problem for (_, problem), (_, words) in zip(found, bad.problems, strict=True)), name
    assert not await running.rows_of("submit")
    assert f'gateway_commands_total{{outcome="rejected",source="pharmacy"}} {len(BAD)}' in (await running.get("/metrics"))[1]


async def test_a_connector_that_fails_over_a_body_is_no_5xx(running, caplog) -> None:
    def fail() -> None:
        raise KeyError("Łucja")

    pharma.faults["check"] = fail
    status, said, _ = await Caller(running).submit_command(good(), to="pharmacy/create_recurrent_order")
    assert (status, said["problems"][0]["path"]) == (422, "$")
    assert "see the gateway's log" in said["problems"][0]["problem"]
    assert [record.getMessage() for record in caplog.records].count("plugin.failed") == 1


# --- what cannot be now


@pytest.mark.parametrize("error", [StoreBusy("the disk is full", retry_after_s=30), StoreFailed("gone"), TimeoutError()])
async def test_what_is_not_committed_is_503(running, monkeypatch, error: Exception) -> None:
    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(running.gateway._store, "accept_submission", fail)
    status, said, headers = await Caller(running).submit_command()
    assert (status, headers["Retry-After"]) == (503, "30" if isinstance(error, StoreBusy) else "5")
    assert "under the same key" in said["problem"]


async def test_a_store_that_is_slow_is_503_in_time(running, monkeypatch) -> None:
    async def wait(*_: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(submit, "COMMIT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(running.gateway._store, "accept_submission", wait)
    assert (await Caller(running).submit_command())[0] == 503
    monkeypatch.setattr(running.gateway._store, "submission", wait)
    assert (await Caller(running).ask("GET", "/out/1"))[0] == 503


async def test_who_closes_takes_nothing_more(running) -> None:
    running.gateway.command_api.door.close()
    status, _, headers = await Caller(running).submit_command()
    assert (status, headers["Retry-After"]) == (503, "5")
    assert not await running.rows_of("submit")


# --- the codes


IMAGES = {
    "pickup-code.svg": ("image/svg+xml", b"<svg"),
    "pickup-code.png": ("image/png", b"\x89PNG"),
    "storage-label.svg": ("image/svg+xml", b"<svg"),
    "storage-label.png": ("image/png", b"\x89PNG"),
    "storage-label.pdf": ("application/pdf", b"%PDF"),
}


async def test_a_code_is_drawn_for_the_caller_of_the_order_once_there_is_one(running) -> None:
    erp = Caller(running)
    _, said, _ = await erp.submit_command()
    for name in IMAGES:
        assert (await erp.ask("GET", f"/out/{said['id']}/{name}"))[0] == 404
    await vendor_says(running, DONE, END)
    for name, (kind, mark) in IMAGES.items():
        path = f"/out/{said['id']}/{name}"
        status, image, headers = await erp.ask("GET", path)
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, kind, "no-store")
        assert mark in image[:400]
        assert (await erp.ask("HEAD", path))[:2] == (200, b"")
        assert (await Caller(running, TILL).ask("GET", path))[0] == 404


async def test_an_order_without_a_code_has_no_image_of_it(running) -> None:
    _, said, _ = await Caller(running).submit_command()
    await vendor_says(running, DONE, SubmissionEnd(answer=ANSWER, codes=Codes(number="1", pickup="P")))
    heard = [(await Caller(running).ask("GET", f"/out/{said['id']}/{name}"))[0] for name in IMAGES]
    assert heard == [200, 200, 404, 404, 404]


async def test_a_code_that_cannot_be_drawn_says_so_without_saying_the_code(running) -> None:
    _, said, _ = await Caller(running).submit_command()
    await vendor_says(running, DONE, SubmissionEnd(codes=Codes(number="1", pickup="secret" * 1000, storage="secret" * 1000)))
    for name in IMAGES:
        status, heard, _ = await Caller(running).ask("GET", f"/out/{said['id']}/{name}")
        assert status == 404
        assert "secret" not in heard["problem"]


# --- what may not be read elsewhere


async def test_no_token_key_body_or_code_stands_in_the_log(running, caplog) -> None:
    caplog.set_level("DEBUG")
    erp = Caller(running)
    await erp.submit_command(key="a-key-of-my-own")
    await vendor_says(running, DONE, END)
    await erp.submit_command(good("create_order", customerDetails={"fullName": "Canary Name", "email": "x"}), key="k3")
    for word in (ERP, "a-key-of-my-own", "Łucja", "Canary", "5948912001188", 32 * "A", 32 * "B"):
        assert word not in caplog.text


# --- another configuration


async def test_callers_come_and_go_with_a_reload(start, erp) -> None:
    running = await start(erp.url, more=with_callers())
    text, port = running.config.read_text(), running.gateway.command_api.listener.port
    running.config.write_text(text.replace(with_callers(), with_callers(caller("new", "another-token-constructed", "kiosk/*"))))
    await running.gateway._reload()
    assert (await Caller(running).ask("GET", "/openapi.json"))[0] == 401
    assert (await Caller(running, "another-token-constructed").ask("GET", "/openapi.json"))[0] == 200
    assert running.gateway.command_api.listener.port == port


async def test_the_address_is_there_while_there_is_a_caller(start, erp) -> None:
    running = await start(erp.url, more=with_callers(""))
    api = running.gateway.command_api
    text = running.config.read_text()
    assert api.listener is None
    running.config.write_text(text + caller("erp", ERP, "pharmacy/*"))
    await running.gateway._reload()
    assert (await Caller(running).ask("GET", "/openapi.json"))[0] == 200
    running.config.write_text(text)
    await running.gateway._reload()
    assert api.listener is None


async def test_an_address_that_cannot_be_had_changes_nothing(start, erp, caplog) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = await start(erp.url, more=with_callers("").replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        running.config.write_text(running.config.read_text() + caller("erp", ERP, "pharmacy/*"))
        await running.gateway._reload()
    assert running.gateway.command_api.listener is None
    (refused,) = [record for record in caplog.records if record.getMessage() == "config.refused"]
    assert f"submit.listen: cannot listen on 127.0.0.1:{port}" in vars(refused)["problem"]
