"""What is installed: real distributions in a folder on the path, some of them broken."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from gateway.plugin.discovery import GROUP, Plugin, installed

Install = Callable[..., None]

GOOD = """
    from gateway import Description, Order, Page, hookimpl
    from msgspec import Struct

    class Settings(Struct):
        pass

    @hookimpl
    def describe():
        return Description(title="Good vendor", settings=Settings)

    @hookimpl
    async def poll(cursor):
        return Page()

    @hookimpl
    def normalize(event, document):
        return Order()
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution on the path: `install("name", connector="entry point name", code="...")`."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def put(distribution: str, *, connector: str, code: str | None = GOOD, version: str = "1.2.3", names: str = "") -> None:
        module = f"zz_{distribution.replace('-', '_')}"
        if code is not None:
            (tmp_path / f"{module}.py").write_text(dedent(code))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{connector} = {module}{names}\n")
        made.append(module)
        importlib.invalidate_caches()

    yield put
    for module in made:
        sys.modules.pop(module, None)


def found(name: str) -> Plugin:
    return installed()[name]


def test_an_installed_connector_is_found_with_what_it_can_do(install: Install) -> None:
    install("order-gateway-good", connector="zz_good")
    plugin = found("zz_good")
    assert (plugin.distribution, plugin.version, plugin.title) == ("order-gateway-good", "1.2.3", "Good vendor")
    assert (plugin.doors, plugin.hooks, plugin.problem, plugin.trace) == (("poll",), ("describe", "normalize", "poll"), None, None)
    assert plugin.module is not None


BROKEN: dict[str, tuple[str | None, str, bool]] = {
    "a syntax error": ("def describe(:", "cannot be imported: SyntaxError", True),
    "an import that fails": ("import no_such_module_anywhere", "cannot be imported: ModuleNotFoundError", True),
    "an exception at import": ("1 / 0", "cannot be imported: ZeroDivisionError", True),
    "an exit at import": ("raise SystemExit(3)", "cannot be imported: SystemExit", True),
    "an interrupt at import": ("raise KeyboardInterrupt", "cannot be imported: KeyboardInterrupt", True),
    "no module at all": (None, "cannot be imported: ModuleNotFoundError", True),
    "no hooks": ("x = 1", "does not implement describe and normalize", False),
    "a hook of another colour": (GOOD.replace("async def poll", "def poll"), "poll must be async def", False),
    "an unknown argument": (GOOD.replace("poll(cursor)", "poll(cursors)"), "cursors", True),
    "a description that fails": (
        GOOD.replace('return Description(title="Good vendor", settings=Settings)', "raise OSError(5)"),
        "describe failed",
        True,
    ),
}


@pytest.mark.parametrize(("code", "problem", "traced"), BROKEN.values(), ids=BROKEN)
def test_a_broken_connector_is_named_and_the_others_load(install: Install, code: str | None, problem: str, traced: bool) -> None:
    install("order-gateway-broken", connector="zz_broken", code=code, version="0.9")
    install("order-gateway-good", connector="zz_good")
    broken = found("zz_broken")
    assert problem in (broken.problem or "")
    assert (broken.distribution, broken.version, broken.module) == ("order-gateway-broken", "0.9", None)
    assert (broken.trace is not None) == traced
    assert found("zz_good").problem is None


def test_the_trace_says_where_in_the_plugin_it_failed(install: Install) -> None:
    install("order-gateway-broken", connector="zz_broken", code="def deep():\n    return 1 / 0\n\ndeep()\n")
    assert 'zz_order_gateway_broken.py", line 2, in deep' in (found("zz_broken").trace or "")


def test_an_entry_point_that_names_nothing_is_named(install: Install) -> None:
    install("order-gateway-lost", connector="zz_lost", names=":no_such_attribute")
    assert "cannot be imported: AttributeError" in (found("zz_lost").problem or "")


@pytest.mark.parametrize("count", [2, 3])
def test_two_distributions_with_one_name_are_refused_and_named(install: Install, count: int) -> None:
    for n in range(count):
        install(f"order-gateway-{'abc'[n]}", connector="zz_twice")
    install("order-gateway-good", connector="zz_good")
    plugin = found("zz_twice")
    assert plugin.module is None
    for n in range(count):
        assert f"order-gateway-{'abc'[n]}" in (plugin.problem or "")
    assert "uninstall all but one" in (plugin.problem or "")
    assert found("zz_good").problem is None


def test_one_distribution_may_bring_two_connectors(install: Install, tmp_path: Path) -> None:
    install("order-gateway-good", connector="zz_good")
    points = tmp_path / "order_gateway_good-1.2.3.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "zz_also = zz_order_gateway_good\n")
    assert found("zz_good").problem is found("zz_also").problem is None


def test_nothing_installed_is_nothing_found() -> None:
    assert installed([]) == {}
