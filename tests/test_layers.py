"""Which file may import which: the table of STYLE.md section 2, kept true by reading the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "gateway").rglob("*.py"))
PLUGINS = sorted(p for p in (ROOT / "plugins").glob("*/gateway_*/**/*.py"))

# The first line of the table: no hook, no store, no HTTP.
FIRST = {"errors", "clock", "orders", "messages", "client", "secret", "urls", "retry", "difference", "spelling", "exact_json", "mapping"}
FIRST |= {"suspects", "confined", "log", "assertion", "jwk", "subscription", "submission", "webhook_auth", "contract", "refusal"}
CONFIG = FIRST | {"hookspecs", "config", "config_files", "decode", "toml_lines", "body"}
EDGE = CONFIG | {"connector", "source", "vitals", "store.base", "store.submissions", "store.keeping", "store.targets", "store.settlement"}
MAY_IMPORT = {
    **dict.fromkeys(FIRST, FIRST),
    **dict.fromkeys(("hookspecs", "config", "config_files", "decode", "toml_lines", "body"), CONFIG),
    "store": FIRST | {"store"},
    "outbound": CONFIG | {"outbound"},
    "contained": set(),
    "guard": FIRST | {"contained"},
    "connector": CONFIG | {"outbound", "guard"},
    "discovery": CONFIG | {"outbound", "connector"},
    "source": CONFIG | {"connector", "store.base"},
    "vitals": FIRST,
    "codes": FIRST | {"codes"},
    "target": CONFIG | {"outbound", "target", "store.base"},
    "edge": EDGE | {"outbound", "codes", "edge"},
    "engine": EDGE | {"outbound", "target", "engine"},
    "web": CONFIG | {"store.base", "store.targets", "store.waiting", "vitals", "web"},
}
THIRD_PARTY = {
    "aiohttp": {"outbound", "target", "edge", "web", "runtime", "way_back", "control", "testing", "demo"},
    "aiosqlite": {"store"},
    "sqlite3": {"store"},
    "pluggy": {"hookspecs", "connector"},
    "prometheus_client": {"vitals", "web", "edge", "engine"},
    "jinja2": {"web"},
    "jsonata": {"mapping"},
    "jsonschema": {"target"},
    "jwt": {"assertion", "jwk", "webhook_auth", "testing"},
    "cryptography": {"assertion", "jwk"},
    "tomllib": {"toml_lines"},
    "signalrcore": {"edge"},
    "segno": {"codes"},
    "pystrich": {"codes"},
    "pydyf": {"codes"},
    "PIL": {"codes"},
}
# They put the parts together and may import anything; nobody imports them but each other.
ROOTS = {
    "app",
    "runtime",
    "assembly",
    "operations",
    "cli",
    "commands",
    "decide_commands",
    "preview",
    "control",
    "printing",
    "demo",
    "testing",
}
ROOTS |= {
    "hook_watch",
    "doubtful",
    "way_back",
    "submit_commands",
    "reconcile",
    "housekeeping",
    "check_commands",
    "copy_commands",
    "plugin_commands",
    "target_commands",
    "reload",
    "systemd",
    "upkeep",
}


def module(file: Path) -> str:
    return ".".join(part for part in file.relative_to(ROOT / "gateway").with_suffix("").parts if part != "__init__")


def layer(name: str) -> str:
    return name.split(".")[0]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            base = str(node.module)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if base.startswith("gateway") and is_module(whole) else base


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


@pytest.mark.parametrize("file", FILES, ids=lambda f: module(f) or "__init__")
def test_core_imports_point_one_way(file: Path) -> None:
    name = module(file)
    for imported in imports(file):
        top = imported.split(".")[0]
        if top in THIRD_PARTY:
            assert layer(name) in THIRD_PARTY[top], f"{name} may not import {top}"
        if top != "gateway" or layer(name) in ROOTS or not name:
            continue
        target = imported.removeprefix("gateway").lstrip(".")
        if not target:
            continue
        allowed = MAY_IMPORT[layer(name)]
        assert target in allowed or layer(target) in allowed, f"{name} may not import gateway.{target}"
        assert layer(target) not in ROOTS


def test_one_file_knows_signalr() -> None:
    knowing = {module(file) for file in FILES for name in imports(file) if name.split(".")[0] == "signalrcore"}
    assert knowing == {"edge.signalr"}


def test_package_root_imports_only_what_authors_need() -> None:
    allowed = FIRST | {"hookspecs"}
    assert {layer(name.removeprefix("gateway.")) for name in imports(ROOT / "gateway" / "__init__.py")} <= allowed


@pytest.mark.parametrize("file", FILES, ids=lambda f: module(f) or "__init__")
def test_hooks_are_called_by_the_connector_only(file: Path) -> None:
    if module(file) not in ("connector",):
        assert "_manager.hook" not in file.read_text("utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda f: module(f) or "__init__")
def test_sql_lives_in_the_store_only(file: Path) -> None:
    if layer(module(file)) != "store":
        for statement in ("SELECT ", "INSERT INTO", "UPDATE inbox", "UPDATE outbox", "PRAGMA "):
            assert statement not in file.read_text("utf-8"), f"{module(file)} holds SQL"


@pytest.mark.parametrize("file", PLUGINS, ids=lambda f: f"{f.parent.name}.{f.stem}")
def test_plugins_import_the_package_root_only(file: Path) -> None:
    own = file.relative_to(ROOT / "plugins").parts[1]
    for imported in imports(file):
        if imported.startswith("gateway.") or imported == "gateway":
            allowed = ("gateway", "gateway.testing") if file.stem.startswith("simulator") else ("gateway",)
            assert imported in allowed or imported.startswith("gateway.testing"), f"{file.name} imports {imported}"
            assert not imported.startswith("gateway.testing") or file.stem.startswith("simulator")
        if imported.startswith("gateway_"):
            assert imported.split(".")[0] == own, f"{file.name} imports another plugin"
        assert imported.split(".")[0] != "aiohttp" or file.stem.startswith("simulator")


def test_every_file_has_one_subject() -> None:
    """A file past 400 lines has a second subject somewhere."""
    too_long = {str(f.relative_to(ROOT)): n for f in [*FILES, *PLUGINS] if (n := len(f.read_text().splitlines())) > 400}
    assert not too_long
