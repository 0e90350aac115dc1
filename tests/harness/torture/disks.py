"""Disks of this machine's kernel that can be broken: a small ext4 or tmpfs, and one with a write cache whose power can be cut.

Everything here blocks for parts of a second; harnesses call it with `asyncio.to_thread`. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from tests.harness.torture.protocol import Unavailable

MiB = 1024 * 1024
_WAIT_S = 10.0
_PLUGIN = Path(__file__).parent / "volatile.py"


class Disk(Protocol):
    """A file system at `path` while it is plugged in."""

    path: Path

    def plug_in(self) -> None: ...
    def unplug(self) -> None: ...
    def break_(self, how: str) -> None: ...


def run(*command: str) -> str:
    """Run a tool. Raises Unavailable, with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:2])}: {done.stderr.strip()[-200:] or done.returncode}")
    return done.stdout.strip()


def missing(*tools: str) -> str | None:
    """What of these tools is not here, or that we are not root."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    gone = [tool for tool in tools if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    return f"needs {', '.join(gone)}" if gone else None


def refusal(disk: Disk) -> str | None:
    """Why this disk cannot be had here, found by plugging it in."""
    try:
        disk.plug_in()
    except Unavailable as error:
        return f"not allowed here: {error}"
    finally:
        disk.unplug()
    return None


class Small:
    """16 MiB of tmpfs, or 24 MiB of ext4 on a loop device. `full`: no block is free; `read-only`: ext4 has given up."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.path = folder / "disk"
        self.kind = kind
        self._image = folder / "image"
        self.path.mkdir(parents=True)

    def plug_in(self) -> None:
        if self.kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(self.path))
            return
        if not self._image.exists():
            self._image.write_bytes(b"")
            os.truncate(self._image, 24 * MiB)
            run("mkfs.ext4", "-q", str(self._image))
        run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))

    def unplug(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True, check=False)

    def break_(self, how: str) -> None:
        if how == "full":
            self.fill()
        else:  # what ext4 does by itself on an error, with files open for writing
            run("mount", "-o", "remount,abort", str(self.path))

    def fill(self) -> None:
        """Take what is free, also what has become free since."""
        ballast = self.path / "ballast"
        with suppress(OSError), ballast.open("ab") as file:
            while (free := os.statvfs(self.path).f_bfree * os.statvfs(self.path).f_frsize) > 0:
                for size in (free, 4096):
                    with suppress(OSError):
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                        break
                else:
                    return

    def make_room(self) -> None:
        """For good: what ext4 has not committed comes back when it gives up."""
        (self.path / "ballast").unlink(missing_ok=True)
        folder = os.open(self.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Volatile:
    """64 MiB of ext4 on a disk with a write cache (`volatile.py`). Breaks by `cut SEED`, `eio-write`, `eio-flush`, `enospc`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self._folder = folder
        self.path.mkdir(parents=True)
        self._plugged = ExitStack()

    def plug_in(self) -> None:
        """Power on: what has reached the disk is there."""
        image, ctl, volume, address = (self._folder / name for name in ("image", "ctl", "volume", "nbd"))
        ctl.write_text("ok")
        volume.write_bytes(b"")
        if not image.exists():
            image.write_bytes(b"")
            os.truncate(image, 64 * MiB)
            run("mkfs.ext4", "-q", str(image))
        try:
            self._start(["nbdkit", "-f", "-U", str(address), "python", str(_PLUGIN), f"disk={image}", f"ctl={ctl}"])
            self._plugged.callback(address.unlink, missing_ok=True)
            _wait_for(address.is_socket, "nbdkit did not come up")
            self._start(["nbdfuse", str(volume), "--unix", str(address)])
            self._plugged.callback(_unfuse, volume)
            _wait_for(lambda: volume.stat().st_size >= MiB, "nbdfuse did not come up")
            loop = run("losetup", "-f", "--show", str(volume))
            self._plugged.callback(_quiet, ["losetup", "-d", loop])
            run("mount", "-o", "errors=remount-ro", loop, str(self.path))
            self._plugged.callback(_quiet, ["umount", "-l", str(self.path)])
        except BaseException:
            self.unplug()
            raise

    def _start(self, command: Sequence[str]) -> None:
        with (self._folder / "tools.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def end() -> None:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        self._plugged.callback(end)

    def unplug(self) -> None:
        """Power off. Nobody may have files open on it."""
        self._plugged.close()

    def break_(self, how: str) -> None:
        (self._folder / "ctl").write_text(how)


def _quiet(command: Sequence[str]) -> None:
    subprocess.run(command, capture_output=True, check=False)


def _unfuse(volume: Path) -> None:
    end = time.monotonic() + _WAIT_S
    while subprocess.run(["fusermount3", "-u", str(volume)], capture_output=True, check=False).returncode:
        if time.monotonic() > end:  # a loop device that lets go of it later must not leave a mount in the way of the next run
            _quiet(["umount", "-l", str(volume)])
            return
        time.sleep(0.05)


def _wait_for(condition: object, failure: str) -> None:
    assert callable(condition)
    end = time.monotonic() + _WAIT_S
    while True:
        with suppress(OSError):
            if condition():
                return
        if time.monotonic() > end:
            raise Unavailable(failure)
        time.sleep(0.02)
