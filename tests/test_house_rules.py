"""Rules of the house that imports or texts of the source show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imports import FILES, PLUGINS, ROOT, imports, module, room


def test_one_file_knows_signalr() -> None:
    knowing = {module(file) for file in FILES for name in imports(file) if name.split(".")[0] == "signalrcore"}
    assert knowing == {"edge.signalr"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: module(f) or "__init__")
def test_hooks_are_called_by_the_connector_only(file: Path) -> None:
    if module(file) != "plugin.connector":
        assert "_manager.hook" not in file.read_text("utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda f: module(f) or "__init__")
def test_sql_lives_in_the_store_only(file: Path) -> None:
    if room(module(file)) != "store":
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
