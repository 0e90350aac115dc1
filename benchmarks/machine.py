"""Where it was measured: figures without this are worth nothing, and with it they still hold for this machine only."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from benchmarks.child import ROOT
from benchmarks.contestants import SYNCHRONOUS, Gateway
from gateway.store.sqlite.connection import open_database


def describe(folder: Path) -> dict[str, str]:
    """Hardware, kernel, file system of `folder`, versions, commit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{memory:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "data": f"{folder} on {_file_system(folder)}",
        "fdatasync": f"{_syncs(folder):.0f} a second, each after an append of 4 KiB",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "aiohttp": importlib.metadata.version("aiohttp"),
        "commit": _commit(),
    }


def store_settings(gateway: Gateway) -> dict[str, str]:
    """How durable the gateway's commits are, read back from its database.

    `synchronous` belongs to a connection, so it is read on one that the gateway's own code opens, on the same file, once the
    process is gone.
    """
    gateway.start()
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as live:
        journal = live.execute("PRAGMA journal_mode").fetchone()[0]
    gateway.stop()
    with closing(open_database(gateway.database)) as ours:
        level = ours.execute("PRAGMA synchronous").fetchone()[0]
    return {"journal_mode": journal, "synchronous": f"{level} ({SYNCHRONOUS[level]})"}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        device, place, kind, options = line.split()[:4]
        if str(folder).startswith(place.rstrip("/") + "/") and len(place) > len(best[0]):
            best = (place, f"{kind} ({device}, {options})")
    return best[1]


def _syncs(folder: Path) -> float:
    path, count, began = folder / "syncs", 0, time.monotonic()
    with path.open("ab", buffering=0) as out:
        while time.monotonic() < began + 0.5:
            out.write(b"x" * 4096)
            os.fdatasync(out.fileno())
            count += 1
    seconds = time.monotonic() - began
    path.unlink()
    return count / seconds


def _commit() -> str:
    found = _git("rev-parse", "--short", "HEAD")
    if found is None:
        return "none"
    return found + ("-changed" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
