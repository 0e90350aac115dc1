"""A machine to install on: systemd in a container over this machine's own files, thrown away afterwards.

What cannot be had here raises `Unavailable`, so that a test can tell a poor environment from a unit that fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_BOOT_S = 60.0
TARGET = "order-gateway-test.target"
_TOOLS = ("systemd-nspawn", "systemctl", "nsenter", "pgrep", "mount", "umount")


class Unavailable(Exception):
    """This machine cannot run the container; the text says why."""


def unavailable() -> str | None:
    """Why there can be no container here, as far as that can be seen without trying."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "booting a container needs root on Linux"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: apt install systemd-container)"
    return None


class Container:
    """One container: `boot`, then `run`; `close` in any case.

    Args:
        folder: An empty folder; a tmpfs is mounted in it.
        binds: Read-only mounts, this machine's path to the container's.
        writable: The same, to be written.
        own_network: False: it is on this machine's, with its loopback.
    """

    def __init__(self, folder: Path, binds: dict[Path, str], *, writable: dict[Path, str] | None = None, own_network: bool = True) -> None:
        self._folder = folder
        self._binds = binds
        self._writable = writable or {}
        self._own_network = own_network
        self._name = f"gw-{os.getpid()}-{time.monotonic_ns() % 100_000_000}"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.tree = folder / "tree"
        self.boot_log = folder / "boot.log"
        self._layers = folder / "layers"
        for path in (self.tree, self._layers):
            path.mkdir()
        self._mount("-t", "tmpfs", "tmpfs", str(self._layers))
        for name in ("upper", "work"):
            (self._layers / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._layers}/upper,workdir={self._layers}/work"
        self._mount("-t", "overlay", "overlay", "-o", layers, str(self.tree))
        self._make_bare()

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            self.close()
            raise Unavailable(f"cannot mount: {done.stderr.strip()}")

    def _make_bare(self) -> None:
        """A system that starts nothing of what this machine would, and knows nothing of a gateway installed on it."""
        units = self.tree / "etc/systemd/system"
        (units / TARGET).write_text("[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n")
        for noise in (
            "systemd-networkd-wait-online.service",
            "systemd-update-utmp.service",
            "systemd-resolved.service",
            "apparmor.service",
        ):
            self._mask(units / noise)
        for path in ("etc/order-gateway", "var/lib/order-gateway", "var/lib/private/order-gateway", "opt/order-gateway", "var/log/journal"):
            gone = self.tree / path
            if gone.is_symlink() or gone.is_file():
                gone.unlink()
            else:
                shutil.rmtree(gone, ignore_errors=True)

    @staticmethod
    def _mask(unit: Path) -> None:
        unit.unlink(missing_ok=True)
        unit.symlink_to("/dev/null")

    def boot(self) -> None:
        """Start systemd; returns when it has reached its target."""
        command = ["systemd-nspawn", "-q", "-D", str(self.tree), "-M", self._name, "--register=no", "--keep-unit"]
        command += ["--console=pipe", "--link-journal=no", *(f"--bind-ro={ours}:{theirs}" for ours, theirs in self._binds.items())]
        command += [f"--bind={ours}:{theirs}" for ours, theirs in self._writable.items()]
        command += ["--private-network"] if self._own_network else []
        with self.boot_log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                [*command, "-b", f"systemd.unit={TARGET}"],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        # The first child that is seen may be the helper that makes the real one, so look each time.
        self._until(lambda: self._has_leader() and self._is_up(), "systemd did not come up")

    def _until(self, condition: Callable[[], bool], failure: str) -> None:
        end = time.monotonic() + _BOOT_S
        while not condition():
            assert self._nspawn is not None
            if self._nspawn.poll() is not None or time.monotonic() > end:
                raise Unavailable(f"{failure}; its console: {self.boot_log.read_text('utf-8', 'replace')[-600:].strip()!r}")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-active", TARGET).stdout.strip() == "active"

    def _has_leader(self) -> bool:
        assert self._nspawn is not None
        children = subprocess.run(["pgrep", "-P", str(self._nspawn.pid)], capture_output=True, text=True, check=False).stdout.split()
        self._leader = int(children[0]) if children else 0
        return bool(children)

    def run(self, *command: str, stdin: str | None = None, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root."""
        return subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", "--", *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def spawn(self, command: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
        """Start a program of this machine in the container's network."""
        return subprocess.Popen(["nsenter", "-t", str(self._leader), "-n", "--", *command], **more)  # type: ignore[call-overload]

    def crash(self) -> None:
        """Kill everything in it, as a power cut would; it can be booted again."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            if self._leader:
                try:
                    os.kill(self._leader, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                self._nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(10)

    def close(self) -> None:
        """Kill everything in it and unmount."""
        self.crash()
        for path in (self.tree, self._layers):
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)
