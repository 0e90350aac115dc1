"""Rows that stand still without a reason: in words alone, and in gateways that are broken so."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from gateway.testing import ErpSimulator
from tests.harness.torture import __main__ as torture
from tests.harness.torture.protocol import Tally
from tests.harness.torture.running import running_gateway
from tests.harness.torture.stuck import count_stuck, open_rows, why_silent
from tests.journey.load import Load
from tests.journey.process import Process
from tests.seed import SEED

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
OPEN = {"outbox:1", "outbox:2", "inbox:7"}
TARGET = "read_timeout_s = 60\nretry = { base_s = 3, cap_s = 60 }"

SAID = [
    ("leased", None, "is being worked on since 2026-12-01T11:00:00Z", True),
    ("ready", None, "due since 2026-12-01T11:00:00Z: waits for its turn", True),
    ("ready", None, "it has no due time and waits behind nothing: this is a fault in the gateway, please report it", True),
    ("ready", None, "", True),
    ("ready", None, "next try at 2026-12-01T12:00:30Z after 1 try: 503", False),
    ("ready", None, "next try at 2026-12-01T11:59:30Z after 1 try: 503", True),
    ("ready", None, "target erp is down until 2026-12-01T12:05:00Z: refused", False),
    ("ready", None, "target erp is down until 2026-12-01T11:05:00Z: refused", True),
    ("ready", None, "target erp is paused by jo", False),
    ("ready", None, "target erp is not configured: configure it again, or drop its rows", False),
    ("ready", None, "waits behind outbox:2 (acme/o/1), which is dead: the ERP refuses it; a person decides: gateway replay", False),
    ("ready", None, "waits behind outbox:3 (acme/o/1), which is dead: the ERP refuses it; a person decides: gateway replay", True),
    ("ready", None, "waits behind outbox:2 (acme/o/1), which is leased: is being worked on since 2026-12-01T11:00:00Z", True),
    ("unknown", None, "it may have been taken; next look-up at 2026-12-01T12:00:09Z", False),
    ("unknown", None, "it may have been taken; next look-up at 2026-12-01T11:00:09Z", True),
    ("held", "another content", "another content; a person decides: gateway release or drop inbox:7", False),
    ("held", None, "waits for the decision on inbox:7; it goes with it", False),
    ("held", None, "waits for the decision on inbox:8; it goes with it", True),
    ("dead", None, "refused; a person decides: gateway replay or drop outbox:1", True),
]


@pytest.mark.parametrize(("status", "reason", "waits", "is_silent"), SAID)
def test_a_reason_names_a_cause_and_a_time_to_come_or_a_row_that_is_open(
    status: str, reason: str | None, waits: str, is_silent: bool
) -> None:
    row = {"row": "outbox:1", "status": status, "reason": reason, "waits": waits}
    assert (why_silent(row, OPEN, NOW) is not None) is is_silent


Deed = Callable[[Process, ErpSimulator, Load, aiohttp.ClientSession], Awaitable[None]]


async def _refused(gateway: Process, erp: ErpSimulator, load: Load, session: aiohttp.ClientSession) -> None:
    """A dead letter, and a version behind it."""
    erp.arm("status", status=422, times=1)
    await load.send(session, "o1", 1)
    await _until(gateway, "dead")
    await load.send(session, "o1", 2)


async def _killed(gateway: Process, erp: ErpSimulator, load: Load, session: aiohttp.ClientSession) -> None:
    """A message on its way when the process ends, to an ERP that is still down."""
    erp.arm("slow", delay_s=60, times=1)
    await load.send(session, "o1", 1)
    await _until(gateway, "leased")
    await gateway.kill(signal.SIGKILL)
    erp.arm("status", times=10**9)
    await gateway.start()


async def _behind(gateway: Process, erp: ErpSimulator, load: Load, session: aiohttp.ClientSession) -> None:
    """A version behind one that takes its time."""
    erp.arm("slow", delay_s=2, times=1)
    await load.send(session, "o1", 1)
    await _until(gateway, "leased")
    await load.send(session, "o1", 2)
    await erp.wait_for(1)


async def _until(gateway: Process, status: str) -> None:
    async with asyncio.timeout(20):
        while not any(row["status"] == status and row["queue"] == "outbox" for row in (await open_rows(gateway.admin_port)).rows):
            await asyncio.sleep(0.02)


async def stuck_after(deed: Deed, folder: Path, *arguments: str) -> tuple[Tally, list[str]]:
    """What is stuck a second and a half after it."""
    tally = Tally(name="stuck")
    async with running_gateway(folder, *arguments, target=TARGET, source='on_revision = "send"') as (gateway, erp):
        async with aiohttp.ClientSession() as session:
            await deed(gateway, erp, Load(gateway, erp, Random(SEED)), session)
        await asyncio.sleep(0.5)
        assert (await open_rows(gateway.admin_port)).rows, "something waits"
        return tally, await count_stuck(tally, gateway.admin_port, after_s=1.5)


@pytest.mark.parametrize("deed", [_refused, _killed])
async def test_what_waits_says_why(deed: Deed, tmp_path: Path) -> None:
    tally, found = await stuck_after(deed, tmp_path)
    assert found == []
    assert tally.stuck == 0


@pytest.mark.parametrize(
    ("mutant", "deed", "says"),
    [
        ("leases_kept", _killed, "is being worked on since"),
        ("reasons_swallowed", _refused, "nobody knows why"),
        ("lanes_forgotten", _behind, "is a fault in the gateway"),
    ],
)
async def test_known_bad_mutants_are_caught(mutant: str, deed: Deed, says: str, tmp_path: Path) -> None:
    tally, found = await stuck_after(deed, tmp_path, "--mutant", mutant)
    assert says in " ".join(found)
    assert tally.stuck == len(found) > 0


class Sticks:
    """A harness that finds a row which stands still."""

    name = "sticks"
    share = 1.0

    def needs(self) -> str | None:
        return None

    async def run(self, dice: Random, until: float, tally: Tally, folder: Path) -> None:
        tally.rounds, tally.stuck = 1, 1


def test_a_row_that_is_stuck_fails_the_run_and_has_a_column(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torture, "HARNESSES", {"sticks": Sticks})
    file = tmp_path / "torture.json"
    assert torture.main(["--seed", "7", "--budget", "1", "--json", str(file)]) == 1
    head, row, *_ = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert dict(zip(head.split(), row.split()[1:], strict=True))["stuck"] == "1"
    stuck: Any = json.loads(file.read_bytes())["harnesses"][0]["stuck"]
    assert stuck == 1
