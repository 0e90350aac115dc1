"""Slow senders: hundreds of connections that send a byte at a time, in the headers or in the body, while others want to be served.

Genuine orders are taken meanwhile, nothing is answered 5xx, every drip is ended by the limits of the door, and memory and
descriptors come back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from random import Random

import aiohttp

from gateway.edge.request_limits import BODY_TIMEOUT_S
from gateway.edge.server import IDLE_TIMEOUT_S
from tests import acme
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import running_gateway
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import Load
from tests.journey.process import SECRET, Process

DRIPS = 500
_HEAD = b"POST /in/acme HTTP/1.1\r\nHost: gateway\r\n"
_GRACE_S = 20.0
_MORE_BYTES = 40 * 1024 * 1024
_EVERY_S = (0.2, 1.0)
_KEPT = 8  # connections that the gateway keeps for its next orders to the ERP, which come and go by themselves


class Drips:
    """So many connections to one gateway; half of them drip headers, half a signed order's body.

    Attributes:
        statuses: What was answered, by status; 0 where the connection was ended without a word.
        longest_s: The longest that one was kept.
    """

    def __init__(self, gateway: Process, dice: Random, count: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.longest_s = 0.0
        self.open = 0
        self._gateway = gateway
        self._dice = dice
        self._count = count

    async def run(self, limit_s: float) -> int:
        """All of them, until each has ended; how many were still open after `limit_s` and the grace."""
        tasks = [asyncio.create_task(self._drip(n), name=f"drip {n}") for n in range(self._count)]
        _, pending = await asyncio.wait(tasks, timeout=limit_s + _GRACE_S)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(pending)

    async def _drip(self, n: int) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        self.open += 1
        heard = asyncio.create_task(reader.read(), name=f"drip heard {n}")
        try:
            body = acme.body(f"drip{n}") + b" " * 100_000
            if n % 2:
                signed = f"X-Acme-Signature: {acme.sign(SECRET, body)}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                writer.write(_HEAD + signed)
            else:
                writer.write(_HEAD)
            drops = body if n % 2 else b"X-Drop: x\r\n" * 1000
            for drop in drops:
                if heard.done():
                    break
                writer.write(bytes([drop]))
                await asyncio.wait([heard], timeout=self._dice.uniform(*_EVERY_S))
            said = heard.result() if heard.done() else b""
            self.statuses[int(said.split(b" ")[1]) if said.startswith(b"HTTP/") else 0] += 1
        except OSError:
            self.statuses[0] += 1
        finally:
            self.open -= 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            heard.cancel()
            await asyncio.gather(heard, return_exceptions=True)
            writer.transport.abort()


class Size:
    """A process's descriptors and memory."""

    def __init__(self, pid: int) -> None:
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.bytes = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def back(self, pid: int, patience_s: float = 30) -> list[str]:
        """Until it is about as large as this again; else what is not."""
        end = time.monotonic() + patience_s
        while True:
            now = Size(pid)
            found = [f"{now.descriptors} descriptors in place of {self.descriptors}"] if now.descriptors > self.descriptors + _KEPT else []
            found += [f"{(now.bytes - self.bytes) >> 20} MiB more than before"] if now.bytes > self.bytes + _MORE_BYTES else []
            if not found or time.monotonic() > end:
                return found
            await asyncio.sleep(0.1)


async def drip(folder: Path, dice: Random, tally: Tally, *arguments: str, count: int = DRIPS, limit_s: float) -> list[str]:
    """One round; what was wrong. `limit_s`: the longest time that the door gives."""
    async with running_gateway(folder, *arguments, source='on_revision = "send"') as (gateway, erp):
        load = Load(gateway, erp, dice)
        async with load.sending(2):  # what an ordinary hour needs is there before it is counted
            await asyncio.sleep(1)
        await load.settled()
        before, drips = Size(gateway.pid), Drips(gateway, dice, count)
        dripping = asyncio.create_task(drips.run(limit_s), name="drips")
        waits = await _genuine(gateway, load, dripping)
        left = await dripping
        await load.settled()
        found = await before.back(gateway.pid) + await count_stuck(tally, gateway.admin_port)
        found += [f"{left} drips are still open after {limit_s + _GRACE_S:g} s"] if left else []
        found += [f"a drip was answered {status}" for status in drips.statuses if status >= 500 or 200 <= status < 300]
        found += load.problems() + [f"genuine senders were answered 503 {load.answers[503]} times"] * (load.answers[503] > 0)
        if not waits:
            found.append("no genuine order was taken meanwhile")
    tally.count(load)
    tally.faults["drips"] += count
    waits = sorted(waits) or [0.0]
    p50, p99 = (waits[int(len(waits) * share)] * 1000 for share in (0.5, 0.99))
    said = ", ".join(f"{amount} {status or 'cut'}" for status, amount in sorted(drips.statuses.items()))
    tally.noted = (
        f"{len(waits)} genuine orders meanwhile, p50 {p50:.0f} ms, p99 {p99:.0f} ms; drips: {said}, longest {drips.longest_s:.0f} s"
    )
    return [problem for problem in found if not problem.startswith("the gateway answered 503")]


async def _genuine(gateway: Process, load: Load, dripping: asyncio.Task[int]) -> list[float]:
    """Genuine orders for as long as it drips; how long each waited."""
    waits: list[float] = []
    async with aiohttp.ClientSession() as session:
        while not dripping.done():
            began = time.monotonic()
            await load.send(session, f"genuine{len(waits)}", 1)
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
    return waits


class DripHarness(Rounds):
    name = "drips"
    share = 0.3

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        return await drip(folder, dice, tally, limit_s=max(IDLE_TIMEOUT_S, BODY_TIMEOUT_S))
