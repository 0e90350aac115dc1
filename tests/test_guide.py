"""The guide "How to add ..." in CONTRIBUTING.md: what it names exists, and its lists are whole where a test can tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct

from gateway.api import hookspecs
from gateway.api.order import Address, Customer, Line, Order, json_schema
from gateway.plugin.hooks import HOOKS
from gateway.store import base
from gateway.store.row_names import Status, statuses_of
from gateway.targets.auth_settings import Auth, NoAuth

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## How to add ...\n")[2].partition("\n## ")[0]
_PATH = re.compile(r"`((?:[a-z_]+/)+[\w./]*|[A-Z]+\.md)`(?:\s+\(((?:`\w+`(?:,\s+)?)+)\))?")
_TOPICS = ("field", "sign in", "status", "hook", "command", "configuration key", "metric", "store")


def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_there_is_a_list_for_each_topic() -> None:
    titles = re.findall(r"^\*\*(.+?)\*\*", GUIDE, re.MULTILINE)
    assert len(titles) == len(_TOPICS)
    assert all(topic in title for topic, title in zip(_TOPICS, titles, strict=True))


def test_every_path_of_the_guide_exists_and_holds_the_names_beside_it() -> None:
    found = _PATH.findall(GUIDE)
    assert len(found) > 20
    for path, names in found:
        assert (ROOT / path).exists(), path
        for name in re.findall(r"\w+", names):
            assert re.search(rf"\b{name}\b", text(path)), f"{path} holds no {name}"
    for name in re.findall(r"`(_?[A-Z][A-Z_]+)`", GUIDE):
        assert any(name in text(path) for path, _ in found if (ROOT / path).is_file()), name


@pytest.mark.parametrize("kind", [Order, Line, Customer, Address])
def test_a_field_of_an_order_is_in_the_table_and_in_the_schema(kind: type[Struct]) -> None:
    table, schema = text("docs/mappings.md"), json_schema()["$defs"][kind.__name__]["properties"]
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in table
        assert field.name in schema
        assert not field.required or field.name == "line_number", "a new field has a default: older messages do not have it"


def test_a_way_to_sign_in_is_in_the_table_and_in_a_test() -> None:
    table = text("docs/targets.md").partition("## Signing in")[2]
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests" / "targets").glob("*.py"))
    signing = text("gateway/targets/credentials.py") + text("gateway/outbound/auth_headers.py")
    for kind in get_args(Auth):
        assert f'| `"{kind.__struct_config__.tag}"`' in table
        assert f"{kind.__name__}(" in tests
        assert any(f"case {one.__name__}(" in signing for one in kind.__mro__) or kind is NoAuth


def test_a_status_is_where_the_guide_says() -> None:
    statuses: tuple[Any, ...] = get_args(Status)
    drawing = (base.__doc__ or "").split()
    columns = re.search(r"for word in \((.*?)\)", text("gateway/web/templates/index.html"))
    assert columns is not None
    for status in statuses:
        assert status in drawing
        assert f'"{status}"' in columns[1]
        assert f"`{status}`" in text("docs/submit.md")
        assert status in statuses_of("outbox")


def test_a_hook_is_where_the_guide_says() -> None:
    used = "".join(file.read_text("utf-8") for file in (ROOT / "plugins").glob("*/gateway_*/**/*.py"))
    for hook in HOOKS:
        assert hasattr(hookspecs, hook)
        assert f"| `{hook}` |" in text("plugins/README.md")
        assert re.search(rf"^@hookimpl\n(async )?def {hook}\(", used, re.MULTILINE), f"no plugin uses {hook}"
