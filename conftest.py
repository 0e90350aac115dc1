"""How the suite is run: what shares a fixture of a module stays on one worker, and what was left out is said with how to run it."""

from __future__ import annotations

from typing import Any

import pytest

SHARED = ("module", "package", "session")
deselected: set[str] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what uses one of our fixtures that outlives a test, so that two workers do not make it twice."""
    for item in items:
        made = [one[-1] for one in item._fixtureinfo.name2fixturedefs.values()] if isinstance(item, pytest.Function) else []
        homes = [one.baseid for one in made if one.scope in SHARED and one.baseid]
        if homes and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(min(homes)))


def pytest_deselected(items: list[pytest.Item]) -> None:
    deselected.update(item.nodeid for item in items if item.get_closest_marker("long"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports; only a worker knows what it deselected."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["deselected"] = sorted(deselected)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    deselected.update(getattr(node, "workeroutput", {}).get("deselected", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if deselected:
        terminalreporter.write_line(f"{len(deselected)} long tests deselected; `make test-all` runs them too", yellow=True)
