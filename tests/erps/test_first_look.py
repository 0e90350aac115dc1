"""What an integrator does with a file of `etc/targets/` before the first order: check, map, send --dry-run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main as cli
from tests.erps.shop import installed
from tests.erps.test_targets import CASES

Look = Callable[..., Any]


class Installed:
    """One file with its ERP, and the commands."""

    def __init__(self, name: str, erp: Any, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.name = name
        self.erp = erp
        self.secrets = CASES[name].secrets(erp)
        self._path = path
        self._capsys = capsys

    async def run(self, *arguments: str) -> tuple[int, str]:
        """`gateway target ARGUMENTS`: exit code and everything it printed."""
        await asyncio.sleep(0)
        code = await asyncio.to_thread(cli.main, ["target", arguments[0], "erp", *arguments[1:], "--config", str(self._path)])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    @property
    def example(self) -> str:
        return str(self._path.parent / "conf.d" / "examples" / "two-lines.json")


@pytest.fixture(params=CASES)
async def file(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Installed]:
    case = CASES[request.param]
    erp = case.make()
    await erp.start()
    (tmp_path / "credentials").mkdir()
    for name, secret in case.secrets(erp).items():
        (tmp_path / "credentials" / name).write_text(secret + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    path = installed(tmp_path, request.param, case.variables(erp))
    path.write_text(path.read_text().replace("[sources.shop]", "[sources.none]").replace('"verbatim"', '"apicbase"'))
    yield Installed(request.param, erp, path, capsys)
    await erp.stop()


async def test_check_signs_in_and_looks_up_and_creates_nothing(file: Installed) -> None:
    code, said = await file.run("check")
    assert code == 0, said
    assert file.erp.made == []
    assert file.erp.asked


async def test_map_prints_the_request_and_no_secret_and_sends_nothing(file: Installed) -> None:
    code, said = await file.run("map", file.example, "--json")
    shown = json.loads(said)
    assert (code, shown["problems"]) == (0, []), said
    assert "12.3456" in shown["body"] or file.name == "dolibarr"  # whose lines come after it
    assert not any(secret in said for secret in file.secrets.values())
    assert file.erp.asked == []


async def test_a_dry_run_asks_for_real_and_creates_nothing(file: Installed) -> None:
    code, said = await file.run("send", file.example, "--dry-run")
    assert code == 0, said
    assert file.erp.count("find") == 1
    assert (file.erp.made, file.erp.count("create")) == ([], 0)
    assert not any(secret in said for secret in file.secrets.values())
