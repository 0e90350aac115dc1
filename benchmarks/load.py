"""The load generator, a process of its own: prebuilt requests over keep-alive sockets and one epoll, nothing else.

It answers commands on standard input, each a line of JSON: `build`, then `run`.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import sys
import time
from typing import Any

from benchmarks.measures import percentiles
from benchmarks.orders import request

STALLED_S = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Line:
    """One connection and the request on it."""

    __slots__ = ("address", "began", "got", "index", "sock")

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.index = -1
        self.began = 0.0
        self.got = b""
        self.connect()

    def connect(self) -> None:
        """Open, or open again."""
        self.sock = socket.create_connection(self.address, timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    def send(self, index: int, content: bytes, began: float) -> None:
        """Put a request on the connection, which has none."""
        self.index, self.began, self.got = index, began, b""
        sent = self.sock.send(content)
        if sent != len(content):
            raise RuntimeError("a socket buffer is too small for one request")

    def status(self) -> int | None:
        """The status of a whole answer, None where some of it is missing, 0 where the connection broke."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        if not data:
            return 0
        if self.got:
            data = self.got + data
        end = data.find(b"\r\n\r\n")
        found = _LENGTH.search(data, 0, end) if end > 0 else None
        if found is None or len(data) < end + 4 + int(found[1]):
            self.got = data
            return None
        return int(data[9:12])


def drive(requests: list[bytes], address: tuple[str, int], connections: int, rate: float | None) -> dict[str, Any]:
    """Send everything; one request at a time on each connection.

    Args:
        rate: Requests a second, sent when they are due whatever became of the earlier ones; None for as fast as answers come.
            What is due while every connection waits counts from when it was due.
    """
    total = len(requests)
    poll = select.epoll()
    lines = {}
    for _ in range(connections):
        line = Line(address)
        lines[line.sock.fileno()] = line
        poll.register(line.sock.fileno(), select.EPOLLIN)
    free = list(lines.values())
    statuses, latencies = [0] * total, [0.0] * total
    following = done = 0
    starved = False
    clock = time.monotonic
    cpu_began, began = time.process_time(), clock()
    ended = began
    while done < total:
        wait_s = STALLED_S
        while following < total:
            now = clock()
            due = began if rate is None else began + following / rate
            if due > now:
                wait_s, starved = due - now, False
                break
            if not free:
                starved = True
                break
            free.pop().send(following, requests[following], due if starved and rate is not None else now)
            following += 1
        ready = poll.poll(wait_s)
        if not ready and wait_s == STALLED_S:
            raise RuntimeError(f"no answer for {STALLED_S:g} s; {done} of {total} answered")
        for number, _ in ready:
            line = lines[number]
            status = line.status()
            if status is None:
                continue
            ended = clock()
            statuses[line.index] = status
            latencies[line.index] = ended - line.began
            done += 1
            if status == 0:
                poll.unregister(number)
                line.sock.close()
                line.connect()
                lines = {one.sock.fileno(): one for one in lines.values()}
                poll.register(line.sock.fileno(), select.EPOLLIN)
            free.append(line)
    cpu_s = time.process_time() - cpu_began
    for line in lines.values():
        line.sock.close()
    return {
        "count": total,
        "began_at": began,
        "seconds": ended - began,
        "refused": [n for n, status in enumerate(statuses) if not 200 <= status < 300],
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "cpu_share": cpu_s / (ended - began),
        **percentiles(latencies),
    }


def main() -> None:
    """Serve commands until standard input ends."""
    gc.disable()
    requests: list[bytes] = []
    address = ("127.0.0.1", 0)
    for text in sys.stdin:
        command = json.loads(text)
        if command["do"] == "build":
            address = (command["host"], command["port"])
            host = f"{address[0]}:{address[1]}"
            requests = [
                request(command["prefix"], n, path=command["path"], host=host, header=command["header"]) for n in range(command["count"])
            ]
            said: dict[str, Any] = {"bytes": sum(map(len, requests))}
        else:
            said = drive(requests, address, command["connections"], command["rate"])
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
