"""`gateway submit` beside a running gateway, `gateway token`, and what `gateway check` says of the command API."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import Any

import pytest

from gateway.cli.main import main
from gateway.cli.submit import default_key
from gateway.engine.submit import Submit
from gateway.service import assembly
from gateway.store.submissions import SubmissionEnd
from tests import acme, pharma
from tests.bad_commands import BAD, good
from tests.command_env import ANSWER, CODES, DEAD, DONE, HELD, Caller, caller, vendor_says, with_callers
from tests.conftest import config_text, plugins


@pytest.fixture(autouse=True)
def no_submit_step(monkeypatch) -> None:
    """The submit step is the test."""

    async def idle(_: Submit) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Submit, "run", idle)


@pytest.fixture
async def running(start, erp) -> Any:
    return await start(erp.url, more=with_callers())


async def run(running: Any, *arguments: str, body: bytes | None = None) -> int:
    """`gateway submit` as another process would call it, on a file beside the configuration."""
    file = running.folder / "command.json"
    file.write_bytes(json.dumps(good("create_order")).encode() if body is None else body)
    given = ["submit", "pharmacy", "create_order", str(file), "--config", str(running.config), *arguments]
    return await asyncio.to_thread(main, given)


async def test_a_command_is_handed_in_and_its_key_is_its_content(running, capsys) -> None:
    assert await run(running) == 0
    first = capsys.readouterr().out
    assert re.fullmatch(r"[0-9a-f]{32}: ready\n", first)
    spelled = json.dumps(good("create_order"), indent=3).encode()
    assert await run(running, body=spelled) == 0
    assert capsys.readouterr().out == first.replace("ready", "ready, submitted before; --key NAME submits it again")
    assert len(await running.rows_of("submit")) == 1


async def test_who_handed_it_in_is_noted(running, capsys, monkeypatch) -> None:
    monkeypatch.setenv("SUDO_USER", "jørgen")
    await run(running)
    id = capsys.readouterr().out.partition(":")[0]
    (shown,) = await running.gateway._reader.show(id)
    assert [(one["who"], one["action"]) for one in shown["decided"]] == [("jørgen", "submit")]
    await run(running)
    (shown,) = await running.gateway._reader.show(id)
    assert len(shown["decided"]) == 1


async def test_what_an_operator_hands_in_is_no_callers(running, capsys) -> None:
    await run(running, "--json")
    said = json.loads(capsys.readouterr().out)
    assert (await Caller(running).ask("GET", f"/out/{said['id']}"))[0] == 404


ENDS = [
    (DONE, SubmissionEnd(answer=ANSWER, codes=CODES), 0, "done"),
    (DEAD, None, 1, "dead"),
    (HELD, None, 1, "held"),
]


@pytest.mark.parametrize(("end", "made", "code", "state"), ENDS, ids=["done", "dead", "held"])
async def test_who_waits_sees_what_became_of_it(running, capsys, end, made, code, state) -> None:
    waiting = asyncio.create_task(run(running, "--wait", "30"))

    async def there() -> bool:
        return bool(await running.rows_of("submit"))

    await running.until(there)
    await vendor_says(running, end, made)
    assert await waiting == code
    said = capsys.readouterr()
    assert said.out.splitlines()[0].endswith(f": {state}")
    if made is not None:
        assert json.loads(said.out.partition("\n")[2]) == json.loads(ANSWER)
    else:
        assert said.err.strip() == end.reason


async def test_a_wait_that_runs_out_is_no_failure(running, capsys) -> None:
    assert await run(running, "--wait", "0") == 0
    assert capsys.readouterr().out.endswith(": ready\n")


async def test_what_does_not_fit_is_told_whole(running, capsys) -> None:
    bad = BAD["every article wrong in its own way"]
    file = running.folder / "bad.json"
    file.write_bytes(bad.body)
    given = ["submit", "pharmacy", "create_recurrent_order", str(file), "--config", str(running.config)]
    assert await asyncio.to_thread(main, given) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == [path for path, _ in bad.problems]
    assert await asyncio.to_thread(main, [*given, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == len(bad.problems)


async def test_a_conflict_and_an_unknown_command_say_so(running, capsys) -> None:
    await run(running, "--key", "a")
    capsys.readouterr()
    assert await run(running, "--key", "b") == 1
    assert "there is a command for this number already (" in capsys.readouterr().err
    given = ["submit", "nowhere", "create_order", str(running.folder / "command.json"), "--config", str(running.config)]
    assert await asyncio.to_thread(main, given) == 1
    assert "unknown address" in capsys.readouterr().err


async def test_no_caller_is_needed_for_it(start, erp, capsys) -> None:
    running = await start(erp.url, more=with_callers(""))
    assert running.gateway.command_api.listener is None
    assert await run(running) == 0


async def test_without_a_running_gateway_nothing_is_handed_in(running, capsys) -> None:
    await running.stop()
    assert await run(running) == 1
    assert "the gateway does not run" in capsys.readouterr().err


async def test_a_file_that_is_not_there_is_a_wrong_call(running, capsys) -> None:
    given = ["submit", "pharmacy", "create_order", "/nowhere.json", "--config", str(running.config)]
    assert await asyncio.to_thread(main, given) == 2
    assert "/nowhere.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--key", ""], ["--key", "ä"], ["--key", " a"], ["--wait", "61"], ["--wait", "-1"], ["--wait", "x"]])
def test_keys_and_waits_are_checked_before_anything(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["submit", "a", "b", "c", *wrong])
    assert left.value.code == 2


def test_the_default_key_is_that_of_the_content() -> None:
    one = default_key("pharmacy", "create_order", b'{"a": 1}')
    assert one == default_key("pharmacy", "create_order", b'{ "a":1.0 }')
    assert one.startswith("cli-")
    others = {default_key("pharmacy", "create_order", b'{"a": 2}'), default_key("p", "harmacy", b'{"a": 1}'), default_key("x", "y", b"{")}
    assert one not in others


# --- token


def test_a_token_is_printed_with_the_table_that_takes_it(tmp_path, capsys) -> None:
    assert main(["token", "till", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert hashlib.sha256(said["token"].encode()).hexdigest() == said["token_sha256"]
    assert len(said["token"]) >= 40
    assert main(["token"]) == 0
    text = capsys.readouterr().out
    token = re.search(r"^ {4}(\S+)$", text, re.MULTILINE)
    assert token is not None
    assert token[1] != said["token"]
    table = text[text.index("[submit.callers.erp]") :]
    assert hashlib.sha256(token[1].encode()).hexdigest() in table
    (tmp_path / "gateway.toml").write_text(config_text("http://127.0.0.1:1", more=with_callers("") + table.replace("SOURCE", "pharmacy")))
    (tmp_path / "secret").write_text("x")
    made = assembly.assemble(tmp_path / "gateway.toml", plugins(pharma=pharma, acme=acme))
    assert made.config.submit.callers["erp"].commands == ("pharmacy/*",)


# --- check


def checked(folder: Any, monkeypatch: pytest.MonkeyPatch, more: str) -> int:
    (folder / "secret").write_text("x")
    (folder / "gateway.toml").write_text(config_text("http://127.0.0.1:1", more=more))
    monkeypatch.setattr(assembly, "installed", lambda **_: plugins(pharma=pharma, acme=acme))
    return main(["check", "--config", str(folder / "gateway.toml")])


def test_check_says_who_may_hand_in(tmp_path, monkeypatch, capsys) -> None:
    assert checked(tmp_path, monkeypatch, with_callers(caller("erp", "t", "pharmacy/*"), caller("till", "u", "kiosk/*"))) == 0
    assert "submit.listen: 127.0.0.1:0 opens for erp, till\n" in capsys.readouterr().out


def test_check_says_that_the_command_api_is_closed(tmp_path, monkeypatch, capsys) -> None:
    assert checked(tmp_path, monkeypatch, with_callers("")) == 0
    assert "stays closed, since no [submit.callers.NAME] is configured; the sources take 4 commands\n" in capsys.readouterr().out
    assert checked(tmp_path, monkeypatch, "") == 0
    assert "submit" not in capsys.readouterr().out
