"""Pytest plugin of this suite: workers, temporary files, the seed, and the report of the tests that were left out."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.seed import SEED

# Folders and files whose tests share what was made once, for a module or for the session: one worker has them all. (The groups of
# pytest-xdist itself are marks, which it writes into node ids where pytest 9.2 no longer looks.)
TOGETHER = (
    "tests/config/test_sources.py",
    "tests/edge/test_realtime.py",
    "tests/edge/test_realtime_mutants.py",
    "tests/edge/test_signalr_hubs.py",
    "tests/edge/test_signalr_node.py",
    "tests/edge/test_signalr_secrets.py",
    "tests/harness/service/test_unit.py",
    "tests/test_supply_chain.py",
    "tests/tryton/",
    "tests/harness/walk/",
)
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 << 30
deselected: set[str] = set()


def pytest_configure() -> None:
    """Spare each test the disk's syncs, and each gateway that it starts the 27 ms for the system's list of authorities."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        room = os.statvfs(MEMORY)
        if room.f_bavail * room.f_frsize > ENOUGH_BYTES and not room.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    os.environ.setdefault(ssl.get_default_verify_paths().openssl_cafile_env, os.devnull)


def pytest_report_header() -> str:
    return f"seed {SEED}; the same once more: TEST_SEED={SEED} make test"


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # before the answer of pytest-xdist itself
def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core: most of the time a test waits for a socket or a process."""
    return min(8, 2 * len(os.sched_getaffinity(0)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a fixture that outlives its test where tests are spread over the workers: each would make it."""
    for item in items:
        made = [one[-1] for one in item._fixtureinfo.name2fixturedefs.values()] if isinstance(item, pytest.Function) else []
        kept = [one.argname for one in made if one.scope != "function" and one.baseid]
        if kept and not item.nodeid.startswith(TOGETHER):
            raise pytest.UsageError(f"{item.nodeid}: the fixture {kept[0]} outlives the test; add the file to TOGETHER in tests/suite.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread single tests over the workers, but for those that stay together."""
    from xdist.scheduler import LoadScopeScheduling

    class Spread(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)

    return Spread(config, log)


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
