"""Interface of a vendor's simulator for the demo and the tests: the vendor's side of the contract, on loopback.

A plugin registers its simulator's class under the entry point group `gateway.simulators`, by the connector's name. The
class is built without arguments. It follows the vendor's documents, refuses what the vendor would refuse, and knows what
it has sent, so that what arrived can be compared with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct

from gateway.api.messages import Door
from gateway.api.order import Status
from gateway.testing.toml import to_toml

GROUP = "gateway.simulators"


class Sent(Struct, frozen=True, kw_only=True):
    """Order as the vendor sees it.

    Attributes:
        door: The door that it should come through.
        answer: Its end as the vendor sees it: `taken`, `refused` (the gateway gave a reason) or `failed` (no answer, or a 5xx:
            a person at the vendor's customer would send it again).
        expected: The ERP's state in the end: one `order.placed`; nothing; or nothing until a person decides.
        total: As the vendor wrote it.
        status: Its last status, if the vendor reports changes; `lines` are then the last ones.
        note: The purpose of this order, in a few words.
    """

    order_ref: str
    order_number: str
    door: Door
    answer: Literal["taken", "refused", "failed"]
    expected: Literal["placed", "nothing", "held"]
    lines: int
    total: str | None
    status: Status | None = None
    note: str = ""


class Simulator(Protocol):
    """A vendor on loopback.

    Attributes:
        doors: Those that `place` can go through.
        acknowledged: The `order_ref` of everything that the vendor has been told to have arrived; None where nothing is told.
        acknowledging: Set to False, and what the gateway wants to tell is answered 503.
    """

    title: str
    doors: Sequence[Door]
    acknowledging: bool

    @property
    def acknowledged(self) -> Collection[str] | None: ...

    async def start(self) -> None:
        """Listen on a free port."""

    async def stop(self) -> None:
        """Close everything."""

    @property
    def address(self) -> str:
        """Address of its server, as `http://127.0.0.1:PORT`."""

    def source(self, secrets: Path) -> dict[str, Any]:
        """Return the `[sources.NAME]` table for this simulator, with every door open.

        Args:
            secrets: A folder to write secret files into; the table refers to them as `{ file = "..." }`.
        """

    async def place(self, gateway_url: str, source: str, door: Door | None = None) -> Sent:
        """Place another order as a customer does; a live demo calls this again and again, and the doors take turns.

        Args:
            door: The door to use.
            gateway_url: The vendors' side of the gateway, as `http://127.0.0.1:8080`.
            source: The gateway's name for this source.
        """

    async def script(self, gateway_url: str, source: str) -> Sequence[Sent]:
        """Place a fixed set of orders through every door: plain ones, and each special case of the vendor's documents."""


async def demonstrate(
    simulator: Simulator, settings: dict[str, Any], *, script: bool, every_s: float, gateway_url: str = "", source: str = ""
) -> None:
    """Print the settings of its source, the orders of the script if wanted, and then an order every `every_s` seconds."""
    print(to_toml(settings, "sources.NAME.settings"), end="", flush=True)
    if script:
        for sent in await simulator.script(gateway_url, source):
            print(f"{sent.order_number[:40]} by {sent.door}: {sent.answer}, {sent.status or sent.expected} ({sent.note})", flush=True)
    while True:
        sent = await simulator.place(gateway_url, source)
        print(f"{sent.order_number} by {sent.door}: {sent.answer}", flush=True)
        await asyncio.sleep(every_s)
