"""What is said to systemd, and whether it listens to standard error."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.service import systemd


def test_only_a_stream_that_is_the_journal_counts_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable is handed on to every child, whatever its standard error is."""
    program = "from gateway.service.systemd import logs_to_journal; print(logs_to_journal())"
    with (tmp_path / "journal").open("wb") as journal:
        found = os.fstat(journal.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        for stream, answer in ((journal, "True"), (subprocess.DEVNULL, "False")):
            done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=stream, check=True)
            assert done.stdout.decode().strip() == answer


def test_notify_speaks_to_a_path_and_to_an_abstract_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    abstract = f"@order-gateway-test-{os.getpid()}"
    for address, bound in ((str(tmp_path / "s"), str(tmp_path / "s")), (abstract, "\0" + abstract[1:])):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
            hears.bind(bound)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            systemd.notify("READY=1", "STATUS=well")
            assert hears.recv(100) == b"READY=1\nSTATUS=well"


@pytest.mark.parametrize("address", ["", "/no/such/socket"])
def test_notify_without_anybody_who_hears(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")
