"""Every simulated ERP refuses wrong credentials whatever is asked, so that `gateway check --online` against one can be believed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.check import online
from gateway.testing import ErpSimulator
from gateway.testing.erps import ERPS
from tests.erps.conftest import Client, Connect
from tests.erps.shop import assembled, installed
from tests.erps.test_targets import CASES

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
IN_BODIES = ("odoo18",)  # JSON-RPC: the key stands in each body


@pytest.mark.parametrize("name", [name for name in ERPS if name not in IN_BODIES])
async def test_a_stranger_is_refused_by_every_method_and_everywhere(name: str, connect: Connect) -> None:
    client: Client = await connect(ERPS[name]())
    client.headers = {"Authorization": "Bearer wrong", "DOLAPIKEY": "wrong"}
    paths = {re.sub(r"\{\w+\}", "1", path) for _, path, operation, _ in client.erp.routes() if operation != "token"}
    for path in {*paths, "/", "/nothing/here"}:
        for method in METHODS:
            assert (await client.ask(method, path))[0] == 401, f"{method} {path}"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
async def test_check_online_says_whether_an_erp_lets_us_in(
    name: str, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    erp = CASES[name].make()
    await erp.start()
    (tmp_path / "credentials").mkdir()
    for credential, secret in CASES[name].secrets(erp).items():
        (tmp_path / "credentials" / credential).write_text("wrong:wrong\n" if wrong else secret + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    code = await online(assembled(installed(tmp_path, name, CASES[name].variables(erp))))
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("targets.erp:")]
    assert code == int(wrong), said
    assert ("reached" in said and "check its credentials" not in said) != wrong, said
    assert erp.made == []
    await erp.stop()


AUTHS: dict[str, str] = {
    "none": "",
    "bearer": 'auth = { kind = "bearer", token = { file = "secret" } }',
    "header": 'auth = { kind = "header", name = "Authorization", prefix = "Bearer", value = { file = "secret" } }',
    "basic": 'auth = { kind = "basic", username = "gateway", password = { file = "secret" } }',
}


@pytest.mark.parametrize(("kind", "secret", "let_in"), [
    ("bearer", "right", True), ("header", "right", True),
    ("none", "right", False), ("bearer", "wrong", False), ("header", "wrong", False), ("basic", "right", False),
])  # fmt: skip
async def test_check_online_says_whether_the_plain_erp_lets_us_in(
    kind: str, secret: str, let_in: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    erp = ErpSimulator(token="right")
    await erp.start()
    (tmp_path / "secret").write_text(secret)
    text = f'[targets.erp]\nurl = "{erp.url}"\n{AUTHS[kind]}\n[sources.shop]\nconnector = "verbatim"\n'
    (tmp_path / "gateway.toml").write_text(text)
    assert await online(assembled(tmp_path / "gateway.toml")) == int(not let_in)
    said = capsys.readouterr().out
    assert ("targets.erp: reached, answers HEAD with 200" in said) == let_in
    assert erp.heard == []
    await erp.stop()


async def test_the_plain_erp_refuses_a_stranger_by_every_method(connect: Any) -> None:
    erp = ErpSimulator(token="right")
    client = await connect(erp)
    client.headers = {"Authorization": "Bearer wrong"}
    for path in ("/orders", "/orders?name=x", "/orders/1/lines", "/orders/1/confirm", "/orders/nothing"):
        for method in METHODS:
            assert (await client.ask(method, path))[0] == 401, f"{method} {path}"
    assert (await client.ask("GET", "/received"))[0] == 200, "what a test asks of the simulator is no business of the ERP's"
