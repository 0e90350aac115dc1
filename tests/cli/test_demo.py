"""The demo, as a newcomer runs it; and the judge of `--once`, which must see every kind of difference."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from aiohttp import web

from gateway.plugin.discovery import installed
from gateway.testing import Sent
from gateway.testing.compare import Row, compare
from gateway.testing.demo import judged
from gateway.testing.toml import to_toml
from gateway.testing.wishes import Wish, submit_command

pytestmark = pytest.mark.skipif(not installed(), reason="no vendor plugin is installed; make test installs those of plugins/")

COMMAND = [sys.executable, "-m", "gateway.cli.main", "demo"]


@pytest.mark.long
def test_once_sends_through_every_door_and_agrees() -> None:
    done = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": agreed" in done.stdout
    for command in ("create_order", "create_recurrent_order"):
        assert f"at pickup_cloud, {command}: 202" in done.stdout
    for name, plugin in installed().items():
        for door in plugin.doors:
            assert any(line.split()[:2] == [name, door] for line in done.stdout.splitlines()), f"no order through {name} {door}"


def test_live_goes_on_after_a_kill_and_stops_cleanly() -> None:
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    said: list[str] = []

    def until(what: str) -> str:
        for line in demo.stdout:  # type: ignore[union-attr]
            said.append(line)
            if what in line:
                return line
        raise AssertionError("".join(said))

    pid = int(until("gateway process").split()[2].rstrip(";"))
    until("ERP  ")
    subprocess.run(["kill", "-9", str(pid)], check=True)
    until("ended (signal 9)")
    until("ready, process")
    until("ERP  ")
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=40)
    assert demo.returncode == 0
    assert "the gateway ended with exit code 0" in rest


def order(**changes: Any) -> Sent:
    values = {
        "order_ref": "o1",
        "order_number": "PO-1",
        "door": "webhook",
        "answer": "taken",
        "expected": "placed",
        "lines": 1,
        "total": "12.50",
    }
    return msgspec.convert(values | changes, Sent)


MESSAGE = {
    "key": "v/o1/1",
    "kind": "order.placed",
    "source": "v",
    "order": {"order_ref": "o1", "order_number": "PO-1", "status": "placed", "lines": [{}], "total": "12.50"},
}


def verdicts(sent: list[Sent], messages: list[dict[str, Any]], torn: set[str] | None = None) -> list[str]:
    return [row.verdict for row in compare([("v", one) for one in sent], messages, torn or set())]


def test_compare_agrees_where_all_is_well() -> None:
    assert verdicts([order(), order(order_ref="o2", expected="nothing"), order(expected="held")], [MESSAGE]) == ["ok", "ok", "ok"]


def changed(**changes: Any) -> dict[str, Any]:
    message = deepcopy(MESSAGE)
    message.update({name: value for name, value in changes.items() if name in message})
    message["order"].update({name: value for name, value in changes.items() if name not in MESSAGE})  # type: ignore[attr-defined]
    return message


@pytest.mark.parametrize(
    ("messages", "verdict"),
    [
        ([], "did not arrive"),
        ([MESSAGE, MESSAGE], "nobody sent this"),
        ([changed(total="12.5")], "total is '12.5'"),
        ([changed(lines=[])], "lines is 0"),
        ([changed(order_number="PO-2")], "order number is"),
        ([changed(kind="order.revised")], "kind is"),
        ([changed(source="w")], "did not arrive"),
    ],
)
def test_compare_sees(messages: list[dict[str, Any]], verdict: str) -> None:
    assert any(verdict in said for said in verdicts([order()], messages))


def test_compare_takes_all_that_is_said_of_an_order_whose_vendor_goes_on_reporting() -> None:
    later = changed(key="v/o1/2", kind="order.status") | {"order": MESSAGE["order"] | {"status": "picked_up", "lines": [{}, {}]}}  # type: ignore[operator]
    sent = order(status="picked_up", lines=2)
    assert verdicts([sent], [MESSAGE, later]) == ["ok"]
    assert verdicts([sent], [MESSAGE]) == ["lines is 1, sent 2; status is 'placed', sent 'picked_up'"]
    assert verdicts([sent], [MESSAGE, later, later | {"key": "v/o1/3"}]) == ["v/o1/3 says nothing new"]
    assert verdicts([sent], [MESSAGE, later | {"kind": "order.revised"}]) == ["v/o1/2 is a order.revised"]


def test_compare_sees_what_should_not_have_arrived() -> None:
    assert "nobody sent this" in verdicts([order(expected="held")], [MESSAGE])


def test_compare_sees_two_bodies_under_one_key() -> None:
    assert verdicts([order()], [MESSAGE], {"v/o1/1"}) == ["came with different bodies under one key"]


def test_the_written_configuration_reads_back() -> None:
    table = {
        "gateway": {"data_dir": "data"},
        "targets": {"erp": {"url": "http://x", "auth": {"kind": "bearer", "token": {"file": "t"}}, "retry": {"base_s": 0.2}}},
        "sources": {"a": {"connector": "a", "settings": {"secrets": [{"file": "s"}], "deep": {"more": {"x": 1}}, "on": True}}},
    }
    assert tomllib.loads(to_toml(table)) == table


def test_what_is_wrong_is_not_agreed() -> None:
    row = Row(source="v", sent=order(), arrived="v/o1/1", verdict="ok")
    assert list(judged([row, row], 1, 1, [])) == []
    assert list(judged([row, msgspec.structs.replace(row, verdict="did not arrive")], 1, 1, [])) == [
        "1 orders are not in the ERP as they were sent"
    ]
    assert list(judged([row], 2, 1, [])) == ["2 orders wait for a person, 1 should"]
    assert list(judged([row], 1, 1, ["v A-1"])) == ["created twice: v A-1"]


async def test_an_erp_repeats_what_it_hands_in_under_one_key_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.testing.wishes._PAUSE_S", 0.0)
    heard: list[tuple[str, str, Any]] = []
    answers = [None, 503, 429, 202]

    async def answer(request: web.Request) -> web.Response:
        heard.append((request.headers["Idempotency-Key"], request.headers["Authorization"], await request.json()))
        status = answers.pop(0)
        if status is None and request.transport is not None:
            request.transport.close()
        return web.Response(status=status or 500)

    application = web.Application()
    application.router.add_post("/out/v/create_order", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        wish = Wish(command="create_order", body={"n": 1}, sent=order())
        assert await submit_command(f"http://127.0.0.1:{runner.addresses[0][1]}", "secret", "v", wish) == 202
    finally:
        await runner.cleanup()
    assert len(heard) == 4
    assert set(map(str, heard)) == {str((heard[0][0], "Bearer secret", {"n": 1}))}
