"""A machine that loses its power: the unit as it is, under systemd in a container, with its data on a disk with a write cache."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from msgspec import Struct

from gateway.testing import ErpSimulator
from tests.harness.service import nspawn
from tests.harness.service.installed import HOME, ROOT, UNIT, binds, can_do_what_the_unit_asks_for, install
from tests.harness.torture.disks import Volatile, missing
from tests.harness.torture.protocol import Tally, Unavailable, is_over
from tests.harness.torture.stuck import count_stuck
from tests.journey.load import Load
from tests.journey.process import SECRET, until_it_stores
from tests.ports import free_ports

DATA = "/var/lib/private/order-gateway"
CUTS_A_ROUND = 3
CONFIG = """
[http]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin_port}"
[store]
reserve_bytes = 1048576
[targets.erp]
url = "{erp_url}"
concurrency = 16
retry = {{ base_s = 0.05, cap_s = 0.5 }}
[sources.acme]
connector = "acme"
doors = ["webhook"]
on_revision = "send"
settings = {{ secret = {{ credential = "acme-webhook" }} }}
"""


class Address(Struct):
    """Where the machine's gateway is, on this machine's loopback."""

    port: int
    admin_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Machine:
    """The container and its disk. `mutant`: one of the driver's, put into the gateway that is installed."""

    def __init__(self, folder: Path, address: Address, erp_url: str, mutant: str) -> None:
        folder.mkdir(parents=True)
        self.disk = Volatile(folder / "disks")
        bound = {**binds(), ROOT / "tests": f"{HOME}/lib/tests"} if mutant else binds()
        self.container = nspawn.Container(folder, bound, writable={self.disk.path: DATA}, own_network=False)
        config = CONFIG.format(port=address.port, admin_port=address.admin_port, erp_url=erp_url)
        install(self.container.tree, config, {"acme-webhook": SECRET})
        if mutant:
            program = self.container.tree / HOME.lstrip("/") / "bin/gateway"
            changed = f"from tests.journey.driver import MUTANTS; MUTANTS['{mutant}'](); from gateway.cli.main import main"
            program.write_text(program.read_text().replace("from gateway.cli.main import main", changed))

    def power_on(self) -> None:
        """Boot, and ask for the unit."""
        self.disk.plug_in()
        self.container.boot()
        self.container.run("systemctl", "start", "--no-block", UNIT.name)

    def cut(self, seed: float) -> None:
        """The disk goes, and with it everything that runs."""
        self.disk.break_(f"cut {seed}")
        self.container.crash()
        self.disk.unplug()

    def close(self) -> None:
        self.container.close()
        self.disk.unplug()


@contextmanager
def machine(folder: Path, address: Address, erp_url: str, mutant: str = "") -> Iterator[Machine]:
    """A machine that is off. Raises Unavailable, and what nspawn raises for the same."""
    made = Machine(folder, address, erp_url, mutant)
    try:
        yield made
    finally:
        made.close()


class MachineHarness:
    name = "machine"
    share = 1.5

    def needs(self) -> str | None:
        found = missing("nbdkit", "nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "mount") or nspawn.unavailable()
        if found:
            return found
        try:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder).chmod(0o755)
                with machine(Path(folder) / "probe", Address(*free_ports(2)), "http://127.0.0.1:9/") as probe:
                    probe.disk.plug_in()
                    probe.container.boot()
                    can_do_what_the_unit_asks_for(probe.container)
        except (Unavailable, nspawn.Unavailable) as error:
            return f"not allowed here: {error}"
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        while not is_over(until, tally):
            await lose_power(dice, until, tally, folder / str(tally.rounds))


async def lose_power(
    dice: Random, until: float, tally: Tally, folder: Path, *, cuts: int = CUTS_A_ROUND, mutant: str = "", patience_s: float = 20
) -> None:
    """One machine that loses its power a few times, and then works off what it has within `patience_s`."""
    erp = ErpSimulator()
    await erp.start()
    address = Address(*free_ports(2))
    load = Load(address, erp, dice)
    try:
        with machine(folder, address, erp.url, mutant) as made:
            for cut in range(cuts + 1):
                began = time.monotonic()
                await asyncio.to_thread(made.power_on)
                try:
                    await until_it_stores(address.admin_port)
                except TimeoutError:
                    tally.problems.append(f"after cut {cut} it is not ready within a minute")
                    return
                if cut:
                    tally.recovered(time.monotonic() - began)
                if cut == cuts or (cut and time.monotonic() > until):
                    break
                async with load.sending(abandon=True):
                    await asyncio.sleep(dice.uniform(0.1, 1))
                    await asyncio.to_thread(made.cut, dice.random())
                    tally.cuts += 1
            async with load.sending():
                await asyncio.sleep(0.2)
            await load.settled(patience_s)
            tally.problems += [f"round {tally.rounds}: {one}" for one in await count_stuck(tally, address.admin_port)]
    finally:
        await erp.stop()
    tally.add(load, f"round {tally.rounds}")
