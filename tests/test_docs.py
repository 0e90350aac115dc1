"""Checks of the documents: hooks, commands, files, links, and the connector of plugins/README.md, which works as printed."""

from __future__ import annotations

import hmac
import importlib
import inspect
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from gateway.api import hookspecs
from gateway.api.messages import Envelope, Event
from gateway.api.secrets import Secret
from gateway.cli import main as cli
from gateway.health import State
from gateway.plugin import hooks
from gateway.plugin.connector import Connector
from gateway.testing import ManualClock
from tests.test_layers import ABOVE_ALL, MAY_IMPORT

ROOT = Path(__file__).parent.parent
AUTHORS = (ROOT / "plugins" / "README.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
OPERATING = (ROOT / "docs" / "operating.md").read_text("utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/**/README.md"), ROOT / "benchmarks" / "README.md"]
SPECS = [name for name, spec in vars(hookspecs).items() if inspect.isfunction(spec) and hasattr(spec, f"{hookspecs.PROJECT}_spec")]


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_is_documented(hook: str) -> None:
    spec = getattr(hookspecs, hook)
    words = inspect.getdoc(spec) or ""
    assert "alled" in words, f"{hook} does not say when it is called"
    assert "Returns:" in words or "Raises:" in words
    assert f"| `{hook}` | {'async' if inspect.iscoroutinefunction(spec) else 'plain'} |" in AUTHORS


def test_the_connector_knows_every_hook() -> None:
    assert set(SPECS) == set(hooks.HOOKS)


def test_the_connector_of_the_manual_works_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", AUTHORS, re.DOTALL)[0]
    (tmp_path / "gateway_manual.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    module: ModuleType = importlib.import_module("gateway_manual")
    made = Connector(module)
    made.settings = module.Settings(webhook_secret=Secret("k", origin="test"))
    items = b'[{"sku":"00-1","qty":"2","price":"1.50"}]'
    body = b'{"id":"1","number":"A-1","customer":"007","placed_at":"2024-03-31T12:00:00+02:00","items":' + items + b"}"
    proof = hmac.new(b"k", body, "sha256").hexdigest().encode()
    now = ManualClock().now()
    (event,) = made.admit(Envelope(source="s", body=body, headers=[(b"X-Acme-Signature", proof)], received_at=now), now)
    assert isinstance(event, Event)
    order = made.normalize(event, event.document or b"")
    assert (order.order_number, order.customer.number, str(order.lines[0].unit_price)) == ("A-1", "007", "1.50")
    sys.modules.pop("gateway_manual")


@pytest.mark.parametrize("key", ["wire.id", "wire.number"])
async def test_the_test_of_the_manual_works_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    connector, _, test = re.findall(r"```python\n(.*?)```", AUTHORS, re.DOTALL)
    (tmp_path / "gateway_acme.py").write_text(connector.replace("key=wire.id", f"key={key}"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gateway_acme", raising=False)
    made: dict[str, Any] = {}
    exec(test, made)
    with nullcontext() if key == "wire.id" else pytest.raises(AssertionError):  # the other is its known-bad mutant
        await made["test_an_order_sent_twice_reaches_the_erp_once"](tmp_path)


def commands() -> set[str]:
    parser = cli._parser()
    (sub,) = (action for action in parser._actions if action.dest not in ("help", "version", "config") and action.choices)
    return set(sub.choices or ())


def test_every_command_is_in_the_manual_for_operators() -> None:
    assert [name for name in sorted(commands()) if f"`gateway {name}" not in OPERATING] == []


def test_every_log_event_in_the_manual_for_operators_exists() -> None:
    source = "".join(file.read_text("utf-8") for file in (ROOT / "gateway").rglob("*.py"))
    states = {f"{what}.{state}" for what in ("door", "target") for state in get_args(State)}
    for event in set(re.findall(r"`([a-z]+\.[a-z_]+)`", OPERATING)) - states:
        assert f'"{event}"' in source, event


def test_every_message_in_the_manual_for_operators_exists() -> None:
    source = "".join(file.read_text("utf-8") for file in [*(ROOT / "gateway").rglob("*.py"), *ROOT.glob("plugins/*/gateway_*/*.py")])
    source = " ".join(re.sub(r'"\s+f?"', "", source).split())
    for row in re.findall(r"^\| (.*?) \|", OPERATING, re.MULTILINE):
        for message in re.findall(r'"(.+?)"', row):
            for part in re.split(r"\.\.\.|\d+", message):
                assert part.strip() in source, message


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert (ROOT / "docs" / "page.png").stat().st_size < 150_000


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_in_the_documents_exists(file: Path) -> None:
    for found in re.findall(r"(?:^ {4}|[`(/]|sudo )gateway ([a-z]+)\b", file.read_text("utf-8"), re.MULTILINE):
        assert found in commands(), f"{file.name} names `gateway {found}`"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_in_the_documents_exists(file: Path) -> None:
    text = file.read_text("utf-8")
    for path in re.findall(r"`((?:etc|systemd|docs|plugins|benchmarks|gateway|tests|supply)/[\w./-]+)", text):
        assert (ROOT / path.rstrip(".")).exists(), f"{file.name} names {path}"
    for link in re.findall(r"\]\((?!https?://)([^)#\s]+)", text):
        assert (file.parent / link).exists(), f"{file.name} links to {link}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_make_targets_in_the_documents_exist(file: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:^    |`)make ([a-z-]+)", file.read_text("utf-8"), re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{file.name} names make {target}"


def test_the_table_of_rooms_is_what_the_layers_test_checks() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z]+)` \| .* \|(.*)\|$", text, re.MULTILINE)
    named = {room: set(re.findall(r"`([a-z.]+)`", imported)) for room, imported in rows}
    assert named == {**MAY_IMPORT, **{room: set() for room in ABOVE_ALL}}
