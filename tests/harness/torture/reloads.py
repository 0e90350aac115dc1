"""Reloads that are refused: files broken in every way we know, under load, by SIGHUP and by `gateway reload`, and kills meanwhile.

The old configuration stays in force, whole; `gateway reload` fails, `readyz` and `status` say that it was refused until a good file is
loaded; orders go on; and a gateway that is killed over a broken file does not start with it, and starts once it is mended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from gateway.testing import ErpSimulator
from tests.harness.torture.operating import Operator
from tests.harness.torture.protocol import Rounds, Tally
from tests.harness.torture.running import judge, running_gateway
from tests.journey.load import Load
from tests.journey.process import Process

_WITHIN_S = 20.0
_SHOWN_WITHIN_S = 15.0
TARGET = "retry = { base_s = 0.05, cap_s = 0.3 }\nbreaker = { failures = 100000, cooldown_s = 0.1 }"


def _more(text: str) -> Callable[[str], bytes]:
    return lambda good: f"{good}\n{text}\n".encode()


def _other(old: str, new: str) -> Callable[[str], bytes]:
    def changed(good: str) -> bytes:
        assert old in good
        return good.replace(old, new).encode()

    return changed


# A plugin that is gone takes its source down, and stops no start; an address that is free can be listened on by a new process.
STARTS = ("no connector", "another port")
# How a file is broken; None: there is a folder in its place, or nothing.
BROKEN: Mapping[str, Callable[[str], bytes | None]] = {
    "half a table": _more("[targets.erp"),
    "a key nobody knows": _more("typo = 1"),
    "a table nobody knows": _more("[nonsense]"),
    "a key twice": _more('secret = { file = "secret" }'),
    "no secret": _other('file = "secret"', 'file = "no-such-file"'),
    "an empty secret": _other('file = "secret"', 'file = "empty"'),
    "no connector": _other('connector = "acme"', 'connector = "nobody"'),
    "no URL": _other('url = "http', 'url = "ftp'),
    "a word for a number": _other("base_s = 0.05", 'base_s = "soon"'),
    "a number without end": _other("base_s = 0.05", "base_s = inf"),
    "another port": _other('listen = "127.0.0.1:', 'listen = "127.0.0.2:'),
    "renamed, and a typo": lambda good: good.replace("[targets.erp]", "[targets.other]").replace("base_s", "basis_s").encode(),
    "no UTF-8": lambda good: good.encode() + b"# \xff\xfe\n",
    "a NUL": lambda good: good.encode() + b"\x00\n",
    "cut off": lambda good: good.encode()[: good.index("[sources.acme.settings]") + 40],
    "deep": _more("x = " + "[" * 50_000),
    "empty": lambda good: b"",
    "gone": lambda good: None,
    "a folder": lambda good: None,
}


class House:
    """One gateway, its good file, and who breaks it."""

    def __init__(self, folder: Path, gateway: Process, erp: ErpSimulator, dice: Random) -> None:
        self.gateway = gateway
        self.erp = erp
        self.dice = dice
        self.load = Load(gateway, erp, dice)
        self.operator = Operator(folder, gateway)
        self.good = self.operator.file.read_text()
        self.kills = 0
        self.by_signal = 0
        (folder / "empty").write_text("\n")

    async def break_(self, kind: str) -> list[str]:
        """Break the file, ask for a reload, look, mend it, ask again; what was wrong."""
        self._spoil(kind)
        found = await (self._signalled() if self.dice.random() < 0.5 else self._asked())
        found += await self._goes_on()
        if not found and kind not in STARTS and self.dice.random() < 0.15:
            found += await self._killed()
        self._mend()
        status, said = await self.operator.command("reload")
        if status != 200:
            found.append(f"the good file was refused: {said}")
        elif not await self.operator.sees(lambda reasons: not _refused(reasons), _SHOWN_WITHIN_S):
            found.append("readyz still says that a reload was refused")
        return found

    def _spoil(self, kind: str) -> None:
        broken = BROKEN[kind](self.good)
        if broken is not None:
            self.operator.write(broken)
            return
        self.operator.file.unlink()
        if kind == "a folder":
            self.operator.file.mkdir()

    def _mend(self) -> None:
        if self.operator.file.is_dir():
            self.operator.file.rmdir()
        self.operator.write(self.good)

    async def _asked(self) -> list[str]:
        status, said = await self.operator.command("reload")
        found = [] if status != 200 and said else [f"the reload was answered {status}: {said}"]
        return found + await self._shown()

    async def _signalled(self) -> list[str]:
        self.by_signal += 1
        for _ in range(self.dice.choice((1, 1, 3))):
            os.kill(self.gateway.pid, signal.SIGHUP)
        return await self._shown()

    async def _shown(self) -> list[str]:
        """Whether people see it."""
        if not self.gateway.lives():
            return ["the gateway ended"]
        if not await self.operator.sees(_refused, _SHOWN_WITHIN_S):
            return ["readyz does not say that a reload was refused"]
        return [] if _refused((await self.operator.look("/api/status"))["reasons"]) else ["status does not say that a reload was refused"]

    async def _goes_on(self) -> list[str]:
        """Whether the old configuration is in force: the same names, and orders that come are delivered."""
        if not self.gateway.lives():
            return []
        status = await self.operator.look("/api/status")
        found = [] if (list(status["sources"]), list(status["targets"])) == (["acme"], ["erp"]) else ["another configuration is in force"]
        before, end = len(self.erp.orders), time.monotonic() + _WITHIN_S
        while len(self.erp.orders) < before + 3:
            if time.monotonic() > end:
                return [*found, f"no order gets to the ERP: {len(self.erp.orders) - before} in {_WITHIN_S:g} s"]
            await asyncio.sleep(0.02)
        return found

    async def _killed(self) -> list[str]:
        """It cannot start with a broken file, and says so."""
        await self.gateway.kill()
        self.kills += 1
        await self.gateway.spawn()
        try:
            await self.gateway.gone()
            code = await self.gateway.exit_code()
        except TimeoutError:
            code = None
            await self.gateway.kill()
        self._mend()
        await self.gateway.start()
        return [] if code == 2 else [f"started with the broken file, it ended with {code}"]


def _refused(reasons: Sequence[Mapping[str, Any]]) -> bool:
    return any("configuration" in reason and str(reason.get("reason", "")).strip() for reason in reasons)


async def refuse(folder: Path, dice: Random, kinds: Sequence[str], tally: Tally, *arguments: str) -> list[str]:
    """These kinds, one after the other; what was wrong."""
    found = list[str]()
    async with running_gateway(folder, *arguments, target=TARGET, source='on_revision = "send"') as (gateway, erp):
        house = House(folder, gateway, erp, dice)
        async with house.load.sending():
            for kind in kinds:
                found += [f"{kind}: {problem}" for problem in await _within(house, kind)]
                tally.faults[kind] += 1
                if found:
                    break
        found = await judge(house.load, tally, gateway, found)
    tally.kills += house.kills
    tally.noted = f"{house.by_signal} of {tally.faults.total()} by SIGHUP"
    return found


async def _within(house: House, kind: str) -> list[str]:
    try:
        return await house.break_(kind)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return [f"{'' if house.gateway.lives() else 'the gateway ended; '}{type(error).__name__}: {error}"]


class ReloadHarness(Rounds):
    name = "reloads"
    share = 0.3

    async def round(self, dice: Random, tally: Tally, folder: Path) -> list[str]:
        return await refuse(folder, dice, dice.sample(list(BROKEN), len(BROKEN)), tally)
