"""System calls of one gateway made to fail: strace, attached before the process does anything (reliability.md, section 3)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from tests.journey.process import Process

# What a gateway does to its data directory.
CALLS = ("openat", "pread64", "pwrite64", "write", "fdatasync", "fsync", "ftruncate", "fallocate", "unlink", "rename", "mkdir", "flock")
FILES = (
    "",
    "gateway.beginning",
    "gateway.db",
    "gateway.db-wal",
    "gateway.db-shm",
    "gateway.db-journal",
    "gateway.lock",
    "gateway.reserve",
    "control.sock",
)
_LINE = re.compile(r"^(\d+) +(\w+)\(")
_ATTACH_S = 10


class Point(Struct, frozen=True):
    """One place to break: the nth such call of a thread, this time or from then on."""

    call: str
    nth: int
    fault: str
    sticks: bool

    def __str__(self) -> str:
        return f"{self.fault} at {self.call} {self.nth}{'+' if self.sticks else ''}"

    @property
    def injection(self) -> str:
        what = "signal=SIGKILL" if self.fault == "kill" else f"error={self.fault}"
        return f"inject={self.call}:{what}:when={self.nth}{'+' if self.sticks else ''}"


class Traced(Struct):
    """What strace wrote."""

    log: Path

    def calls(self) -> Counter[str]:
        """How many of each call the busiest thread made."""
        per_thread = Counter(found.groups() for found in map(_LINE.match, self._lines()) if found)
        most: Counter[str] = Counter()
        for (_, call), count in per_thread.items():
            most[call] = max(most[call], count)
        return most

    def injected(self) -> int:
        """How many calls were made to fail; a kill is one too."""
        return sum("(INJECTED)" in line or "killed by SIGKILL" in line for line in self._lines())

    def _lines(self) -> list[str]:
        return self.log.read_text("utf-8", "replace").splitlines()


def missing() -> str | None:
    """Why nothing can be traced here."""
    if shutil.which("strace") is None:
        return "needs strace"
    done = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace is not allowed here: {done.stderr.strip()}" if done.returncode else None


@asynccontextmanager
async def traced(gateway: Process, data_dir: Path, log: Path, point: Point | None = None) -> AsyncIterator[Traced]:
    """Start a gateway of which every call on the store's files is seen, and one fails. It need not have come up yet."""
    files = [option for name in FILES for option in ("-P", str(data_dir / name))]
    injection = ["-e", point.injection] if point else []
    await gateway.spawn("stopped")
    strace = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-o", str(log), "-p", str(gateway.pid), *files, "-e", f"trace={','.join(CALLS)}", *injection),
        stderr=asyncio.subprocess.PIPE,
    )
    assert strace.stderr is not None
    try:
        async with asyncio.timeout(_ATTACH_S):
            while b"attached" not in (line := await strace.stderr.readline()):
                if not line:
                    raise RuntimeError(f"strace did not attach to {gateway.pid}")
        os.kill(gateway.pid, signal.SIGCONT)
        yield Traced(log)
    finally:
        if gateway.lives():
            await gateway.kill()
        async with asyncio.timeout(_ATTACH_S):
            await strace.communicate()  # it ends with what it traces
