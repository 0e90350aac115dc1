"""Rooms of `gateway/` and the rooms that each may import (CONTRIBUTING.md, "Rooms")."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imports import FILES, imports, module, room

CORNER_STONES = {"clock", "did_you_mean", "health", "log", "metrics", "rate_limit", "retry"}
MAY_IMPORT: dict[str, set[str]] = {
    "api": set(),
    "codes": {"api"},
    "config": {"api"},
    "mapping": {"api"},
    "outbound": {"api"},
    "store": {"api"},
    "plugin": {"api", "config", "store"},
    "targets": {"api", "config", "mapping", "outbound", "store"},
    "edge": {"api", "codes", "config", "outbound", "plugin", "store"},
    "engine": {"api", "outbound", "plugin", "store", "targets"},
    "web": {"api", "store"},
    "service": {"api", "config", "edge", "engine", "outbound", "plugin", "store", "store.sqlite", "targets", "web"},
}
ABOVE_ALL = {"cli", "testing"}  # they may import any room, and no room imports them
THIRD_PARTY = {
    "aiohttp": {"outbound", "targets", "edge", "web", "service", "cli", "testing"},
    "aiosqlite": {"store"},
    "sqlite3": {"store"},
    "pluggy": {"api", "plugin"},
    "prometheus_client": {"health", "metrics", "web", "edge", "engine"},
    "jinja2": {"web"},
    "jsonata": {"mapping"},
    "jsonschema": {"targets"},
    "oauthlib": {"targets"},
    "jwt": {"api", "testing"},
    "cryptography": {"api"},
    "tomllib": {"config"},
    "signalrcore": {"edge"},
    "segno": {"codes"},
    "pystrich": {"codes"},
    "pydyf": {"codes"},
    "PIL": {"codes"},
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: module(f) or "__init__")
def test_a_room_imports_only_the_rooms_below_it(file: Path) -> None:
    name = module(file)
    here = room(name)
    for imported in imports(file):
        top, _, there = imported.partition(".")
        assert here in THIRD_PARTY.get(top, {here}), f"{name} may not import {top}"
        if top == "gateway" and there and here not in ABOVE_ALL and room(there) not in {here, *CORNER_STONES}:
            wanted = "store.sqlite" if there.startswith("store.sqlite") else room(there)
            assert wanted in MAY_IMPORT.get(here, {"api", "mapping"} if not here else set()), f"{name} may not import {imported}"
