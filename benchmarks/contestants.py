"""Who is measured: the gateway as it is installed, and the servers that it is compared with."""

from __future__ import annotations

import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.alternative import Kind
from benchmarks.child import ROOT, Child
from benchmarks.vendor import Vendor

SOURCE = "bench"
READY_S = 60.0
SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_FULL = SYNCHRONOUS.index("FULL")
_HOST = "127.0.0.1"
_SAMPLE = re.compile(r"^(gateway_\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


class Plain:
    """`bare` or `relay` of benchmarks/plain.py."""

    def __init__(self, what: str, *, erp: str = "", connections: int = 32) -> None:
        self.name = what
        self.child = Child(["-m", "benchmarks.plain", what, "--erp", erp, "--connections", str(connections)])
        self.port = int(self.child.hear()["port"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.kill()

    @property
    def children(self) -> Sequence[Child]:
        return [self.child]


class Alternative(Plain):
    """What could be run instead of the gateway, with an empty folder of its own."""

    def __init__(self, kind: Kind, folder: Path, vendor: Vendor, *, erp: str, connections: int) -> None:
        folder.mkdir(parents=True)
        arguments = ["-m", f"benchmarks.{kind.module}", *kind.arguments, "--data", str(folder), "--erp", erp, "--header", vendor.header]
        arguments += ["--connections", str(connections)]
        with (folder / "log").open("ab") as log:
            self.child = Child(arguments, errors=log)
            said = self.child.hear()
            self._workers = [Child([*arguments, "--worker"], errors=log) for _ in range(kind.workers)]
        self.kind = kind
        self.port = int(said["port"])
        level = int(said["synchronous"])
        weaker = "" if level >= _FULL else ", which is NOT THE SAME WORK"
        version = f" {importlib.metadata.version(kind.extra)}" if kind.extra else ""
        self.name = f"{kind.name}{version}, {said['journal_mode']}, synchronous={SYNCHRONOUS[level]}{weaker}"

    @property
    def children(self) -> Sequence[Child]:
        return [self.child, *self._workers]


class Gateway:
    """`gateway serve` on a data directory of its own; it starts with `start`.

    Args:
        folder: For its configuration, data and log.
        erp: Where the measured target is.
        concurrency: Of the measured target.
        doors: As TOML.
        down: Add a target that cannot be reached; no order of the benchmark goes there.
        launch: How the `gateway` command is started, for a profiler in between.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        vendor: Vendor,
        *,
        erp: str,
        concurrency: int = 32,
        down: bool = False,
        doors: str = '["webhook"]',
        launch: Sequence[str] = ("-m", "gateway.cli.main"),
    ) -> None:
        self.name = name
        self.folder = folder
        self.port, self._admin = free_port(), free_port()
        self._vendor = vendor
        self._launch = launch
        self._env = {"PYTHONPATH": vendor.python_path}
        self._child: Child | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "gateway.toml"
        self.config.write_text(_CONFIG.format(
            data=folder / "data", host=_HOST, port=self.port, admin=self._admin, erp=erp, concurrency=concurrency, source=SOURCE,
            connector=vendor.connector, settings=vendor.settings, doors=doors, down=_DOWN if down else "",
        ))  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()

    @property
    def child(self) -> Child:
        assert self._child is not None
        return self._child

    @property
    def children(self) -> Sequence[Child]:
        return [self.child]

    @property
    def database(self) -> Path:
        return self.folder / "data" / "gateway.db"

    def start(self) -> float:
        """Start the process; the seconds until it said READY=1."""
        address = str(self.folder / "notify")
        Path(address).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, (self.folder / "log").open("ab") as log:
            heard.bind(address)
            heard.settimeout(0.1)
            began = time.monotonic()
            arguments = [*self._launch, "serve", "--config", str(self.config), "--log", "json"]
            self._child = Child(arguments, env={**self._env, "NOTIFY_SOCKET": address}, errors=log)
            while time.monotonic() < began + READY_S and self._child.running:
                try:
                    if b"READY=1" in heard.recv(4096):
                        return time.monotonic() - began
                except TimeoutError:
                    pass
        raise RuntimeError(f"{self.name} does not get ready:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Drain and end."""
        code = self.child.end()
        if code != 0:
            raise RuntimeError(f"{self.name} ended with {code}:\n{(self.folder / 'log').read_text()[-2000:]}")

    def target(self, action: str) -> None:
        """`gateway target hold|release erp`."""
        path = os.pathsep.join([str(ROOT), self._env["PYTHONPATH"]])
        subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", "target", action, "erp", "--config", str(self.config)],
            env={**os.environ, "PYTHONPATH": path},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`."""
        with urllib.request.urlopen(f"http://{_HOST}:{self._admin}/metrics", timeout=30) as answer:
            return {name: float(value) for name, value in _SAMPLE.findall(answer.read().decode())}


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


_DOWN = """
[targets.down]
url = "http://127.0.0.1:9/"
"""

_CONFIG = """
[gateway]
data_dir = "{data}"
node = "bench"
[http]
listen = "{host}:{port}"
[admin]
listen = "{host}:{admin}"
[targets.erp]
url = "{erp}"
concurrency = {concurrency}
{down}
[sources.{source}]
connector = "{connector}"
targets = ["erp"]
doors = {doors}
max_requests_per_second = 1000000
[sources.{source}.settings]
{settings}
"""
