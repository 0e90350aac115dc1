"""Reader of the configuration file and its `conf.d/*.toml`, merged to one table with file and line of each key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.api.errors import ConfigError
from gateway.config.positions import NotToml, key_lines, read
from gateway.config.report import KeyPath, Report, dotted

_Places = Mapping[KeyPath, tuple[Path, int]]

_BOM = "\ufeff"


def read_files(path: Path) -> tuple[dict[str, Any], Report]:
    """Read the file and its `conf.d`.

    Returns:
        The table, and a report that knows the line of each key.
    Raises:
        ConfigError: A file cannot be read, is not TOML, or a key appears twice.
    """
    tree: dict[str, Any] = {}
    places: dict[KeyPath, tuple[Path, int]] = {}
    for file in [path, *_more(path.parent / "conf.d")]:
        text = _text(file)
        try:
            table = read(text)
        except NotToml as error:
            raise ConfigError([f"{file}:{error.line}: not TOML: {error}"]) from error
        lines = {at: (file, line) for at, line in key_lines(text).items()}
        _merge(tree, table, (), places, lines)
        places = {**lines, **places}
    return tree, Report(places, path)


def _more(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml" and file.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError([f"{folder}: cannot be read: {error.strerror}"]) from error


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode().removeprefix(_BOM).replace("\r\n", "\n")
    except OSError as error:
        hint = "; give another one with --config FILE" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([f"{file}: cannot be read: {error.strerror}{hint}"]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{file}:{line}: not UTF-8 text; save the file as UTF-8"]) from error


def _merge(tree: dict[str, Any], more: Mapping[str, Any], at: KeyPath, old: _Places, new: _Places) -> None:
    for key, value in more.items():
        here = (*at, key)
        if key not in tree:
            tree[key] = value
        elif isinstance(tree[key], dict) and isinstance(value, dict):
            _merge(tree[key], value, here, old, new)
        else:
            (first, line), (second, again) = old[here], new[here]
            raise ConfigError([f"{second}:{again}: {dotted(here)}: is already in {first}:{line}; keep one of them"])
