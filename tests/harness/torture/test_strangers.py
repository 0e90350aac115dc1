"""Strangers in short: few of each kind, and for each limit a mutant without it, which must be found."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.harness.torture.protocol import Tally
from tests.harness.torture.running import running_gateway
from tests.harness.torture.strangers import _LARGE, Flood, connect, cpu_s, flooded
from tests.seed import SEED

FEW = {"max_connections": 40, "max_connections_per_address": 10}
SHORT = Flood(seconds=3, forged_a_second=300, idle=40, unread=10, unfinished=12, large=1, http=FEW, write_timeout_s=1.5, limit_s=5)
MUTANTS = {
    # the mutant, what shows it, and the words of the problem
    "pace_before_proof": (Flood(seconds=2, forged_a_second=400, http=FEW, limit_s=5), "genuine orders were answered"),
    "no_part": (Flood(seconds=2, idle=60, http=FEW, limit_s=5), "genuine orders were answered"),
    "no_write_timeout": (Flood(seconds=8, unread=3, http=FEW, write_timeout_s=1.0, limit_s=5), "that read nothing are still open"),
    "no_bound": (Flood(seconds=3, unfinished=200, http={"max_connections_per_address": 250}, limit_s=5), "the memory grew by"),
    "a_line_each": (Flood(seconds=2, forged_a_second=200, http=FEW, limit_s=5), "lines were written of strangers"),
}


async def test_strangers_are_bounded_and_a_vendor_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(name="strangers")
    found = await flooded(tmp_path, Random(SEED), tally, SHORT, least=0.95)
    with capsys.disabled():
        print(f"\n  strangers: seed {SEED}, {dict(tally.faults)}; {tally.noted}")
    assert found == [], f"TEST_SEED={SEED}"
    assert set(tally.faults) == {"forged", "idle", "unread", "unfinished", "large"}


async def test_what_comes_through_a_proxy_that_names_nobody_is_served_too(tmp_path: Path) -> None:
    flood = Flood(seconds=2, forged_a_second=400, forged_from="127.0.0.1", http=FEW, limit_s=5)
    assert await flooded(tmp_path, Random(SEED), Tally(name="strangers"), flood, least=0.95) == [], f"TEST_SEED={SEED}"


SHORTEST = ("pace_before_proof", "a_line_each")


@pytest.mark.parametrize("mutant", [one if one in SHORTEST else pytest.param(one, marks=pytest.mark.long) for one in MUTANTS])
async def test_known_bad_mutants_are_caught(tmp_path: Path, mutant: str) -> None:
    flood, words = MUTANTS[mutant]
    found = await flooded(tmp_path, Random(SEED), Tally(name="mutant"), flood, "--mutant", mutant, patience_s=0)
    assert words in " ".join(found), f"TEST_SEED={SEED}"


async def costs(folder: Path, *arguments: str) -> float:
    """How much more of the processor a large body costs with a signature that is none than with none at all."""
    async with running_gateway(folder, *arguments) as (gateway, _):
        used = []
        for header in ("", f"X-Acme-Signature: {'0' * 64}\r\n"):
            before = cpu_s(gateway.pid)
            for _ in range(20):
                sock = await connect(gateway.port, "127.0.0.1")
                head = f"POST /in/acme HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {len(_LARGE)}\r\n\r\n"
                await asyncio.get_running_loop().sock_sendall(sock, head.encode() + _LARGE)
                assert b" 401 " in await asyncio.get_running_loop().sock_recv(sock, 100)
                sock.close()
            used.append(cpu_s(gateway.pid) - before)
    return used[1] / max(0.02, used[0])


async def test_nothing_of_a_body_is_parsed_before_its_proof(tmp_path: Path) -> None:
    assert await costs(tmp_path) < 5


async def test_known_bad_mutant_that_parses_first_is_caught(tmp_path: Path) -> None:
    assert await costs(tmp_path, "--mutant", "parse_before_proof") > 5
