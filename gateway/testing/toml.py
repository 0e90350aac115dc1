"""A configuration from tables, for the demo and for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def to_toml(table: dict[str, Any], above: str = "") -> str:
    """Write a configuration as TOML: tables, texts, numbers, booleans, lists, inline tables."""
    lines = [f"{key} = {_toml_value(value)}" for key, value in table.items() if not _is_table(key, value, above)]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, value in table.items():
        if _is_table(key, value, above):
            path = f"{above}.{key}" if above else key
            inner = to_toml(value, path)
            heading = f"\n[{path}]\n" if any(not _is_table(k, v, path) for k, v in value.items()) else ""
            text += heading + inner
    return text


def _is_table(_: str, value: Any, above: str) -> bool:
    return isinstance(value, dict) and above.count(".") < 2 and not set(value) & {"file", "env", "credential", "kind"}


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(inner) for inner in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
