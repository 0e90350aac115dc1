"""Messages to systemd (sd_notify(3)), and detection of the journal."""

from __future__ import annotations

import os
import socket
import sys


def notify(*states: str) -> None:
    """Send states such as `READY=1` without waiting; does nothing outside systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
        try:
            out.sendto("\n".join(states).encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass


def logs_to_journal() -> bool:
    """Tell whether standard error goes to the journal. The variable alone does not: programs with another output inherit it."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
