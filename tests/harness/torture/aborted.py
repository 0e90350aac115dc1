"""Whether this kernel's ext4 says yes to a sync that it does not keep, when its journal is aborted; and whether a question sees it.

    python -m tests.harness.torture.aborted [BREAKS]

No gateway and no SQLite: one process adds to a file and syncs, as a write-ahead log grows, and asks after each sync what
`gateway.store.sqlite.connection.DirectoryLock.ask` asks. Needs root. What it has found is in docs/guarantees.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.harness.torture.disks import Small

RECORD = 4096
_GROWS = """
import os, sys
file, other = (os.open(f"{sys.argv[1]}/{name}", os.O_RDWR | os.O_CREAT) for name in ("log", "asked"))
os.posix_fallocate(other, 0, 1)
for n in range(1, 10_000):
    os.pwrite(file, n.to_bytes(8, "big") * 512, (n - 1) * 4096)
    os.fdatasync(file)
    try:
        os.posix_fallocate(other, 0, 1)
        print(n, "yes", flush=True)
    except OSError:
        print(n, "no", flush=True)
"""


def abort(disk: Small, dice: Random) -> tuple[bool, bool]:
    """One break: whether the last sync that answered 0 was kept, and whether the question said so."""
    disk.plug_in()
    grows = subprocess.Popen([sys.executable, "-c", _GROWS, str(disk.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert grows.stdout is not None
    first = grows.stdout.readline()
    time.sleep(dice.uniform(0, 0.3))
    disk.break_("read-only")
    said, _ = grows.communicate(timeout=60)
    last, asked = (first + said).splitlines()[-1].split()
    disk.unplug()
    disk.plug_in()
    kept = (disk.path / "log").read_bytes()[(int(last) - 1) * RECORD : int(last) * RECORD]
    disk.unplug()
    return kept == int(last).to_bytes(8, "big") * (RECORD // 8), asked == "yes"


def main(breaks: int) -> None:
    lied = unseen = 0
    for n in range(1, breaks + 1):
        with tempfile.TemporaryDirectory() as folder:
            disk = Small(Path(folder), "ext4")
            try:
                kept, told = abort(disk, Random(n))
            finally:
                with suppress(OSError):
                    disk.unplug()
        lied += not kept
        unseen += not kept and told
        print(f"{n} breaks: {lied} syncs answered 0 and were not kept, {unseen} of them not seen by the question", flush=True)
    print(f"Linux {os.uname().release}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
