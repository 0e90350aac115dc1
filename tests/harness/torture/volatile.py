"""An nbdkit plugin (loaded by `nbdkit python`): a disk with a write cache of its own, and faults from a file.

The file `ctl` says how it is: `ok`, `eio-write`, `eio-once` (the next write), `eio-flush`, `enospc`; `cut SEED` loses the
power: half of what was not flushed reaches the disk, the rest is gone, and nothing works until it is plugged in anew.
"""

import errno
import os
import random
from pathlib import Path

import nbdkit

API_VERSION = 2
disk = ctl = ""
unflushed: list[tuple[int, bytes]] = []


def config(key: str, value: str) -> None:
    globals()[key] = value


def thread_model() -> int:
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def open(readonly: bool) -> int:
    return os.open(disk, os.O_RDWR)


def get_size(handle: int) -> int:
    return os.fstat(handle).st_size


def can_flush(handle: int) -> bool:
    return True


def can_fua(handle: int) -> int:
    return nbdkit.FUA_EMULATE


def obey(handle: int, *bad: str) -> None:
    """Fail where the file says so."""
    how = Path(ctl).read_text().strip()
    if how.startswith("cut"):
        dice = random.Random(how)
        for offset, data in unflushed:
            if dice.random() < 0.5:
                os.pwrite(handle, data, offset)
        unflushed.clear()
        how = "dead"
        Path(ctl).write_text(how)
    if how == "eio-once" and how in bad:
        Path(ctl).write_text("ok")
    if how == "dead" or how in bad:
        number = errno.ENOSPC if how == "enospc" else errno.EIO
        nbdkit.set_error(number)
        raise OSError(number, "injected")


def pread(handle: int, buffer: bytearray, offset: int, flags: int) -> None:
    obey(handle)
    found = bytearray(os.pread(handle, len(buffer), offset))
    for at, data in unflushed:
        start, end = max(at, offset), min(at + len(data), offset + len(found))
        if start < end:
            found[start - offset : end - offset] = data[start - at : end - at]
    buffer[:] = found


def pwrite(handle: int, data: bytearray, offset: int, flags: int) -> None:
    obey(handle, "eio-write", "eio-once", "enospc")
    unflushed.append((offset, bytes(data)))


def flush(handle: int, flags: int) -> None:
    obey(handle, "eio-flush")
    for offset, data in unflushed:
        os.pwrite(handle, data, offset)
    unflushed.clear()
    os.fsync(handle)
