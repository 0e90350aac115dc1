"""Names that collide: rows, keys, versions, messages and vendors' numbers that share their text, decided by bare names under load.

Whoever names one thing ends, sends again and lets go that thing alone; a name that may be several orders' is refused. What a name may
mean is worked out here from what was sent, and held against the rows that a command touched, and against what reached the ERP.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from gateway.testing import ErpSimulator
from tests.harness.torture import namesakes
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import configured_gateway
from tests.harness.torture.stuck import count_stuck, open_rows
from tests.journey.process import SECRET, Process

SECONDS = 6.0
_WITHIN_S = 30.0
_SOURCES = ("acme", "bravo")
_ACTIONS = ("drop", "drop", "replay", "release")
_SOURCE = """
[sources.NAME]
connector = "namesakes"
doors = ["webhook"]
on_revision = "hold"
max_requests_per_second = 100000
[sources.NAME.settings]
secret = { file = "secret" }
"""
_TARGET = """
[targets.erp]
url = "ERP"
retry = { base_s = 0.05, cap_s = 0.3 }
breaker = { failures = 100000, cooldown_s = 0.1 }
"""

Owner = tuple[str, str]  # of rows: the source and the order_ref


class Named(Struct, kw_only=True):
    """An order as its vendor has it. `stored`: how many versions were answered 2xx; `refused`: the ERP refuses its first message."""

    source: str
    ref: str
    key: str
    number: str
    offered: int = 0
    stored: int = 0
    refused: bool = False

    @property
    def owner(self) -> Owner:
        return self.source, self.ref

    def message(self, n: int) -> str:
        return f"{self.source}/{self.ref}/{n}"

    def own_names(self, versions: int) -> set[str]:
        """What it and its events are called, with so many versions."""
        keys = {self.key, *(f"{self.key}@{n}" for n in range(2, versions + 1))}
        return {self.ref, f"{self.source}/{self.ref}", *keys, *(f"{self.source}/{key}" for key in keys)}

    def made_names(self) -> set[str]:
        """What is made of it is called."""
        return {self.number, *(self.message(n) for n in range(1, self.offered + 1))}


class Town:
    """Orders that share their names, one gateway, an ERP, and people who say bare names to the gateway."""

    def __init__(self, folder: Path, gateway: Process, erp: ErpSimulator, dice: Random) -> None:
        self.folder = folder
        self.gateway = gateway
        self.erp = erp
        self.dice = dice
        self.orders: list[Named] = []
        self.problems: list[str] = []
        self.named: dict[str, set[Owner]] = {action: set() for action in _ACTIONS}
        self.commands = self.touched = self.refusals = 0

    # --- orders

    def new_order(self) -> Named:
        """One that has the names of others, where that makes no other order of theirs."""
        while True:
            source = self.dice.choice(_SOURCES)
            ref, key, number = self._name(), self._name(), self._name()
            mine = [one for one in self.orders if one.source == source]
            if not any(one.ref == ref or one.key == key for one in mine):
                made = Named(source=source, ref=ref, key=key, number=number, refused=self.dice.random() < 0.4)
                self.orders.append(made)
                return made

    def _name(self) -> str:
        if not self.orders or self.dice.random() < 0.3:
            return f"n{len(self.orders)}{self.dice.choice('abcde')}"
        other, n = self.dice.choice(self.orders), self.dice.randint(1, 3)
        like = [other.ref, other.key, other.number, other.message(n), f"{other.key}@{n}", f"{other.source}/{other.key}"]
        like += [f"{other.ref}/{n}", str(self.dice.randint(1, 50)), f"{self.dice.choice(('inbox', 'outbox'))}:{self.dice.randint(1, 50)}"]
        return self.dice.choice([one for one in like if len(one) < 60] or [str(n)])

    async def vendor(self, session: aiohttp.ClientSession, end: float) -> None:
        """Orders and changes of them, one after the other."""
        while time.monotonic() < end:
            order = self.new_order()
            if order.refused:
                self.erp.arm("status", status=422, only=order.message(1))
            for _ in range(self.dice.choice((1, 1, 2, 3))):
                await self.send(session, order)
            await asyncio.sleep(0.02)

    async def send(self, session: aiohttp.ClientSession, order: Named) -> None:
        order.offered += 1
        wire = namesakes.Wire(key=order.key, ref=order.ref, number=order.number, qty=order.offered)
        sent = namesakes.body(wire)
        async with session.post(f"{self.gateway.url}/in/{order.source}", data=sent, headers=namesakes.headers(SECRET, sent)) as answer:
            if answer.status == 200:
                order.stored = order.offered
            else:
                self.problems.append(f"{wire} was answered {answer.status}")

    # --- people

    async def person(self, end: float) -> None:
        while time.monotonic() < end:
            if self.orders:
                await self.say()
            await asyncio.sleep(0.02)

    async def say(self) -> None:
        """A decision on a bare name; what came of it."""
        other = self.dice.choice(self.orders)
        name = self.dice.choice(sorted(other.own_names(other.offered) | other.made_names()))
        action, yes = self.dice.choice(_ACTIONS), self.dice.random() < 0.5
        certain, possible = set(self.certain(name)), {one.owner for one in self.orders if name in one.own_names(9) | one.made_names()}
        decided = await self.command(action, [name], yes=yes)
        self.commands += 1
        rows = [one["row"] for one in decided if one.get("row") and not one.get("problem") and not one.get("would")]
        owners = self.owners(rows)
        self.touched += len(rows)
        self.refusals += not rows
        where = f"{action} {name!r} touched {rows} of {sorted(owners)}"
        if _is_row(name):
            possible = owners if rows in ([], [name]) else set()
        elif len(certain) > 1 and rows:
            self.problems.append(f"{where}, and may mean {sorted(certain)}")
        if owners - possible or len(owners) > 1:
            self.problems.append(f"{where}, and means {sorted(possible)}")
        if len(rows) > 1 and not yes:
            self.problems.append(f"{where} without --yes")
        self.named[action] |= owners & possible

    def certain(self, name: str) -> Iterator[Owner]:
        """The orders that a name means for sure: of what was answered 2xx, and of what the ERP has heard."""
        heard = {one.key for one in self.erp.heard}
        for one in self.orders:
            if (one.stored and name in one.own_names(one.stored)) or (one.message(1) in heard and name in (one.number, one.message(1))):
                yield one.owner

    def owners(self, rows: list[str]) -> set[Owner]:
        """The orders that rows belong to, read from the database."""
        found = set()
        with closing(sqlite3.connect(f"file:{self.folder / 'data' / 'gateway.db'}?mode=ro", uri=True)) as db:
            for row in rows:
                queue, _, number = row.partition(":")
                sql = f"SELECT source, order_ref FROM orders WHERE id = (SELECT order_id FROM {queue} WHERE id = ?)"
                found.add(db.execute(sql, (int(number),)).fetchone() or ("nobody", row))
        return found

    async def command(self, action: str, keys: list[str], *, yes: bool) -> list[dict[str, Any]]:
        connector = aiohttp.UnixConnector(path=str(self.folder / "data" / "control.sock"))
        said = {"action": action, "who": "torture", "keys": keys, "reason": "torture", "yes": yes}
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.post("http://gateway/control", json=said) as answer:
                return list((await answer.json())["result"])

    # --- what came of it

    def went(self) -> list[str]:
        """What reached the ERP, or went there again, though nobody said so."""
        refused = {one.message(1) for one in self.orders if one.refused and one.owner not in self.named["replay"]}
        found = [f"{key} was refused, and sent again" for key in refused if sum(one.key == key for one in self.erp.heard) > 1]
        decided = self.named["release"] | self.named["drop"]
        for one in self.orders:
            late = [key for n in range(2, one.offered + 1) if (key := one.message(n)) in self.erp.orders]
            found += [f"{key} was held, and left" for key in late if one.owner not in decided and not self._is_anothers(key, one)]
        return found

    def _is_anothers(self, key: str, mine: Named) -> bool:
        return any(key == one.message(n) for one in self.orders if one is not mine for n in range(1, one.offered + 1))

    def dropped(self) -> list[str]:
        """What was ended of orders that nobody named for that."""
        found = []
        with closing(sqlite3.connect(f"file:{self.folder / 'data' / 'gateway.db'}?mode=ro", uri=True)) as db:
            for queue in ("inbox", "outbox"):
                sql = f"SELECT {queue}.id, source, order_ref FROM {queue} JOIN orders ON orders.id = order_id WHERE outcome = 'dropped'"
                sql = sql.replace("source,", "orders.source,")
                found += [
                    f"{queue}:{row} of {owner} was ended, which nobody named"
                    for row, *owner in db.execute(sql)
                    if tuple(owner) not in self.named["drop"]
                ]
        return found

    def missing(self) -> list[str]:
        """Versions that were answered 2xx, of orders that nobody ended, and are not in the ERP."""
        there: dict[Owner, set[str]] = {}
        for told in map(msgspec.json.decode, self.erp.orders.values()):
            there.setdefault((told["source"], told["order"]["order_ref"]), set()).add(str(told["order"]["lines"][0]["quantity"]))
        return [
            f"version {n} of {one.owner}"
            for one in self.orders
            if one.owner not in self.named["drop"]
            for n in range(1, one.stored + 1)
            if str(n) not in there.get(one.owner, set())
        ]

    async def work_off(self) -> None:
        """Decide everything that waits for a person, row by row, until all is done."""
        end = time.monotonic() + _WITHIN_S
        while time.monotonic() < end:
            rows = (await open_rows(self.gateway.admin_port)).rows
            if not rows:
                return
            for action, status in (("release", "held"), ("replay", "dead")):
                if names := [row["row"] for row in rows if row["status"] == status]:
                    await self.command(action, names, yes=True)
            await asyncio.sleep(0.1)


def _is_row(name: str) -> bool:
    queue, _, number = name.partition(":")
    return queue in ("inbox", "outbox") and number.isdecimal()


async def collide(folder: Path, dice: Random, tally: Tally, *arguments: str, seconds: float = SECONDS) -> list[str]:
    """One round; what was wrong."""
    text = _TARGET + "".join(_SOURCE.replace("NAME", name) for name in _SOURCES)
    async with configured_gateway(folder, text, *arguments) as (gateway, erp):
        await gateway.start()
        town, end = Town(folder, gateway, erp, dice), time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            vendors = (town.vendor(session, end) for _ in range(3))
            await asyncio.gather(*vendors, *(town.person(end) for _ in range(2)))
        await asyncio.sleep(0.5)
        found = town.problems + town.went() + town.dropped()
        erp.disarm()
        await town.work_off()
        missing = town.missing()
        found += [f"{one} was answered 2xx, was ended by nobody, and is not in the ERP" for one in missing]
        found += [] if found else await count_stuck(tally, gateway.admin_port)
    tally.acknowledged += sum(one.stored for one in town.orders)
    tally.lost += len(missing)
    tally.faults["bare names"] += town.commands
    tally.noted = f"{len(town.orders)} orders, {town.commands} commands: {town.touched} rows touched, {town.refusals} refused or in vain"
    return found


class NameHarness(Rounds):
    name = "names"
    share = 0.3

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        return await collide(folder, dice, tally)
