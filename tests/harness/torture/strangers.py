"""Strangers: forged requests, connections that are idle or unread or never end, and large bodies with a signature that is none.

Meanwhile a vendor at another address sends genuine orders, and is answered 200 in time. Every stranger has its own loopback
address, its numbers are bounded, and all of it ends with the round.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import aiohttp
import msgspec
from msgspec import Struct

from tests import acme
from tests.harness.torture.drips import Size
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import running_gateway
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import Load
from tests.journey.process import ROOT, SECRET, Process

VENDOR = "127.0.0.9"
_FORGED = b"POST /in/acme HTTP/1.1\r\nHost: x\r\nX-Acme-Signature: " + b"0" * 64 + b"\r\nContent-Length: 2\r\n\r\n{}"
_SHORT_OF_ITS_END = b"POST /in/acme HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1_048_000
_UNREAD = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 400
_LARGE = b"[" + b'{"a":0},' * 120_000 + b"0]"
_BATCH = 20


class Flood(Struct, frozen=True, kw_only=True):
    """How much of each. `write_timeout_s`: what the gateway is configured with; `limit_s`: within which an order counts as taken."""

    seconds: float
    forged_a_second: int = 0
    idle: int = 0
    unread: int = 0
    unfinished: int = 0
    large: int = 0
    forged_from: str = "127.0.0.2"
    http: Mapping[str, float] = {}
    write_timeout_s: float = 30.0
    limit_s: float = 1.0


LONG = (
    Flood(seconds=10, forged_a_second=2000),
    Flood(seconds=10, forged_a_second=2000, forged_from="127.0.0.1"),
    Flood(seconds=10, idle=1000),
    Flood(seconds=35, unread=1000),
    Flood(seconds=10, unfinished=200),
    Flood(seconds=10, large=8),
    Flood(seconds=10, forged_a_second=500, idle=200, unread=50, unfinished=20, large=1),
)


async def connect(port: int, address: str, *, receives: int | None = None) -> socket.socket:
    """A connection from there. Raises OSError."""
    sock = socket.socket()
    try:
        if receives is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        sock.bind((address, 0))
        sock.setblocking(False)
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


class Told(Struct, kw_only=True):
    """What strangers did: how much of each kind, and how many connections were left open though nobody read on them."""

    sent: dict[str, int]
    still_unread: int


class Strangers:
    """All of a flood, at the gateway on a port."""

    def __init__(self, port: int, flood: Flood) -> None:
        self.sent: Counter[str] = Counter()
        self.still_unread = 0
        self._port = port
        self._flood = flood
        self._loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def at_it(self) -> AsyncIterator[None]:
        """Flood it while the block runs."""
        flood = self._flood
        ways: list[Callable[[], Awaitable[None]]] = []
        ways += [self._forge] * (flood.forged_a_second > 0)
        ways += [self._forge_large] * flood.large
        ways += [lambda: self._hold("127.0.0.3", b"", "idle")] * flood.idle
        ways += [lambda: self._hold("127.0.0.4", _UNREAD, "unread")] * flood.unread
        ways += [lambda: self._hold("127.0.0.5", _SHORT_OF_ITS_END, "unfinished")] * flood.unfinished
        tasks = [asyncio.ensure_future(self._again(way)) for way in ways]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, way: Callable[[], Awaitable[None]]) -> None:
        while True:
            with suppress(OSError, TimeoutError):
                await way()
            await asyncio.sleep(0.2)

    async def _hold(self, address: str, said: bytes, kind: str) -> None:
        """Say this, read nothing, and stay for as long as the gateway lets it."""
        sock = await connect(self._port, address, receives=2304 if kind == "unread" else None)
        began = time.monotonic()
        try:
            with suppress(TimeoutError):
                for _ in range(1 if kind != "unread" else 100):
                    async with asyncio.timeout(1):
                        await self._loop.sock_sendall(sock, said)
            self.sent[kind] += 1
            while is_there(sock):
                await asyncio.sleep(0.1)
                if kind == "unread" and time.monotonic() - began > self._flood.write_timeout_s + 5:
                    self.still_unread += 1
                    return
        finally:
            sock.close()

    async def _forge(self) -> None:
        """So many requests a second, on as many connections as that takes."""
        due = time.monotonic()
        while True:
            with suppress(OSError, TimeoutError):
                sock = await connect(self._port, self._flood.forged_from)
                try:
                    heard = 0
                    async with asyncio.timeout(0.5):
                        await self._loop.sock_sendall(sock, _FORGED * _BATCH)
                        while heard < _BATCH and (data := await self._loop.sock_recv(sock, 65536)):
                            heard += data.count(b"HTTP/1.1 ")
                finally:
                    sock.close()
            self.sent["forged"] += _BATCH
            due = max(due + _BATCH / self._flood.forged_a_second, time.monotonic() - 0.5)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _forge_large(self) -> None:
        sock = await connect(self._port, "127.0.0.6")
        try:
            head = f"POST /in/acme HTTP/1.1\r\nHost: x\r\nX-Acme-Signature: {'0' * 64}\r\nContent-Length: {len(_LARGE)}\r\n\r\n"
            async with asyncio.timeout(5):
                await self._loop.sock_sendall(sock, head.encode() + _LARGE)
                await self._loop.sock_recv(sock, 100)
            self.sent["large"] += 1
        finally:
            sock.close()


@asynccontextmanager
async def strangers(port: int, flood: Flood) -> AsyncIterator[Told]:
    """A flood for as long as the block runs, out of a process of its own, so that it costs the vendor here no time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.harness.torture.strangers", str(port), msgspec.json.encode(flood).decode(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    )  # fmt: skip
    told = Told(sent={}, still_unread=0)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield told
    finally:
        assert process.stdin is not None
        process.stdin.close()
        said, _ = await process.communicate()
        ended = msgspec.json.decode(said, type=Told)
        told.sent, told.still_unread = ended.sent, ended.still_unread


