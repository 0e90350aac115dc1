"""Imports of a source file, read from its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "gateway").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").glob("*/gateway_*/**/*.py"))


def module(file: Path) -> str:
    """Name a file of `gateway/` as an import does, without `gateway.`; the package root is the empty text."""
    return ".".join(part for part in file.relative_to(ROOT / "gateway").with_suffix("").parts if part != "__init__")


def room(name: str) -> str:
    return name.split(".")[0]


def imports(file: Path) -> Iterator[str]:
    """Yield each module that a file imports, whole: `gateway.store.base`, `aiohttp`."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.startswith("gateway.") and _is_module(whole) else str(node.module)


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()
