"""sd_notify: tell systemd that we are ready, alive, stopping (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def notify(*states: str) -> None:
    """Send states such as `READY=1`; does nothing outside systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto("\n".join(states).encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass


def watchdog_s() -> float | None:
    """How often systemd wants to hear from us, in seconds; None where it does not."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 and ours else None