async def _be_strangers(port: int, flood: Flood) -> Told:
    """Until standard input ends, and never longer than a minute more than the flood is for."""
    at_it, over = Strangers(port, flood), asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)
    async with at_it.at_it():
        print("at it", flush=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(flood.seconds + 60):
                await over.wait()
    return Told(sent=dict(at_it.sent), still_unread=at_it.still_unread)


def is_there(sock: socket.socket) -> bool:
    """Whether the gateway has not hung up; takes nothing of what it says."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


class Genuine:
    """A vendor at an address of its own: an order after the other, each on a connection of its own."""

    def __init__(self, gateway: Process, limit_s: float) -> None:
        self.answers: Counter[str] = Counter()
        self.waits: list[float] = []
        self._url = f"{gateway.url}/in/acme"
        self._limit_s = limit_s

    async def send(self, load: Load, seconds: float) -> None:
        connector = aiohttp.TCPConnector(local_addr=(VENDOR, 0), force_close=True)
        timeout = aiohttp.ClientTimeout(total=max(5.0, self._limit_s))
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while time.monotonic() < end:
                await self._one(session, load, f"genuine{len(self.waits)}")
                await asyncio.sleep(0.02)

    async def _one(self, session: aiohttp.ClientSession, load: Load, ref: str) -> None:
        body, began = acme.body(ref), time.monotonic()
        load.offered[ref] = 1
        try:
            async with session.post(self._url, data=body, headers={"X-Acme-Signature": acme.sign(SECRET, body)}) as answer:
                said = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            said = type(error).__name__
        took = time.monotonic() - began
        self.waits.append(took)
        if said == "200":
            load.acknowledged[ref] = 1
        self.answers["late" if said == "200" and took > self._limit_s else said] += 1

    @property
    def share(self) -> float:
        """Of all orders, those that were answered 200 in time."""
        return self.answers["200"] / max(1, self.answers.total())


async def flooded(
    folder: Path, dice: Random, tally: Tally, flood: Flood, *arguments: str, least: float = 0.99, patience_s: float = 30
) -> list[str]:
    """One round; what was wrong. `least`: the share of orders to be taken; `patience_s`: for memory and descriptors to come back."""
    environment = {"TORTURE_HTTP": json.dumps({**flood.http, "write_timeout_s": flood.write_timeout_s})}
    async with running_gateway(folder, *arguments, source='on_revision = "send"', environment=environment) as (gateway, erp):
        load, genuine = Load(gateway, erp, dice), Genuine(gateway, flood.limit_s)
        async with load.sending(3):  # what an ordinary hour needs is there before it is counted
            await genuine.send(load, 1)
        before, size, lines = genuine.answers.total(), Size(gateway.pid), len((folder / "log.jsonl").read_bytes().splitlines())
        async with strangers(gateway.port, flood) as told:
            largest = asyncio.create_task(_largest(gateway.pid, flood.seconds))
            await genuine.send(load, flood.seconds)
        grown = await largest - size.bytes
        await load.settled()
        found = [problem for problem in await size.back(gateway.pid, patience_s) if "descriptors" in problem]  # memory: `grown`
        found += await count_stuck(tally, gateway.admin_port)
        lines_more = sum(b'"http.refused"' in line for line in (folder / "log.jsonl").read_bytes().splitlines()[lines:])
    if genuine.share < least or genuine.answers.total() <= before:
        found.append(f"genuine orders were answered {dict(genuine.answers)}")
    found += [f"{told.still_unread} connections that read nothing are still open"] if told.still_unread else []
    found += [f"the memory grew by {grown >> 20} MiB"] if grown > 150 << 20 else []
    found += [f"{lines_more} lines were written of strangers"] if lines_more > 20 * (1 + flood.seconds / 60) else []
    tally.count(load)
    tally.faults.update(told.sent)
    waits = sorted(genuine.waits) or [0.0]
    p50, p99 = (waits[int(len(waits) * share)] * 1000 for share in (0.5, 0.99))
    tally.noted = f"{len(waits)} genuine orders, {genuine.share:.1%} taken in time, p50 {p50:.0f} ms, p99 {p99:.0f} ms; + {grown >> 20} MiB"
    return found + load.problems()


async def _largest(pid: int, seconds: float) -> int:
    """How large the process was at most in the next so many seconds."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        most = max(most, Size(pid).bytes)
        await asyncio.sleep(0.1)
    return most


def cpu_s(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class StrangerHarness(Rounds):
    name = "strangers"
    share = 0.3

    def needs(self) -> str | None:
        try:
            with socket.socket() as sock:
                sock.bind((VENDOR, 0))
        except OSError as error:
            return f"{VENDOR} is no address of this machine: {error.strerror}"
        return None

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        flood = LONG[tally.rounds % len(LONG)]
        return [f"{problem}, with {flood}" for problem in await flooded(folder, dice, tally, flood)]


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(_be_strangers(int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Flood)))).decode())
