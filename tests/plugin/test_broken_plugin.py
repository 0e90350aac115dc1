"""A plugin that cannot be used takes its own sources down, with the reason, and nothing else."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from gateway import Description, Order, Page, hookimpl
from gateway.api.errors import ConfigError, GatewayError
from gateway.plugin.discovery import Plugin, installed
from gateway.service.assembly import assemble
from gateway.service.operations import Operation
from tests import acme
from tests.log_lines import log_lines

BAD = '[sources.bad]\nconnector = "bad"\n'
WHY = "the plugin bad 2 cannot be used: cannot be imported: ImportError: no module named x"


def unusable(problem: str = "cannot be imported: ImportError: no module named x") -> Plugin:
    return Plugin(name="bad", distribution="bad", version="2", problem=problem)


def usable(module: Any) -> Plugin:
    return Plugin(name="bad", distribution="bad", version="2", module=module)


async def test_the_others_run_and_everything_says_why_this_one_does_not(start, erp, too) -> None:
    too["bad"] = unusable()
    with log_lines() as lines:
        running = await start(erp.url, more=BAD + 'doors = ["webhook"]\n')
    assert await running.deliver(acme.body("o1")) == (200, {"status": "stored", "key": "o1"})
    await erp.wait_for(1)
    assert len([line for line in lines if '"door.down"' in line]) == 1
    status, said = await running.get("/readyz")
    assert (status, said["reasons"]) == (503, [{"source": "bad", "door": "plugin", "reason": WHY}])
    _, shown = await running.get("/api/status")
    assert shown["sources"]["bad"]["doors"] == {"webhook": "down", "plugin": "down"}
    assert shown["sources"]["acme"]["doors"] == {"webhook": "up", "poll": "up"}
    _, metrics = await running.get("/metrics")
    assert 'gateway_door_up{door="webhook",source="bad"} 0.0' in metrics
    _, page = await running.get("/")
    assert "no module named x" in page


async def test_its_webhook_is_503_so_that_the_vendor_comes_again(start, erp, too) -> None:
    too["bad"] = unusable()
    running = await start(erp.url, more=BAD)
    with log_lines() as lines:
        for _ in range(3):
            async with running.session.post(f"{running.vendors_url}/in/bad", data=b"{}") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    assert len([line for line in lines if '"webhook.closed"' in line]) == 1
    assert await running.rows("inbox") == []


async def test_one_without_a_webhook_is_404_as_before(start, erp, too) -> None:
    too["bad"] = unusable()
    running = await start(erp.url, more=BAD + 'doors = ["poll"]\n')
    assert (await running.deliver(b"{}", source="bad"))[0] == 404


class Module(ModuleType):
    """A connector with a poll door; `faults` are put over its parts."""

    def __init__(self, **faults: Any) -> None:
        super().__init__("bad")

        @hookimpl
        def describe() -> Description:
            return Description(title="Bad", **{"settings": acme.Settings, **faults})

        @hookimpl
        async def poll() -> Page:
            return Page()

        @hookimpl
        def normalize() -> Order:
            return Order()

        self.describe, self.poll, self.normalize = describe, poll, normalize


def boom(*_: Any) -> Any:
    raise OSError("out of order")


class Exploding(acme.Settings, frozen=True, kw_only=True):
    def check(self) -> Any:
        raise SystemExit(3)


BUILDING: dict[str, tuple[Any, str]] = {
    "settings that explode": (Module(settings=Exploding), "SystemExit while its settings are read"),
    "stages": (Module(api=boom), "describe failed: OSError"),
    "the poll interval": (Module(poll_interval_s=boom), "describe failed: OSError"),
    "fetch_retry": (Module(fetch_retry=boom), "describe failed: OSError"),
    "a description that is none": (Module(needs=7), "AttributeError while its settings are read"),
}


@pytest.mark.parametrize(("module", "why"), BUILDING.values(), ids=BUILDING)
async def test_whatever_it_raises_while_it_is_built_ends_in_its_own_sources(start, erp, too, module: Any, why: str) -> None:
    too["bad"] = usable(module)
    running = await start(erp.url, more=BAD)
    assert (await running.deliver(acme.body("o1")))[0] == 200
    assert why in running.gateway._runtime.broken["bad"].reason
    running.config.write_text(running.config.read_text() + '[sources.nothing]\nconnector = "acme"\nx = 1\n')
    with pytest.raises(ConfigError, match=r"sources\.nothing") as refused:  # the plugin's problem is told beside those of the file
        assemble(running.config, {"acme": Plugin(name="acme", distribution="acme", version="1", module=acme), **too})
    assert any("sources.bad.connector: the plugin bad 2" in problem for problem in refused.value.problems)


async def test_one_that_answers_otherwise_the_second_time_is_down_too(start, erp, too) -> None:
    answers = [frozenset[str]()]

    def stages(_: Any) -> Any:
        return answers.pop() if answers else boom()

    module = Module(acknowledge=stages)
    vars(module).update(acknowledge=acme.acknowledge)
    too["bad"] = usable(module)
    running = await start(erp.url, more=BAD)
    assert (await running.deliver(acme.body("o1")))[0] == 200
    assert running.gateway._metrics.health.doors["bad", "plugin"].state == "down"


async def test_a_mistake_in_the_file_stops_the_start(start, erp, too) -> None:
    too["bad"] = usable(Module())
    with pytest.raises(ConfigError, match=r"sources\.bad\.settings\.nothing"):
        await start(erp.url, more=BAD + "[sources.bad.settings]\nnothing = 1\n")


async def test_a_connector_that_is_not_installed_stops_a_first_start_and_takes_down_what_ran_before(start, erp, too) -> None:
    with pytest.raises(ConfigError, match="no connector 'bad' is installed"):
        await start(erp.url, more=BAD)
    too["bad"] = usable(Module())
    assert await (await start(erp.url, more=BAD)).stop() == 0
    too.clear()
    running = await start(erp.url, more=BAD)
    assert running.gateway._runtime.broken["bad"].reason.startswith("no connector 'bad' is installed")


async def test_deliveries_go_on_and_a_resume_finds_the_plugin_mended(start, erp, too) -> None:
    erp.arm("status", status=503, times=1000)
    target = "retry = { base_s = 0.05, cap_s = 0.05 }\nbreaker = { failures = 1000, cooldown_s = 1 }"
    running = await start(erp.url, target=target)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: _any(running, "outbox"))
    assert await running.stop() == 0
    erp.disarm()
    too["acme"] = Plugin(name="acme", distribution="acme", version="2", problem="does not fit")
    running = await start(erp.url, target=target)
    await erp.wait_for(1)
    assert (await running.deliver(acme.body("o2")))[0] == 503
    del too["acme"]
    assert await running.gateway._operations(Operation(action="resume", who="me", name="acme")) == "acme"
    assert (await running.deliver(acme.body("o2")))[0] == 200
    await erp.wait_for(2)
    assert (await running.get("/readyz"))[0] == 200


async def _any(running: Any, queue: str) -> bool:
    return bool(await running.rows(queue))


async def test_a_reload_does_not_give_up_a_source_that_works(start, erp, too) -> None:
    running = await start(erp.url)
    too["acme"] = Plugin(name="acme", distribution="acme", version="2", problem="does not fit")
    with log_lines() as lines:
        await running.gateway._reload()
    assert any("config.refused" in line and "does not fit" in line for line in lines)
    assert (await running.deliver(acme.body("o1")))[0] == 200


async def test_resuming_one_that_is_still_broken_says_so(start, erp, too) -> None:
    too["bad"] = unusable()
    running = await start(erp.url, more=BAD)
    with pytest.raises(GatewayError, match="no module named x; after a repair, restart"):
        await running.gateway._operations(Operation(action="resume", who="me", name="bad"))


# --- what is imported


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A site with three connectors that leave a mark when they are imported, and a configuration that uses one."""
    site = tmp_path / "site"
    info = site / "marked-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: marked\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gateway.connectors]\n" + "".join(f"zz_{n} = zz_{n}\n" for n in ("used", "unused")))
    code = """
        from pathlib import Path
        from msgspec import Struct
        from gateway import Description, Order, Page, hookimpl
        Path(__file__).with_suffix(".mark").touch()
        class Settings(Struct):
            pass
        @hookimpl
        def describe(): return Description(title="Marked", settings=Settings)
        @hookimpl
        async def poll(cursor): return Page()
        @hookimpl
        def normalize(document): return Order()
    """
    for name in ("used", "unused"):
        (site / f"zz_{name}.py").write_text(dedent(code))
    (tmp_path / "gateway.toml").write_text(
        '[gateway]\ndata_dir = "data"\n[store]\nreserve_bytes = 0\n[targets.erp]\nurl = "http://127.0.0.1:9/"\n'
        '[sources.shop]\nconnector = "zz_used"\n'
    )
    return tmp_path


