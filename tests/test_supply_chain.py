"""What is installed: locks with hashes, no version that an advisory is about, and no msgpack in a running gateway."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-install.lock"]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply_audit", ROOT / "supply" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


# --- the locks


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_has_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option of pip"
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_what_is_installed_is_what_was_tested(audit: ModuleType) -> None:
    assert set(audit.pins(LOCKS[1])) < set(audit.pins(LOCKS[0]))
    hashes = [set(re.findall(r"--hash=sha256:[0-9a-f]{64}", lock.read_text("utf-8"))) for lock in LOCKS]
    assert hashes[1] < hashes[0]


def test_the_installation_has_what_the_gateway_needs_and_what_builds_it(audit: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    assert {audit.normal(re.split(r"[\[<>=!~ ]", one)[0]) for one in needed} <= {pin.name for pin in audit.pins(LOCKS[1])}


def test_every_override_is_in_the_locks(audit: ModuleType) -> None:
    lines = (ROOT / "supply/overrides.txt").read_text("utf-8").splitlines()
    overrides = [line.split("#") for line in lines if not line.startswith("#")]
    assert [(one.strip(), len(why) > 1) for one, why in overrides] == [("msgpack>=1.2.1", True)]
    for lock in LOCKS:
        (version,) = [pin.version for pin in audit.pins(lock) if pin.name == "msgpack"]
        assert tuple(map(int, version.split("."))) >= (1, 2, 1)


def test_the_documents_install_by_the_hashed_lock() -> None:
    manual = (ROOT / "docs/install.md").read_text("utf-8")
    installs = re.findall(r"pip install .*", manual)
    assert installs
    for line in installs:
        assert "--require-hashes --no-deps" in line or "--no-deps --no-build-isolation" in line or line.startswith("pip install`"), line


# --- the audit


OLD = (
    "msgpack==1.1.2 \\\n    --hash=sha256:" + "0" * 64 + "\n    # via signalrcore\naiohttp==3.14.5 \\\n    --hash=sha256:" + "1" * 64 + "\n"
)


def test_the_locks_hold_nothing_that_the_list_knows(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--advisories", str(audit.OFFLINE)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^\d\d packages looked up in .*advisories\.json, of 20\d\d-\d\d-\d\d: none with a known advisory$", out, re.MULTILINE)


def test_known_bad_mutant_the_pin_of_signalrcore_is_found(audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.lock").write_text(OLD)
    assert audit.main(["--lock", str(tmp_path / "bad.lock"), "--advisories", str(audit.OFFLINE)]) == 1
    assert "msgpack 1.1.2: GHSA-6v7p-g79w-8964\n2 packages looked up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "hit"),
    [
        ("1.0", True),
        ("1.4.9", True),
        ("1.5.0", False),
        ("2.0rc1", True),
        ("2.0", True),
        ("2.1", True),
        ("2.2", False),
        ("3.7", True),
        ("0.9", False),
    ],
)
def test_versions_are_compared_as_the_index_does(audit: ModuleType, tmp_path: Path, version: str, hit: bool) -> None:
    events = [{"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0rc1"}, {"last_affected": "2.1"}]
    about = {
        "package": {"ecosystem": "PyPI", "name": "My.Package"},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
        "versions": ["3.7"],
    }
    records = [{"id": "X-1", "affected": [about]}, {"id": "X-2", "withdrawn": "2026-01-01", "affected": [about]}]
    (tmp_path / "list.json").write_text(json.dumps({"written": "2026-12-01", "advisories": records}))
    (tmp_path / "a.lock").write_text(f"my_package=={version} ; python_version < '4' \\\n    --hash=sha256:{'0' * 64}\n")
    assert audit.main(["--lock", str(tmp_path / "a.lock"), "--advisories", str(tmp_path / "list.json")]) == int(hit)


@contextmanager
def osv(answer: Any) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers as OSV's batch query does."""
    heard: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/querybatch", heard
        finally:
            server.shutdown()
            thread.join()


