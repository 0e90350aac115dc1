"""One store on a disk whose power is cut, the senders and the ERP around it, and what they know afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.api.errors import StoreError
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.testing import ManualClock
from tests.store import conformance as suite

from .disk import NEVER, Disk, connect_to

DONE = Settlement(status="done", outcome="delivered")
_CUT_AFTER = (5, 400)


class World:
    """What the senders and the ERP know, whatever becomes of the gateway. Everything is decided by the seed.

    Attributes:
        cuts: How often the power goes; a later cut can come while the store recovers from the one before.
        acknowledged: What the store said it has.
        taken: The bodies of each key that left.
        lost: What was acknowledged and is gone.
        problems: What must not be.
    """

    def __init__(self, seed: int, path: Path) -> None:
        self.seed = seed
        self.path = path
        self.clock = ManualClock()
        self.disk = Disk(seed, cut_after=_CUT_AFTER)
        self.cuts = self.disk.random.choice((1, 1, 2, 3))
        self.acknowledged: set[str] = set()
        self.taken: dict[str, set[bytes]] = {}
        self.repeats = 0
        self.lost: set[str] = set()
        self.problems: list[str] = []
        self._number = 0

    async def run(self) -> None:
        """Lives that end in a cut each, and what comes after them."""
        for cut in range(1, self.cuts + 1):
            if self.disk.random.random() < 0.3:
                self.disk.break_syncs()
            failed = self.disk.failed_syncs
            await self._live()
            while not self.disk.is_off and self.disk.failed_syncs > failed:  # started again, by systemd, on the same kernel
                failed = self.disk.failed_syncs
                await self._live()
            if not self.disk.is_off:
                self._wrong("the store failed with the power on")
                return
            self.disk.sync_fails_in = NEVER
            self.disk.power_on(left=NEVER if cut == self.cuts else self.disk.random.randrange(*_CUT_AFTER))
        try:
            await self._look()
        except StoreError as error:
            self._wrong(f"the store does not come back: {error}")

    async def open(self) -> SqliteStore:
        store = SqliteStore(self.path, clock=self.clock, connect=connect_to(self.disk), on_disk=False)
        await store.open()
        return store

    async def _live(self) -> None:
        """Orders come in, four at a time, are prepared and delivered; until the power goes."""
        store: SqliteStore | None = None
        try:
            store = await self.open()
            await store.register(["acme"])
            while True:
                self._number += 1
                await asyncio.gather(*(self._accept(store, f"o{self._number}-{n}") for n in range(4)))
                await self._forward(store)
                if self.disk.random.random() < 0.1:
                    await store.checkpoint()
        except StoreError:
            pass
        if store is not None:
            await store.close()

    async def _accept(self, store: SqliteStore, ref: str) -> None:
        await suite.accept(store, suite.incoming(ref, acknowledge="stored"))
        self.acknowledged.add(ref)

    async def _forward(self, store: SqliteStore) -> bool:
        """Prepare and deliver what is due; whether there was anything."""
        arrived = await store.lease_inbox("acme", 10)
        await store.prepared([suite.message(row, "erp") for row in arrived])
        leaving = await store.lease_outbox("erp", 10)
        for row in leaving:
            self.repeats += row.key in self.taken
            self.taken.setdefault(row.key, set()).add(row.body or b"")
            await store.settle_outbox(row, DONE)
        return bool(arrived or leaving)

    async def _look(self) -> None:
        """Everything that is left leaves; then what is missing, doubled or damaged is a problem."""
        store = await self.open()
        await store.register(["acme"])
        for ref in sorted(self.acknowledged):  # their senders know nothing of the cut, and may send again
            ((_, outcome),) = await suite.accept(store, suite.incoming(ref))
            if outcome != "repeat":
                self.lost.add(ref)
        for _ in range(2):  # what two processes have ended over waits a while
            while await self._forward(store):
                pass
            self.clock.advance(3600)
        check = await store._run(lambda db: db.execute("PRAGMA integrity_check").fetchall())
        await store.close()
        if [tuple(row) for row in check] != [("ok",)]:
            self._wrong(f"the file is damaged: {check}")
        if self.lost:
            self._wrong(f"was acknowledged and is gone: {sorted(self.lost)}")
        missing = {ref for ref in self.acknowledged if f"acme/{ref}/1" not in self.taken}
        if missing:
            self._wrong(f"never forwarded: {sorted(missing)}")
        self.lost |= missing
        if any(len(bodies) > 1 for bodies in self.taken.values()):
            self._wrong("one key, two messages")
        if self.doubled():
            self._wrong(f"one order under two keys: {self.doubled()}")

    def doubled(self) -> list[str]:
        """Each order was sent in one version, so every further message is one too many."""
        return [key for key in self.taken if not key.endswith("/1")]

    def _wrong(self, what: str) -> None:
        self.problems.append(f"seed {self.seed}: {what}")
