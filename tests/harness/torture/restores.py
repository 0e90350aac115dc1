"""`gateway restore` killed at a system call: the old database or the new one is there after the next start, whole, never neither.

What is put back is a copy of half of the orders, beside a database that was killed with a log: replayed into another file, that log would
be a mixture of the two.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

from gateway.api.errors import GatewayError
from gateway.clock import SystemClock
from gateway.store.arrivals import NewEvent
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite import backup as copies
from tests.harness.torture.protocol import Tally, is_over
from tests.harness.torture.traced import missing

ROOT = Path(__file__).parents[3]
OLD, COPIED = 10, 5
# Puts back argv[2] as argv[3], and is killed at the argv[1]-th call of Python's that changes a file; 0 for none.
PROGRAM = """
import os, signal, sys
from pathlib import Path
left = [int(sys.argv[1])]
def killing(real):
    def call(*arguments, **more):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call
from gateway.store.sqlite import file_exchange
from gateway.store.sqlite.backup import put_back
for name in ("open", "write", "fsync", "rename", "replace", "unlink", "link", "chmod", "chown"):
    setattr(os, name, killing(getattr(os, name)))
def one_by_one(new, database, aside):
    there = [end for end in file_exchange.ENDS if Path(f"{database}{end}").exists()]
    for end in there:
        os.rename(f"{database}{end}", f"{aside}{end}")
    os.rename(new, database)
    return bool(there)
if sys.argv[4:] == ["no_intent"]:
    file_exchange.exchange = one_by_one
put_back(Path(sys.argv[2]), Path(sys.argv[3]), who="test", now_ms=1_800_000_000_000)
"""
CALLS = (
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "fsync",
    "fdatasync",
    "ftruncate",
    "sendfile",
    "copy_file_range",
    "pwrite64",
    "write",
)


async def set_up(folder: Path) -> Path:
    """A directory with ten orders, killed with a log beside the file, and beside the directory a copy of five of them."""
    live, data = folder / "live", folder / "data"
    store = SqliteStore(live / "gateway.db", clock=SystemClock())
    await store.open()
    await store.register(["acme"])
    for n in range(OLD):
        if n == COPIED:
            copies.write_copy(live / "gateway.db", folder / "copy.db", who="test", now_ms=1)
            await store.checkpoint()
        body = b"order %d" % n
        await store.accept(
            "acme", "webhook", [NewEvent(key=f"o{n}", order_ref=f"o{n}", document=body, sha256=hashlib.sha256(body).digest(), content=body)]
        )
    shutil.copytree(live, data)
    await store.close()
    assert (data / "gateway.db-wal").stat().st_size, "a log that must not be replayed into another file"
    return data


def put_back(folder: Path, at: int = 0, *tracing: str, mutant: str = "") -> int:
    """Put the copy beside `folder` back; the exit code, minus the number of a signal."""
    command = [
        *tracing,
        sys.executable,
        "-c",
        PROGRAM,
        str(at),
        str(folder.parent / "copy.db"),
        str(folder / "gateway.db"),
        *([mutant] if mutant else []),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode
    return -9 if code == 137 else code


def strace(log: Path | str, call: str = "", nth: int = 0) -> tuple[str, ...]:
    """What goes before a command so that its calls are seen, and it is killed at one of them."""
    injection = ("-e", f"inject={call}:signal=SIGKILL:when={nth}") if call else ()
    return ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *injection)


def calls(data: Path) -> dict[str, int]:
    """How many of each call a restore makes."""
    counted, log = data.with_name("counted"), data.with_name("trace")
    shutil.copytree(data, counted)
    assert put_back(counted, 0, *strace(log)) == 0
    lines = [made[1] for line in log.read_text().splitlines() if (made := re.match(r"\d+ +(\w+)\(", line))]
    return {call: lines.count(call) for call in CALLS if call in lines}


async def found(folder: Path) -> int:
    """How many orders are there after a start, all of the one database or all of the other. Raises GatewayError, AssertionError."""
    store = SqliteStore(folder / "gateway.db", clock=SystemClock())
    await store.open()
    await store.close()
    with closing(sqlite3.connect(folder / "gateway.db")) as db:
        (events,), (restores,) = (db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("inbox", "restores"))
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert {ref for (ref,) in db.execute("SELECT order_ref FROM orders")} == {f"o{n}" for n in range(events)}
    assert (events, min(restores, 1)) in ((OLD, 0), (COPIED, 1)), f"{events} orders after {restores} restores"
    return int(events)


async def cut_short(data: Path, name: str, *tracing: str, mutant: str = "") -> list[str]:
    """What was wrong after one restore that was killed."""
    folder = data.with_name(name)
    shutil.copytree(data, folder)
    code = put_back(folder, 0, *tracing, mutant=mutant)
    try:
        await found(folder)
    except (GatewayError, AssertionError, sqlite3.Error) as error:
        return [f"{name}: it ended with {code}, and then: {str(error)[:500]}"]
    finally:
        shutil.rmtree(folder)
    return [] if code in (0, -9) else [f"{name}: it ended with {code}"]


class RestoreHarness:
    name = "restores"
    share = 0.3

    def needs(self) -> str | None:
        return missing()

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        data = await set_up(folder)
        points = [(call, nth) for call, count in calls(data).items() for nth in range(1, count + 1)]
        while not is_over(until, tally):
            call, nth = dice.choice(points)
            tally.problems += await cut_short(data, f"{call}-{nth}-{tally.rounds}", *strace(os.devnull, call, nth))
            tally.rounds += 1
            tally.kills += 1
