"""Ports for processes that are stopped and started again: nobody else gets them meanwhile."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack

# Below what Linux gives to whoever asks for any port (32768 and up): servers and clients of other tests never get one of these.
_FIRST, _LAST = 10_000, 32_000
_WORKERS = 8


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which nothing listens, from the share of this worker of pytest-xdist."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    share = range(_FIRST + worker, _LAST, _WORKERS)
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            port = random.SystemRandom().choice(share)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


def free_port() -> int:
    return free_ports(1)[0]