def test_osv_is_asked_for_every_package_in_one_request(audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.lock").write_text(OLD)
    with osv({"results": [{}, {"vulns": [{"id": "GHSA-x"}, {"id": "PYSEC-y"}]}]}) as (url, heard):
        assert audit.audit([tmp_path / "bad.lock"], None, url) == 1
    assert [query["package"]["name"] + " " + query["version"] for query in heard[0]["queries"]] == ["aiohttp 3.14.5", "msgpack 1.1.2"]
    assert "msgpack 1.1.2: GHSA-x, PYSEC-y" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [{"results": [{}]}, {"results": []}, {}, [], {"results": [{}, {"vulns": [{}]}]}, "x"])
def test_an_answer_that_leaves_a_package_out_is_no_all_clear(
    audit: ModuleType, tmp_path: Path, answer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.lock").write_text(OLD)
    with osv(answer) as (url, _):
        assert audit.audit([tmp_path / "a.lock"], None, url) == 2
    assert "packages looked up" not in capsys.readouterr().out


def test_where_osv_cannot_be_reached_it_fails_and_says_what_to_do(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.audit(audit.LOCKS, None, "http://127.0.0.1:1/v1/querybatch") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert 'make audit ARGS="--advisories FILE_OR_URL"' in err
    assert f"of {audit.written(audit.OFFLINE)}" in err


@pytest.mark.parametrize("lock", ["", "# nothing\n", "msgpack>=1.0\n", "-r other.lock\n", "msgpack @ file:///x\n"])
def test_a_lock_that_pins_nothing_is_no_all_clear(audit: ModuleType, tmp_path: Path, lock: str) -> None:
    (tmp_path / "a.lock").write_text(lock)
    assert audit.main(["--lock", str(tmp_path / "a.lock"), "--advisories", str(audit.OFFLINE)]) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"advisories": [{}]}', '{"advisories": [{"id": "x"}]}'])
def test_a_list_that_is_none_is_no_all_clear(audit: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    assert audit.main(["--advisories", str(tmp_path / "list.json")]) == 2


def test_an_old_list_says_how_old_it_is(audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for written, said in ((date.today(), ""), (date.today() - timedelta(days=90), "90 days old"), (None, "of an unknown date")):
        (tmp_path / "list.json").write_text(json.dumps({"written": str(written), "advisories": []}))
        assert audit.main(["--advisories", str(tmp_path / "list.json")]) == 0
        assert said in capsys.readouterr().out


# --- what is never used


WATCHED = """
import asyncio, importlib, pkgutil, sys
tried = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "msgpack":
            tried.append(name)
sys.meta_path.insert(0, Watch())
import gateway
for package in ("gateway", "gateway_apicbase", "gateway_pickup_cloud", "gateway_scalepoint", "gateway_supercat"):
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
from gateway import HeaderAuth, Secret, Subscription
from gateway.clock import SystemClock
from gateway.edge.signalr import NullListener, Session
from gateway.service.runtime import hub_session
from gateway.testing.hub import FaultHub
async def talk():
    hub = FaultHub()
    await hub.start()
    told = Subscription(url=hub.url, auth=HeaderAuth(name="x-api-key", value=Secret("k", origin="test")))
    async with hub_session(told.url, private=True) as http:
        assert await Session(told, NullListener(), http, SystemClock()).probe() is None
    await hub.stop()
asyncio.run(talk())
MORE
print("tried", tried, "loaded", [name for name in sys.modules if name.split(".")[0] == "msgpack"])
"""


def watched(more: str = "") -> str:
    done = subprocess.run([sys.executable, "-c", WATCHED.replace("MORE", more)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_nothing_of_ours_imports_msgpack_also_while_it_talks_to_a_hub() -> None:
    assert watched() == "tried [] loaded []"


def test_known_bad_mutant_a_module_that_imports_it_is_seen() -> None:
    said = watched("import signalrcore.protocol.messagepack_protocol")
    assert "tried ['msgpack'" in said
    assert "'msgpack'" in said.partition("loaded")[2]
