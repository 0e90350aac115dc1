"""Senders that know what was answered 2xx, beside an ERP that knows what arrived; and what is wrong between the two."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from gateway.testing import ErpSimulator
from tests import acme

from .process import Door, send_until_taken

SENDERS = 3


class Load:
    """Order after order, each in one to three versions, some sent twice at the same moment.

    Args:
        door: Where orders go; a `Process`, or what stands in front of it.
        dice: How many versions, and which are sent twice.

    Attributes:
        offered: How many versions of an order were sent at all.
        acknowledged: How many of them were answered 2xx.
        answers: How often a status was answered; 0 counts what got no answer.
    """

    def __init__(self, door: Door, erp: ErpSimulator, dice: random.Random) -> None:
        self.door = door
        self.erp = erp
        self.dice = dice
        self.offered: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}
        self.answers: Counter[int] = Counter()
        self.sent_again = 0
        self._over = False

    async def send(self, session: aiohttp.ClientSession, ref: str, version: int, *, twice: bool = False) -> None:
        """One version, again and again until it is taken."""
        self.offered[ref] = version
        body = acme.body(ref, version)
        sending = (send_until_taken(session, self.door, body, self.answers) for _ in range(1 + twice))
        self.sent_again += sum(await asyncio.gather(*sending)) - 1
        self.acknowledged[ref] = version

    async def _sender(self, session: aiohttp.ClientSession) -> None:
        while not self._over:
            ref = f"o{len(self.offered) + 1}"
            for version in range(1, self.dice.choice((1, 1, 2, 3)) + 1):
                await self.send(session, ref, version, twice=self.dice.random() < 0.2)

    @asynccontextmanager
    async def sending(self, senders: int = SENDERS, *, abandon: bool = False) -> AsyncIterator[None]:
        """Send while the block runs. Then every sender ends what it is at; with `abandon`, it hangs up instead."""
        self._over = False
        async with aiohttp.ClientSession() as session:
            tasks = [asyncio.create_task(self._sender(session)) for _ in range(senders)]
            try:
                yield
                self._over = True
                if not abandon:
                    async with asyncio.timeout(30):
                        await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self, wait_s: float = 20, after_s: float = 0.5) -> None:
        """Until what has to arrive has arrived, and a little longer, for what should not come."""
        for _ in range(round(wait_s / 0.05)):
            if not self.missing():
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(after_s)

    @property
    def repeats(self) -> int:
        """Requests for what the ERP had already."""
        return sum(heard.taken for heard in self.erp.heard) - len(self.erp.orders)

    def missing(self) -> set[str]:
        """The messages that have to arrive and have not."""
        wanted = (f"acme/{ref}/{n}" for ref, versions in self.acknowledged.items() for n in range(1, versions + 1))
        return {key for key in wanted if key not in self.erp.orders}

    def doubled(self) -> list[str]:
        """The orders that the ERP has more messages of than versions of them were sent."""
        counts = Counter(_parts(key)[0] for key in self.erp.orders)
        return [ref for ref, count in counts.items() if count > self.offered.get(ref, 0)]

    def problems(self, *, final: bool = True) -> list[str]:
        """What must not be; what is still under way only counts where it is `final`."""
        found = [f"the gateway answered {status}" for status in self.answers if status not in (0, 200, 503)]
        if final:
            found += [f"{key} was answered 2xx and is not in the ERP" for key in sorted(self.missing())]
        for ref in self.doubled():
            keys = [key for key in self.erp.orders if _parts(key)[0] == ref]
            found.append(f"{ref} was sent in {self.offered.get(ref, 0)} versions and is in the ERP under {keys}")
        bodies: dict[str, set[bytes]] = {}
        for heard in self.erp.heard:
            bodies.setdefault(heard.key, set()).add(heard.body)
        found += [f"{key} came with {len(seen)} different bodies" for key, seen in bodies.items() if len(seen) > 1]
        return found + self._out_of_order()

    def _out_of_order(self) -> list[str]:
        """The senders' versions are 1, 2, 3, one after the other, and so are the messages."""
        found = []
        last: dict[str, int] = {}
        for key in self.erp.sequence:
            ref, n = _parts(key)
            if n != last.get(ref, 0) + 1:
                found.append(f"{key} came after message {last.get(ref, 0)} of its order")
            last[ref] = n
            quantity = msgspec.json.decode(self.erp.orders[key])["order"]["lines"][0]["quantity"]
            if str(quantity) != str(n):
                found.append(f"{key} has version {quantity} in it")
        return found


def _parts(key: str) -> tuple[str, int]:
    """The order_ref and the number of a message's key; 0 where it has none."""
    _, ref, n = (*key.split("/"), "", "")[:3]
    return ref, int(n) if n.isdigit() else 0
