"""A real Tryton on loopback: installed from the package index into an environment of its own, its database on SQLite.

Making it takes about a minute (10 s for the packages, 40 s for the database, 6 s for customers and articles), once: environment and
database stay in `.tryton/` beside `.venv`, under a name made of what they were made from, and each session gets a copy of the database.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
LOCK = HERE / "requirements.lock"
DATABASE = "erp"
_ADMIN = "admin-constructed-1"
_NOT_REACHED = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "NameResolutionError",
    "ProxyError",
    "Network is unreachable",
)


class IndexUnreachable(Exception):
    """The package index cannot be reached, so there is no Tryton to try."""


class Made:
    """What is made once: the environment, and a database that nobody writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self.database = folder / "db" / f"{DATABASE}.sqlite"
        self.key_file = folder / "key"
        self.took = folder / "took"

    def make(self) -> None:
        """Install and fill, unless that is done. Raises IndexUnreachable; RuntimeError for everything else."""
        if self.took.exists():
            return
        started = time.monotonic()
        for earlier in self.folder.parent.glob("*/"):
            shutil.rmtree(earlier)
        self.database.parent.mkdir(parents=True)
        run([sys.executable, "-m", "venv", str(self.folder / "venv")])
        pip = [
            str(self.bin / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "1",
            "--timeout",
            "20",
        ]
        run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)])
        installed_s = time.monotonic() - started
        configuration = configure(self.folder, port=1)
        (self.folder / "admin").write_text(_ADMIN + "\n")
        self.database.touch()
        admin = [str(self.bin / "trytond-admin"), "-c", str(configuration), "-d", DATABASE, "-u", "sale", "--activate-dependencies"]
        run([*admin, "--email", "admin@example.invalid"], TRYTONPASSFILE=str(self.folder / "admin"))
        key = run([str(self.bin / "python"), str(HERE / "setup_erp.py"), str(configuration), DATABASE])
        self.key_file.write_text(key.strip().splitlines()[-1])
        self.took.write_text(f"{installed_s:.1f} s for the packages, {time.monotonic() - started:.1f} s in all\n")


class TrytonServer:
    """`trytond` as a process; `pause` and `resume` stop it in the middle of what it does, as a stalled machine would."""

    def __init__(self, made: Made, folder: Path) -> None:
        self._made = made
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.key = made.key_file.read_text()
        self.port = free_port()
        (folder / "db").mkdir()
        shutil.copy(made.database, folder / "db" / made.database.name)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def models(self) -> str:
        """Where the models are."""
        return f"{self.address}/{DATABASE}/rest/model"

    def start(self, timeout_s: float = 60) -> None:
        """Start it, and wait until it answers. Raises RuntimeError with the end of its log."""
        log = self._folder / "trytond.log"
        command = [str(self._made.bin / "trytond"), "-c", str(configure(self._folder, self.port)), "-d", DATABASE]
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, env=environment(), start_new_session=True)
        until = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"trytond does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections are still taken by the kernel, and nothing is read or answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on with what is in its sockets, whether or not anybody still waits."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.models}/party.party?f=code", headers={"Authorization": f"Bearer {self.key}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


@contextmanager
def made() -> Iterator[Made]:
    """The environment and the database, made now or earlier; one process makes, others wait."""
    what = hashlib.sha256(b"".join(f.read_bytes() for f in (LOCK, HERE / "setup_erp.py")) + sys.version.encode())
    home = ROOT / ".tryton"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Made(home / what.hexdigest()[:16])
        made.make()
    yield made


def configure(folder: Path, port: int) -> Path:
    """`max_attempt` is 5 as installed; a lock-out takes a minute then, and seconds with 2."""
    file = folder / "trytond.conf"
    sections: dict[str, dict[str, object]] = {
        "database": {"uri": "sqlite://", "path": folder / "db"},
        "web": {"listen": f"127.0.0.1:{port}", "root": folder},
        "session": {"max_attempt": 2},
    }
    lines = [line for name, keys in sections.items() for line in (f"[{name}]", *(f"{key} = {value}" for key, value in keys.items()))]
    file.write_text("\n".join(lines) + "\n")
    return file


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would lead another Python or another Tryton."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRYTOND_", "PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PYTHONIOENCODING": "utf-8"} | more


def run(command: list[str], **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**more), timeout=900)
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-4000:]
        if "pip" in command and any(word in said for word in _NOT_REACHED):
            raise IndexUnreachable(said)
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return done.stdout
