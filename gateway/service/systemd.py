"""What systemd wants to hear (sd_notify(3)), and whether it listens to what we print."""

from __future__ import annotations

import os
import socket
import sys


def notify(*states: str) -> None:
    """Send states such as `READY=1`; does nothing outside systemd, and never waits for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
        try:
            out.sendto("\n".join(states).encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass


def logs_to_journal() -> bool:
    """Whether standard error goes to the journal: the variable is inherited by programs whose output goes elsewhere."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