def imported(folder: Path, *commands: list[str]) -> set[str]:
    """Which connectors are imported by commands that are run in one process."""
    script = "import sys, json\nfrom gateway.cli.main import main\nfor one in json.loads(sys.argv[1]): main(one)\n"
    config = ["--config", str(folder / "gateway.toml")]
    said = json.dumps([[*one, *config] for one in commands])
    subprocess.run([sys.executable, "-c", script, said], env={**os.environ, "PYTHONPATH": str(folder / "site")}, check=True, timeout=60)
    marks = [*(folder / "site").glob("*.mark")]
    for mark in marks:
        mark.unlink()
    return {mark.stem for mark in marks}


LOOKING = ["status", "sources", "plugins", "inbox", "outbox", "submissions", "orders", "schema"]
WORKING = [["show", "x"], ["replay", "x"], ["release", "x"], ["drop", "x", "--reason", "y"], ["purge"], ["resume", "shop"], ["migrate"]]


def test_only_what_a_source_uses_is_imported_and_nothing_by_who_only_looks(marked: Path) -> None:
    data = marked / "data"
    data.mkdir()
    from gateway.clock import SystemClock
    from gateway.store.sqlite import SqliteStore

    async def once() -> None:
        store = SqliteStore(data / "gateway.db", clock=SystemClock())
        await store.open()
        await store.close()

    asyncio.run(once())
    assert imported(marked, *([name] for name in LOOKING), *WORKING) == set()
    assert imported(marked, ["check"]) == {"zz_used"}
    assert imported(marked, ["plugins", "--load"]) == {"zz_used", "zz_unused"}


def test_a_plugin_that_is_mended_is_found_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "zz_mended"
    package.mkdir()
    (package / "__init__.py").write_text("from zz_mended.part import x\nraise ImportError(x)\n")
    (package / "part.py").write_text("x = 'before'\n")
    info = tmp_path / "zz_mended-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zz-mended\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gateway.connectors]\nzz_mended = zz_mended\n")
    importlib.invalidate_caches()
    assert "before" in (installed(load={"zz_mended"})["zz_mended"].problem or "")
    code = Path(acme.__file__).read_text()
    (package / "part.py").write_text("x = 'and after'\n")
    (package / "__init__.py").write_text(code + "\nfrom zz_mended.part import x\nassert x == 'and after'\n")
    try:
        assert installed(load={"zz_mended"})["zz_mended"].problem is None
    finally:
        for name in ("zz_mended", "zz_mended.part"):
            sys.modules.pop(name, None)
