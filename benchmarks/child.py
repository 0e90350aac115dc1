"""A process that is started, asked things in lines of JSON, looked at through /proc, and ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent


class Child:
    """One process of ours; used as a context, it ends with it.

    Args:
        arguments: What follows the name of the Python interpreter.
        errors: Where its standard error goes; ours by default.
    """

    def __init__(self, arguments: Sequence[str], *, env: Mapping[str, str] | None = None, errors: IO[bytes] | None = None) -> None:
        self._what = " ".join(arguments)
        path = os.pathsep.join(filter(None, [str(ROOT), (env or {}).get("PYTHONPATH"), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **(env or {}), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def hear(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise TimeoutError(f"{self._what} says nothing for {timeout_s:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._what} ended with {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def ask(self, do: str, *, timeout_s: float = 120.0, **arguments: Any) -> dict[str, Any]:
        """Send a command; the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        return self.hear(timeout_s)

    def end(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        code = self._process.wait(timeout_s)
        self._close()
        return code

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if self.running:
            self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def memory_mb(self) -> dict[str, float]:
        """Resident now and at the most, in MB of 10^6 bytes."""
        lines = Path(f"/proc/{self.pid}/status").read_text("ascii").splitlines()
        found = {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines) if name in _MEMORY}
        return {_MEMORY[name]: value for name, value in found.items()}

    def threads(self) -> Threads:
        """What its threads have used so far."""
        return Threads(self.pid)


_MEMORY = {"VmRSS": "resident", "VmHWM": "peak"}


class Threads:
    """Processor seconds, seconds spent waiting for a processor, and voluntary switches: of the main thread, and of all others."""

    def __init__(self, pid: int) -> None:
        self.used = dict.fromkeys((f"{who}_{what}" for who in ("loop", "others") for what in ("s", "queued_s", "switches")), 0.0)
        for task in Path(f"/proc/{pid}/task").iterdir():
            who = "loop" if task.name == str(pid) else "others"
            try:
                cpu_ns, queued_ns = map(int, (task / "schedstat").read_text("ascii").split()[:2])
                switches = next(line for line in (task / "status").read_text("ascii").splitlines() if line.startswith("voluntary"))
            except OSError:  # a thread that has just ended
                continue
            self.used[f"{who}_s"] += cpu_ns / 1e9
            self.used[f"{who}_queued_s"] += queued_ns / 1e9
            self.used[f"{who}_switches"] += int(switches.split()[1])

    @property
    def cpu_s(self) -> float:
        return self.used["loop_s"] + self.used["others_s"]

    def since(self, before: Threads, orders: int) -> dict[str, float]:
        """Microseconds and switches for each order since an earlier look."""
        each = {}
        for name, value in self.used.items():
            spent = (value - before.used[name]) / orders
            each[name.removesuffix("_s") + "_us" if name.endswith("_s") else name] = spent * 1e6 if name.endswith("_s") else spent
        return each


def machine_cpu_s() -> float:
    """Processor seconds that the whole machine has used so far, by whomever; what the hypervisor took away too."""
    fields = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    idle, waiting = int(fields[3]), int(fields[4])
    return (sum(map(int, fields[:8])) - idle - waiting) / os.sysconf("SC_CLK_TCK")
