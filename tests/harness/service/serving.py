"""`gateway serve` as an operator starts it: the real command in a process of its own, and a socket that hears sd_notify."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests import acme
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]
SECRET = "constructed-secret-do-not-use"
COMMAND = (sys.executable, "-m", "gateway.cli.main")


def install_acme(folder: Path) -> Path:
    """A folder for PYTHONPATH with the connector `acme` in it, installed as far as importlib.metadata can tell."""
    declare(folder, "acme")
    (folder / "acme.py").write_text(Path(acme.__file__).read_text("utf-8"))
    return folder


def declare(folder: Path, connector: str, module: str | None = None) -> None:
    """What pip would write of a distribution with one connector."""
    info = folder / f"{connector}_connector-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {connector}-connector\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gateway.connectors]\n{connector} = {module or connector}\n")


class Installation:
    """A folder with a configuration, its secrets and its data, and the environment to run commands in.

    `target`, `source`, `more` are text for their tables in the configuration; `write()` writes what they say now.
    """

    def __init__(self, folder: Path, erp_url: str) -> None:
        self.folder = folder
        self.erp_url = erp_url
        self.port, self.admin_port = free_ports(2)
        self.data_dir = "data"
        self.target = self.source = self.more = ""
        (folder / "secret").write_text(SECRET + "\n")
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(install_acme(folder / "lib")), str(ROOT)])}
        for name in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC"):
            self.environment.pop(name, None)
        self.write()

    @property
    def config(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in/acme"

    def write(self) -> None:
        """Write the configuration, all at once, as a careful editor does."""
        new = self.folder / "gateway.toml.new"
        parts = [
            f'[gateway]\ndata_dir = "{self.data_dir}"\n[store]\nreserve_bytes = 0',
            f'[http]\nlisten = "127.0.0.1:{self.port}"\n[admin]\nlisten = "127.0.0.1:{self.admin_port}"',
            f'[targets.erp]\nurl = "{self.erp_url}"\n{self.target}',
            f'[sources.acme]\nconnector = "acme"\ndoors = ["webhook"]\n{self.source}',
            f'[sources.acme.settings]\nsecret = {{ file = "secret" }}\n{self.more}',
        ]
        new.write_text("\n".join(parts) + "\n")
        new.rename(self.config)

    async def command(self, *arguments: str, timeout_s: float = 20) -> tuple[int, str, str]:
        """Run `gateway ...` to its end: exit code, output, errors."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            *("--config", str(self.config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
            raise
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def serve_as(self, program: str) -> AbstractAsyncContextManager[Serving]:
        """`serve` by a Python program that changes something before it calls `gateway.cli.main.main`."""
        (self.folder / "program.py").write_text(program)
        return self.serve(sys.executable, str(self.folder / "program.py"))

    @asynccontextmanager
    async def serve(self, *command: str) -> AsyncIterator[Serving]:
        """Start `gateway serve`, or another command that ends in it, and wait until it says READY."""
        with Notified(self.folder / "notify") as notified, (self.folder / "log.jsonl").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(command or COMMAND),
                *("serve", "--log", "json", "--config", str(self.config)),
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                env={**self.environment, "NOTIFY_SOCKET": str(self.folder / "notify")},
            )
            serving = Serving(self, process, notified)
            try:
                await serving.until(lambda: serving.notified.count("READY=1") > 0)
                yield serving
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


class Notified:
    """The systemd side of sd_notify."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._heard: list[str] = []

    def __enter__(self) -> Notified:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def heard(self) -> list[str]:
        """Every state so far, in order."""
        with suppress(BlockingIOError):
            while True:
                self._heard += self._socket.recv(4096).decode().split("\n")
        return self._heard

    def count(self, state: str) -> int:
        return self.heard.count(state)


class Serving:
    """A gateway that is up."""

    def __init__(self, installation: Installation, process: asyncio.subprocess.Process, notified: Notified) -> None:
        self.installation = installation
        self.process = process
        self.notified = notified

    @property
    def is_reloading(self) -> bool:
        """Whether the last that systemd heard of the two is RELOADING."""
        last = [state for state in self.notified.heard if state in ("READY=1", "RELOADING=1")][-1]
        return last == "RELOADING=1"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = 20) -> int:
        """Wait for the end; the exit code."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 15) -> None:
        """Wait for something that has no event of its own, while the process lives."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    assert self.process.returncode is None, f"it ended with {self.process.returncode}: {self.said()}"
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {self.said()}") from None

    def said(self) -> str:
        """Its log as it is, without what an earlier process said before it."""
        return (self.installation.folder / "log.jsonl").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        lines = [line for line in self.said().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
        return [line for line in map(json.loads, lines) if line["event"] == name]

    async def deliver(self, session: aiohttp.ClientSession, body: bytes, secret: str = SECRET) -> int:
        """One signed webhook; the status."""
        async with session.post(self.installation.url, data=body, headers={"X-Acme-Signature": acme.sign(secret, body)}) as answer:
            await answer.read()
            return answer.status
